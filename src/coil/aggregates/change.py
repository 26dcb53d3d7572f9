"""From what a ToR announces to what it may announce, so that nothing is lost on the way. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from coil.domain.pool import Network


@dataclass(frozen=True, slots=True)
class Announcement:
    """What BIRD is told."""

    announced: frozenset[Network]
    covering: frozenset[Network]
    """Blocks in these are announced by the aggregate only."""


def admit(
    usable: Collection[Network], announced: Collection[Network], settled: Collection[Network]
) -> frozenset[Network]:
    """The aggregates to announce now, of those that are ``usable``.

    A new one waits until it is ``settled``: a node that comes and goes would else turn a rack's
    prefix on and off at the spines. One inside what is announced replaces it at once: there is a
    block to be let out of it. While a new one waits, what is announced of it stays.
    """
    found: set[Network] = set()
    for prefix in usable:
        if prefix in settled or any(_covers(old, prefix) for old in announced):
            found.add(prefix)
        else:
            found.update(old for old in announced if _covers(prefix, old))
    return frozenset(found)


def between(old: Collection[Network], new: Collection[Network]) -> Announcement:
    """Both at once, and every block that either does not cover.

    Announced for a moment before ``new`` alone: a spine never is without a route meanwhile.
    """
    both = {n for n in old if any(_covers(m, n) for m in new)}
    both |= {n for n in new if any(_covers(m, n) for m in old)}
    return Announcement(frozenset(old) | frozenset(new), frozenset(both))


def alone(new: Collection[Network]) -> Announcement:
    """``new`` and nothing else: the blocks in it are told by it only."""
    return Announcement(frozenset(new), frozenset(new))


def _covers(outer: Network, inner: Network) -> bool:
    return (
        outer.version == inner.version
        and outer.prefixlen <= inner.prefixlen
        and inner.network_address in outer
    )
