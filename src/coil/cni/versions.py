"""Versions of the CNI specification that coil speaks."""

from __future__ import annotations

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST = SUPPORTED[-1]
ABSENT = "0.2.0"
"""What a netconf without cniVersion means, by the specification's own rule."""

_SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}


def has_verb(version: str, command: str) -> bool:
    """Whether ``command`` exists in a supported ``version``."""
    return is_at_least(version, _SINCE.get(command, SUPPORTED[0]))


def is_at_least(version: str, other: str) -> bool:
    """Compare two supported versions."""
    return SUPPORTED.index(version) >= SUPPORTED.index(other)
