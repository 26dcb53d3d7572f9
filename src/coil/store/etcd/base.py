"""What the parts of the etcd store have in common: the client, the keys, and how one watches."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

import structlog

from coil.domain.block import BlockClaim, BlockId
from coil.domain.codec import claim_from_json
from coil.domain.errors import CoilError
from coil.process.retry import Backoff, sleep
from coil.store.errors import StoreCorrupt
from coil.store.etcd.engine import Engine
from coil.store.etcd.keys import Keys
from coil.store.etcd.mirror import Mirror
from coil.store.etcd.wire import KeyValue

T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")
_log = structlog.get_logger()

_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.1, 1.0
"""A watch comes back within a second of its cluster: thousands of nodes, spread by jitter."""


class EtcdPart:
    """A client and its keys."""

    def __init__(self, client: Engine, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._told: dict[str, int] = {}
        """At which revision a key that cannot be read was told."""

    def corrupt(self, pair: KeyValue, reason: object) -> StoreCorrupt:
        """The error for a key whose value coil did not write."""
        return StoreCorrupt(
            f"key {pair.key} in {self._client} cannot be read ({reason}): put back its "
            "value, or delete the key with etcdctl del",
            key=pair.key,
        )

    def to_block_id(self, pair: KeyValue) -> BlockId:
        """Which block a key is about. Raises StoreCorrupt."""
        try:
            return self._keys.block_id(pair.key)
        except ValueError as exc:
            raise self.corrupt(pair, exc) from exc

    def to_claim(self, pair: KeyValue) -> BlockClaim:
        """The claim that a key of ``blocks/`` or ``owned/`` holds. Raises StoreCorrupt."""
        try:
            return claim_from_json(self._keys.block_id(pair.key), pair.value.decode())
        except (CoilError, ValueError) as exc:
            raise self.corrupt(pair, exc) from exc

    def readable(self, pairs: Iterable[KeyValue], read: Callable[[KeyValue], T]) -> Iterator[T]:
        """What ``read`` makes of these keys; one that cannot be read is left out, and told once.

        For whoever can do without: one bad key must not stop a node from what does not need it.
        """
        for pair in pairs:
            try:
                yield read(pair)
            except StoreCorrupt as exc:
                if self._told.get(pair.key) != pair.revision:
                    self._told[pair.key] = pair.revision
                    _log.error("left out what cannot be read", reason=exc.message)

    async def watch_entries(
        self, prefix: str, read: Callable[[KeyValue], tuple[K, V]]
    ) -> AsyncGenerator[dict[K, V], None]:
        """Yield what ``read`` makes of all keys below ``prefix``, now and after each change.

        Only what changes is read again. Ends when the client is closed. Outages are bridged, and
        told once.
        """
        mirror = Mirror(self._client, prefix, lambda pairs: self.readable(pairs, read))
        async with contextlib.aclosing(mirror):
            async for state in self._bridged(mirror.next):
                yield state

    async def _bridged(self, following: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
        """Yield each state that is another than the one before, through all outages."""
        backoff = Backoff(initial=_FIRST_RETRY_SECONDS, maximum=_LAST_RETRY_SECONDS)
        closing, seen, told = self._client.closing, None, False
        while not closing.is_set():
            try:
                state = await following()
            except CoilError as exc:
                if closing.is_set():
                    return
                if not told:
                    _log.warning("store cannot be watched; trying on", reason=exc.message)
                told = True
                await sleep(backoff.next(), closing)
                continue
            backoff.reset()
            if told:
                _log.info("store is watched again", store=str(self._client))
            told = False
            if not closing.is_set() and (seen is None or seen[0] != state):
                seen = (state,)
                yield state
