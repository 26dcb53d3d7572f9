"""All that a store holds at one moment: what the controller and the operator judge by."""

from __future__ import annotations

from dataclasses import dataclass

from coil.domain.block import BlockClaim
from coil.domain.node import NodeStatus
from coil.domain.pool import Pool


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something in the store that coil did not write. Nobody but an operator removes it."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class Survey:
    """See module. Of a moment: what is missing in it was missing then."""

    pools: tuple[Pool, ...] = ()
    nodes: tuple[NodeStatus, ...] = ()
    claims: tuple[BlockClaim, ...] = ()
    hidden: tuple[BlockClaim, ...] = ()
    """Claims in force that their owner does not find (``claims`` has them, too)."""
    stale: tuple[BlockClaim, ...] = ()
    """Claims that their owner is shown and that are not in force."""
    unreadable: tuple[Unreadable, ...] = ()
