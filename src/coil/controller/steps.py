"""Named points between two effects, where a kill leaves something behind (docs/design.md).

As ``coil.daemon.steps``: the crash tests pass a hook that kills the process.
"""

from __future__ import annotations

from collections.abc import Callable

StepHook = Callable[[str], None]

NODE_JUDGED = "node-judged"
BLOCK_TAKEN = "block-taken"
BLOCKS_TAKEN = "blocks-taken"
NAME_TAKEN = "name-taken"

ALL = (NODE_JUDGED, BLOCK_TAKEN, BLOCKS_TAKEN, NAME_TAKEN)


def no_step(_name: str) -> None:
    """The hook of production: nothing."""
