"""coild that kills itself: ``python killer.py STEP:COUNT OPTIONS...``.

The real daemon, composed with a hook that sends SIGKILL when the step is reached the COUNT-th time.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from coil.daemon import main as coild
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

    options = dict(coild.main.make_context("coild", sys.argv[2:]).params)
    for unused in ("config", "print_config"):
        options.pop(unused)
    logging.configure(level="info", fmt="json")
    asyncio.run(coild.serve(coild.read_settings(options), step))


if __name__ == "__main__":
    main()
