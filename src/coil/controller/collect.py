"""Takes back the blocks of nodes that are gone (docs/design.md, Gone nodes)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing

import structlog

from coil.controller.settings import Settings
from coil.controller.steps import BLOCK_TAKEN, BLOCKS_TAKEN, NAME_TAKEN, NODE_JUDGED, StepHook
from coil.controller.witness import Witness
from coil.domain.gone import Judgement, Silence, Word, find_grace_fault, judge
from coil.domain.names import NodeName
from coil.domain.node import NodeRecord
from coil.domain.survey import Survey
from coil.process.problems import Problems
from coil.store.contract import Release, Store
from coil.store.release import take_blocks

_log = structlog.get_logger()

_MIN_GAP = 5.0
"""Seconds: a machine under load is no gap in watching."""


class Collector:
    """Belongs to one term of leadership: a new leader begins to count anew."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        witnesses: Sequence[Witness],
        is_leading: Callable[[], bool],
        problems: Problems,
        step: StepHook,
    ) -> None:
        self._settings = settings
        self._store = store
        self._witnesses = witnesses
        self._is_leading = is_leading
        self._problems = problems
        self._step = step
        self._silence = Silence(max(_MIN_GAP, 2.5 * settings.period))
        self.overdue: set[NodeName] = set()
        """Nodes silent for longer than the grace, at the last look."""

    async def collect(self, survey: Survey, now: float) -> tuple[int, int]:
        """Take what may be taken; how many nodes and blocks were. Raises StoreError.

        ``now``: when the survey was made, of the clock that measures the grace.
        """
        self._silence.look(now, survey.nodes)
        overdue = self._silence.longer_than(self._settings.grace, now)
        self.overdue = {record.name for record in overdue}
        judgement = await self._judge(survey, overdue)
        self._problems.replace("node", judgement.kept)
        blocks = nodes = 0
        for record in judgement.gone:
            taken, is_gone = await self._take(record)
            blocks, nodes = blocks + taken, nodes + is_gone
        return nodes, blocks

    async def _judge(self, survey: Survey, overdue: Sequence[NodeRecord]) -> Judgement:
        fault = find_grace_fault(self._settings.grace, survey.pools)
        self._problems.replace("grace", {"": fault} if fault else {})
        if fault or not overdue:
            return Judgement((), {})
        words: Mapping[NodeName, list[Word]] = defaultdict(list)
        silent = [found.record for found in survey.nodes if not found.alive]
        for witness in self._witnesses:
            for name, word in (await witness.ask(silent, survey.nodes)).items():
                words[name].append(word)
        judgement = judge(survey.nodes, overdue, words, most=self._settings.most_missing / 100)
        return _without_unknown_pools(judgement, survey)

    async def _take(self, record: NodeRecord) -> tuple[int, bool]:
        """Blocks one by one, the name last; how many, and whether the node is no more.

        Each step is taken only as long as this one leads and the node does not show itself; a
        step that was taken already is taken again without harm.
        """
        _log.warning("node is gone", node=record.name)
        self._step(NODE_JUDGED)
        taken = 0
        async with aclosing(take_blocks(self._store, record)) as steps:
            while self._is_leading() and (step := await anext(steps, None)):
                claim, outcome = step
                if outcome is Release.NOT_GONE:
                    _log.warning("node came back: the rest stays its own", node=record.name)
                    return taken, False
                taken += outcome is Release.RELEASED
                _log.info(
                    "block taken back",
                    node=record.name,
                    block=str(claim.id),
                    outcome=outcome.value,
                )
                self._step(BLOCK_TAKEN)
        self._step(BLOCKS_TAKEN)
        gone = self._is_leading() and await self._store.take_name(record)
        self._step(NAME_TAKEN)
        if gone:
            _log.info("node collected", node=record.name, blocks=taken)
        return taken, gone


def _without_unknown_pools(judgement: Judgement, survey: Survey) -> Judgement:
    """Keep nodes with blocks of pools that cannot be read: nobody knows how long these cool."""
    known = {pool.name for pool in survey.pools}
    owners = {claim.node: claim.id for claim in survey.claims if claim.id.pool not in known}
    reason = "is gone, but its block {} is of a pool that cannot be read: how long does it cool?"
    kept: dict[str, str] = {
        record.name: reason.format(owners[record.name])
        for record in judgement.gone
        if record.name in owners
    }
    gone = tuple(record for record in judgement.gone if record.name not in kept)
    return Judgement(gone, {**judgement.kept, **kept})
