"""When a node that is not heard of may be taken for gone. Pure: time and evidence are given.

A node is gone when it gave no sign of life for longer than a grace, when nothing speaks for it, and
when something that can tell speaks against it. Where many are gone at once it is the observer, or
what lies between, that is taken to be ill.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address

from coil.domain.names import NodeName
from coil.domain.node import NodeRecord, NodeStatus
from coil.domain.pool import Pool

Address = IPv4Address | IPv6Address


class Word(Enum):
    """What a witness says of a node."""

    FOR = "it lives"
    AGAINST = "it does not"
    NOTHING = "cannot tell"


class Silence:
    """For how long each node has given no sign of life, as one observer saw without a break."""

    def __init__(self, longest_gap: float) -> None:
        """``longest_gap``: seconds between two looks above which it was no watching any more."""
        self._longest_gap = longest_gap
        self._last_look: float | None = None
        self._since: dict[NodeRecord, float] = {}

    def look(self, now: float, nodes: Iterable[NodeStatus]) -> None:
        """Take in what the store says now. A record written anew is a sign of life, too."""
        if self._last_look is None or now - self._last_look > self._longest_gap:
            self._since.clear()
        self._last_look = now
        silent = [found.record for found in nodes if not found.alive]
        self._since = {record: self._since.get(record, now) for record in silent}

    def longer_than(self, seconds: float, now: float) -> list[NodeRecord]:
        """Nodes silent for more than so long."""
        return [record for record, since in self._since.items() if now - since > seconds]


def find_grace_fault(grace: float, pools: Iterable[Pool]) -> str | None:
    """Why nothing may be taken back after this grace, None when it may.

    The next owner gives a block's addresses at once, so all of them must have cooled by then.
    """
    longest = max(pools, key=lambda pool: pool.cool_down, default=None)
    if longest is None or longest.cool_down < grace:
        return None
    return (
        f"grace of {grace:g} s is not longer than the cool-down of pool {longest.name} "
        f"({longest.cool_down} s): nothing is taken back from nodes that are gone; give "
        f"coil-controller a --grace of more than {longest.cool_down}"
    )


def own_addresses(records: Iterable[NodeRecord]) -> dict[NodeName, tuple[Address, ...]]:
    """The addresses by which a node alone can be meant.

    What several nodes have (a bridge's, a service's on loopback) is answered by anybody.
    """
    known = list(records)
    holders = Counter(address for record in known for address in set(record.addresses))
    return {
        record.name: tuple(address for address in record.addresses if holders[address] == 1)
        for record in known
    }


def words_of_answers(
    suspects: Collection[NodeName],
    controls: Collection[NodeName],
    addresses: Mapping[NodeName, Sequence[Address]],
    answered: Collection[Address],
) -> dict[NodeName, Word]:
    """What it means who answered, when the addresses of suspects and controls were all asked.

    ``controls`` are known to live. Where most of them keep silent in an address family, it is
    the asker who is not heard there, and silence says nothing.
    """
    asked = {4: 0, 6: 0}
    heard = {4: 0, 6: 0}
    for name in controls:
        for version in asked:
            own = [address for address in addresses[name] if address.version == version]
            asked[version] += bool(own)
            heard[version] += any(address in answered for address in own)
    telling = {version for version in asked if 2 * heard[version] > asked[version]}
    words: dict[NodeName, Word] = {}
    for name in suspects:
        if any(address in answered for address in addresses[name]):
            words[name] = Word.FOR
        elif any(address.version in telling for address in addresses[name]):
            words[name] = Word.AGAINST
        else:
            words[name] = Word.NOTHING
    return words


@dataclass(frozen=True, slots=True)
class Judgement:
    """Which nodes are gone, and why others that were silent for long are not taken for it."""

    gone: tuple[NodeRecord, ...]
    kept: Mapping[str, str]
    """The reason, by the node's name."""


def judge(
    nodes: Sequence[NodeStatus],
    overdue: Collection[NodeRecord],
    words: Mapping[NodeName, Collection[Word]],
    *,
    most: float,
) -> Judgement:
    """Judge all nodes. ``overdue`` are silent for longer than the grace.

    ``words`` has what the witnesses say of each node that is silent. ``most``: the share of all
    nodes (0 to 1) that may be missing at once; one may be in any case.
    """
    missing = [
        found.record
        for found in nodes
        if not found.alive and Word.FOR not in words.get(found.record.name, ())
    ]
    lost_racks = _lost_racks(nodes, missing)
    gone: list[NodeRecord] = []
    kept: dict[str, str] = {}
    for record in sorted(overdue, key=lambda each: each.name):
        said = words.get(record.name, ())
        if Word.FOR in said:
            kept[record.name] = (
                "gives no sign of life in the store, but answers on its addresses: is its coild "
                f"down, or cut off from the store? Its blocks stay its own; {_release(record)}"
            )
        elif Word.AGAINST not in said:
            kept[record.name] = (
                "gives no sign of life, and nothing can tell whether it is off or we are cut off: "
                f"no other node answers us; {_release(record)}"
            )
        elif len(missing) > max(1, most * len(nodes)):
            kept[record.name] = (
                f"is one of {len(missing)} of {len(nodes)} nodes that are missing at once: taken "
                f"for an outage between us; {_release(record)}"
            )
        elif record.rack in lost_racks:
            kept[record.name] = (
                f"is missing with all of rack {record.rack}: taken for an outage of the rack; "
                f"{_release(record)}"
            )
        else:
            gone.append(record)
    return Judgement(tuple(gone), kept)


def _lost_racks(nodes: Sequence[NodeStatus], missing: Sequence[NodeRecord]) -> set[str]:
    """Racks of which not one node is there, where there are others.

    Also a rack of one: a node behind a ToR that has lost its uplinks hears the ToR still and cannot
    know, so it would announce its blocks beside their next owners at the moment it is back.
    """
    size = Counter(found.record.rack for found in nodes if found.record.rack)
    lost = Counter(record.rack for record in missing)
    return {rack for rack, count in size.items() if len(size) > 1 and lost[rack] == count}


def _release(record: NodeRecord) -> str:
    return f"if the machine is off for good: coilctl node release {record.name}"
