"""Compares what the store says with itself and with what nodes say. Pure; changes nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

from coil.domain.block import BlockClaim, BlockId
from coil.domain.errors import InvalidPool
from coil.domain.names import NodeName, PoolName
from coil.domain.node import NodeRecord
from coil.domain.pool import Pool
from coil.domain.survey import Survey


class FindingKind(Enum):
    """What can be wrong. The values are names of problems, for logs and metrics."""

    CONFLICT = "conflict"
    """A node holds a block for its own that the store gives to another one, or to nobody."""
    LEAK = "leak"
    """A node owns a block and does not know it."""
    ORPHAN = "orphan"
    """Blocks of a node that has no record."""
    HIDDEN = "hidden"
    """A claim that its owner does not find."""
    STALE = "stale"
    """What its owner is shown as its claim is none."""
    OUTSIDE = "outside"
    """A block that no pool has."""
    UNREADABLE = "unreadable"
    """A key that coil did not write, or cannot read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong."""

    kind: FindingKind
    subject: str
    message: str
    claim: BlockClaim | None = None
    report: NodeRecord | None = field(default=None, compare=False)
    """Where a node's word is against the store's: its record. An older one may be outdated."""


_REPORTS = {FindingKind.CONFLICT: 2, FindingKind.LEAK: 3}
"""A report is older than the survey, so the first may be of a time when all was well. The second
was written after the claim was seen here. A node that has just started knows of all its blocks
only after the report it begins with."""


class Auditor:
    """Remembers what nodes reported, so that nothing is said of a change that is on its way."""

    def __init__(self) -> None:
        self._reports: dict[Finding, set[int]] = {}

    def confirmed(self, survey: Survey) -> list[Finding]:
        """What is wrong now, and where a node's word is in it, in several of its reports."""
        current: dict[Finding, set[int]] = {}
        for finding in find_all(survey):
            seen = self._reports.get(finding, set())
            current[finding] = seen | {finding.report.seen} if finding.report else seen
        self._reports = current
        return [
            finding
            for finding, seen in current.items()
            if len(seen) >= _REPORTS.get(finding.kind, 0)
        ]


def find_all(survey: Survey) -> Iterator[Finding]:
    """Everything that is wrong as of this moment; see ``Finding.report`` for what may pass."""
    for each in survey.unreadable:
        yield Finding(
            FindingKind.UNREADABLE,
            each.key,
            f"{each.key} cannot be read ({each.reason}): put back its value or delete it",
        )
    yield from _find_torn(survey)
    yield from _find_outside(survey)
    yield from _find_orphans(survey)
    yield from _find_contradictions(survey)


def _find_torn(survey: Survey) -> Iterator[Finding]:
    for claim in survey.hidden:
        text = f"{claim.node} owns block {claim.id} and is not shown it"
        yield Finding(FindingKind.HIDDEN, str(claim.id), text, claim)
    for claim in survey.stale:
        text = f"{claim.node} is shown block {claim.id}, which it does not own"
        yield Finding(FindingKind.STALE, str(claim.id), text, claim)


def _find_outside(survey: Survey) -> Iterator[Finding]:
    pools = {pool.name: pool for pool in survey.pools}
    for claim in survey.claims:
        if not _has_block(pools, claim.id):
            text = f"{claim.node} owns block {claim.id}, which no pool has"
            yield Finding(FindingKind.OUTSIDE, str(claim.id), text, claim)


def _has_block(pools: Mapping[PoolName, Pool], block: BlockId) -> bool:
    try:
        return block.pool in pools and bool(pools[block.pool].block(block.index))
    except InvalidPool:
        return False


def _find_orphans(survey: Survey) -> Iterator[Finding]:
    known: set[str] = {found.record.name for found in survey.nodes}
    if not known:
        return  # a store that keeps no records, that of one machine, has none for anybody
    # A record that cannot be read is one all the same.
    known |= {each.key.rpartition("/")[2] for each in survey.unreadable}
    counts = Counter(claim.node for claim in survey.claims if claim.node not in known)
    for node, count in sorted(counts.items()):
        yield Finding(
            FindingKind.ORPHAN,
            node,
            f"{node} owns {count} blocks and has no record, so that nobody knows whether it lives; "
            f"if its machine is off for good: coilctl node release --force {node}",
        )


def _find_contradictions(survey: Survey) -> Iterator[Finding]:
    """Where the word of a node is against that of the store."""
    claims = {claim.id: claim for claim in survey.claims}
    owned: dict[NodeName, list[BlockClaim]] = defaultdict(list)
    for claim in survey.claims:
        owned[claim.node].append(claim)
    for found in survey.nodes:
        record = found.record
        if record.blocks is not None:
            reported = {report.id for report in record.blocks}
            yield from _find_conflicts(record, reported, claims)
            yield from _find_leaks(record, reported, owned[record.name])


def _find_conflicts(
    record: NodeRecord, reported: Collection[BlockId], claims: Mapping[BlockId, BlockClaim]
) -> Iterator[Finding]:
    for block in reported:
        claim = claims.get(block)
        if claim is None or claim.node != record.name:
            owner = f"belongs to {claim.node}" if claim else "belongs to nobody"
            text = f"{record.name} holds block {block} for its own, and it {owner}"
            yield Finding(FindingKind.CONFLICT, f"{record.name} {block}", text, claim, record)


def _find_leaks(
    record: NodeRecord, reported: Collection[BlockId], owned: Iterable[BlockClaim]
) -> Iterator[Finding]:
    for claim in owned:
        if claim.id not in reported:
            text = f"{record.name} owns block {claim.id} and does not know it"
            yield Finding(FindingKind.LEAK, f"{record.name} {claim.id}", text, claim, record)
