"""coild that kills itself: ``python killer.py STEP:COUNT[:PID] OPTIONS...``.

The real daemon, composed with a hook that sends SIGKILL when the step is reached the COUNT-th time;
with PID it lives, and that process (its store, say) is stopped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from coil.daemon import main as coild
from coil.lab.suspend import suspend
from coil.process import logging


def main() -> None:
    name, count, *other = sys.argv[1].split(":")
    left = int(count)

    def step(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left == 0 and other:
                suspend(int(other[0]))
            elif left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    options = dict(coild.main.make_context("coild", sys.argv[2:]).params)
    for unused in ("config", "print_config"):
        options.pop(unused)
    logging.configure(level="info", fmt="json")
    asyncio.run(coild.serve(coild.read_settings(**options), step))


if __name__ == "__main__":
    main()
