"""Which rack this node is in: told at the start, or by a label of its Node object in Kubernetes.

The API server is asked at the start and from time to time. Nothing waits for it but a claim, and
that for a moment only; until it has answered, the rack is the one of this node's record in the
store.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from coil.domain.errors import CoilError, InvalidName
from coil.domain.names import NodeName, RackName, parse_rack_name
from coil.kube.errors import KubeNotFound
from coil.process.problems import Problems
from coil.process.retry import Backoff
from coil.store.contract import NodeStore

_PERIOD_SECONDS = 600.0
"""Between questions that are answered: thousands of nodes ask."""
_LONGEST_PAUSE = 60.0
_MOMENT_SECONDS = 3.0
"""A claim waits so long for the first answer: a block outside of its rack's range stays there."""


class Rack:
    """See module."""

    def __init__(
        self,
        *,
        node: NodeName,
        name: RackName | None,
        label: str,
        ask: Callable[[], Awaitable[str]] | None,
        store: NodeStore,
        problems: Problems,
    ) -> None:
        """``ask``: returns the label's value; None when ``name`` is all there is to know."""
        self._node = node
        self._name = name
        self._label = label
        self._ask_kubernetes = ask
        self._store = store
        self._problems = problems
        self._is_known = ask is None
        self._was_told = False
        self._asked = asyncio.Event()

    async def get(self) -> RackName | None:
        """The rack as far as anybody can tell now. Raises StoreError."""
        if not self._is_known:
            found = await self._store.find_node(self._node)
            # Kubernetes may have answered meanwhile, and knows better.
            if not self._is_known:
                self._name = found.record.rack if found else None
                self._is_known = True
        return self._name

    async def get_for_claim(self) -> RackName | None:
        """As ``get``, after Kubernetes has had a moment to answer for the first time."""
        if self._ask_kubernetes is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_MOMENT_SECONDS):
                    await self._asked.wait()
        return await self.get()

    async def run(self) -> None:
        """Ask Kubernetes, for ever; nothing where it is not to be asked."""
        backoff = Backoff(initial=1.0, maximum=_LONGEST_PAUSE)
        while self._ask_kubernetes is not None:
            is_told = await self._ask(self._ask_kubernetes)
            self._asked.set()
            if is_told:
                backoff.reset()
            await asyncio.sleep(_PERIOD_SECONDS if is_told else backoff.next())
        await asyncio.Event().wait()

    async def _ask(self, ask: Callable[[], Awaitable[str]]) -> bool:
        """Whether Kubernetes told a rack."""
        try:
            text = await ask()
        except CoilError as exc:
            # What was told once stays: an API server that is away is no reason for a problem here.
            if not self._was_told:
                asked = f", or is --node-name {self._node} not its name there?"
                more = asked if isinstance(exc, KubeNotFound) else ""
                self._problems.put("rack", exc.message + more)
            return False
        self._is_known = self._was_told = True
        self._name, fault = self._read(text)
        self._problems.replace("rack", {"": fault} if fault else {})
        return not fault

    def _read(self, text: str) -> tuple[RackName | None, str]:
        if not text:
            return None, (
                f"node {self._node} has no label {self._label} in Kubernetes: its blocks are those "
                f"of no rack; kubectl label node {self._node} {self._label}=RACK"
            )
        try:
            return parse_rack_name(text), ""
        except InvalidName as exc:
            return None, f"label {self._label} of node {self._node}: {exc.message}"
