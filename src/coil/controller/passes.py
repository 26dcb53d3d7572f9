"""What the leader does, over and over: look at everything, audit it, take back, remember."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from coil.controller.collect import Collector
from coil.controller.leader import Leadership
from coil.controller.settings import Settings
from coil.controller.steps import StepHook
from coil.controller.witness import Witness
from coil.domain.audit import Auditor, Finding, FindingKind
from coil.domain.errors import CoilError
from coil.domain.names import NodeName
from coil.domain.survey import Survey
from coil.process.problems import Problems
from coil.store.contract import Store

_log = structlog.get_logger()

_MENDABLE = {FindingKind.HIDDEN, FindingKind.STALE}
_RETRY_SECONDS = 2.0


@dataclass(slots=True)
class Seen:
    """What the last pass found."""

    survey: Survey
    overdue: set[NodeName]
    at: float


class Passes:
    """Runs passes while this replica leads; forgets everything when it does not."""

    def __init__(
        self,
        settings: Settings,
        *,
        store: Store,
        leadership: Leadership,
        witnesses: Sequence[Witness],
        problems: Problems,
        clock: Callable[[], float],
        step: StepHook,
    ) -> None:
        self._settings = settings
        self._store = store
        self._leadership = leadership
        self._witnesses = witnesses
        self._problems = problems
        self._clock = clock
        self._step = step
        self._term = 0
        self._auditor, self._collector = self._begin()
        self.seen: Seen | None = None
        """Of this term; None while another leads, or before the first pass."""
        self.count = 0
        """Of passes that went through."""
        self.collected_nodes = 0
        self.collected_blocks = 0

    def _begin(self) -> tuple[Auditor, Collector]:
        return Auditor(), Collector(
            self._settings,
            store=self._store,
            witnesses=self._witnesses,
            is_leading=lambda: self._leadership.is_leading,
            problems=self._problems,
            step=self._step,
        )

    @property
    def is_ready(self) -> bool:
        """Whether the store was heard lately, and looked through if that is this one's task."""
        now = self._clock()
        if not self._leadership.is_leading:
            return now - self._leadership.heard_at < 2 * self._settings.lease
        return self.seen is not None and now - self.seen.at < 3 * self._settings.period + 10

    async def run(self) -> None:
        """Make passes, for ever."""
        while True:
            done = await self._pass_if_leading()
            pause = self._settings.period if done else _RETRY_SECONDS
            await self._leadership.wait(min(pause, self._settings.period))

    async def _pass_if_leading(self) -> bool:
        """False when it should be tried again soon."""
        if not self._leadership.is_leading:
            self.seen = None
            self._problems.keep_only({"leader"})
            return True
        if self._term != self._leadership.term:
            self._term = self._leadership.term
            self._auditor, self._collector = self._begin()
        try:
            await self._pass()
        except CoilError as exc:
            self._problems.put("store", exc.message)
            return False
        self._problems.clear("store")
        return True

    async def _pass(self) -> None:
        survey = await self._store.survey()
        now = self._clock()
        await self._audit(survey)
        nodes, blocks = await self._collector.collect(survey, now)
        self.collected_nodes += nodes
        self.collected_blocks += blocks
        self.seen = Seen(survey, self._collector.overdue, now)
        self.count += 1

    async def _audit(self, survey: Survey) -> None:
        findings = self._auditor.confirmed(survey)
        for kind in FindingKind:
            found = [each for each in findings if each.kind is kind]
            if kind in _MENDABLE:
                await self._mend(found)
            else:
                self._problems.replace(kind.value, {f.subject: f.message for f in found})

    async def _mend(self, findings: Sequence[Finding]) -> None:
        """Make a copy of a claim what the claim is: the store itself says which is right."""
        for finding in findings:
            if finding.claim and self._leadership.is_leading:
                mended = await self._store.mend_claim(finding.claim)
                _log.warning("claim mended", reason=finding.message, outcome=mended)
