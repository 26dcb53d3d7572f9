"""coil-controller that kills itself: ``python killer.py STEP:COUNT OPTIONS...``.

The real program, composed with a hook that sends SIGKILL at a step when it is reached the COUNT-th
time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from coil.controller import main as controller
from coil.controller.settings import Settings
from coil.process import logging


def main() -> None:
    name, _, count = sys.argv[1].partition(":")
    left = int(count)

    def step(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    options = dict(controller.main.make_context("coil-controller", sys.argv[2:]).params)
    for unused in ("config", "print_config"):
        options.pop(unused)
    logging.configure(level="info", fmt="json")
    asyncio.run(controller.serve(Settings(**options), step))


if __name__ == "__main__":
    main()
