"""What the parts of the etcd store have in common: the client, the keys, and how one watches."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import structlog

from coil.domain.block import BlockClaim
from coil.domain.codec import claim_from_json
from coil.domain.errors import CoilError
from coil.process.retry import Backoff, sleep
from coil.store.errors import StoreCorrupt
from coil.store.etcd.client import EtcdClient
from coil.store.etcd.keys import Keys
from coil.store.etcd.wire import KeyValue

T = TypeVar("T")
_log = structlog.get_logger()

_FIRST_RETRY_SECONDS, _LAST_RETRY_SECONDS = 0.1, 1.0
"""A watch comes back within a second of its cluster: thousands of nodes, spread by jitter."""


class EtcdPart:
    """A client and its keys."""

    def __init__(self, client: EtcdClient, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    def corrupt(self, pair: KeyValue, reason: object) -> StoreCorrupt:
        """The error for a key whose value coil did not write."""
        return StoreCorrupt(
            f"key {pair.key} in {self._client.address} cannot be read ({reason}): put back its "
            "value, or delete the key with etcdctl del",
            key=pair.key,
        )

    def to_claim(self, pair: KeyValue) -> BlockClaim:
        """The claim that a key of ``blocks/`` or ``owned/`` holds. Raises StoreCorrupt."""
        try:
            return claim_from_json(self._keys.block_id(pair.key), pair.value.decode())
        except (CoilError, ValueError) as exc:
            raise self.corrupt(pair, exc) from exc

    async def watch(
        self, prefix: str, read: Callable[[], Awaitable[tuple[int, T]]]
    ) -> AsyncIterator[T]:
        """Yield what ``read`` returns (with the revision it is of), now and after each change.

        Ends when the client is closed. Outages are bridged, and told once.
        """
        backoff = Backoff(initial=_FIRST_RETRY_SECONDS, maximum=_LAST_RETRY_SECONDS)
        closing, seen, told = self._client.closing, None, False
        while not closing.is_set():
            try:
                revision, state = await read()
                backoff.reset()
                if told:
                    _log.info("store is watched again", store=str(self._client.address))
                told = False
                if seen is None or seen[0] != state:
                    seen = (state,)
                    yield state
                await self._client.wait_change(prefix, revision + 1)
            except CoilError as exc:
                if closing.is_set():
                    return
                if not told:
                    _log.warning("store cannot be watched; trying on", reason=exc.message)
                told = True
                await sleep(backoff.next(), closing)
