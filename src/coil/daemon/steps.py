"""Named points between two effects, where a kill leaves something behind (docs/design.md).

coild calls its step hook at each. It does nothing unless whoever composes the daemon passes one;
the crash tests pass one that kills the process.
"""

from __future__ import annotations

from collections.abc import Callable

StepHook = Callable[[str], None]

ADD_JOURNALED = "add-journaled"
ADD_LINKED = "add-linked"
ADD_ROUTED = "add-routed"
ADD_DONE = "add-done"
DEL_STARTED = "del-started"
DEL_UNLINKED = "del-unlinked"
DEL_DONE = "del-done"
CLAIM_CONFIRMED = "claim-confirmed"
CLAIM_JOURNALED = "claim-journaled"
CLAIM_EXPORTED = "claim-exported"
RELEASE_MARKED = "release-marked"
RELEASE_WITHDRAWN = "release-withdrawn"
RELEASE_DONE = "release-done"

ALL = (
    ADD_JOURNALED,
    ADD_LINKED,
    ADD_ROUTED,
    ADD_DONE,
    DEL_STARTED,
    DEL_UNLINKED,
    DEL_DONE,
    CLAIM_CONFIRMED,
    CLAIM_JOURNALED,
    CLAIM_EXPORTED,
    RELEASE_MARKED,
    RELEASE_WITHDRAWN,
    RELEASE_DONE,
)


def no_step(_name: str) -> None:
    """The hook of production: nothing."""
