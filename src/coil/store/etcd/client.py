"""A connection to an etcd cluster: one call, tried at one endpoint after the other.

A call goes to the endpoint that answered last. One that surely was not executed goes on to the
next; one that may have been goes on only when doing it twice does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from itertools import count
from typing import Any

import structlog

from coil.domain.errors import ConfigError
from coil.process.retry import Backoff
from coil.process.together import all_of
from coil.store.errors import StoreError, StoreUnavailable
from coil.store.etcd import rpc
from coil.store.etcd.address import EtcdAddress
from coil.store.etcd.channel import CallFailed, Channel, Method
from coil.store.etcd.errors import Outcome, is_of_permission, outcome, translated
from coil.store.etcd.lookup import FindEndpoints
from coil.store.etcd.wire import (
    Changes,
    Compare,
    Found,
    Operation,
    Results,
    get,
    range_request,
    to_changes,
    txn_request,
    watch_request,
)

_log = structlog.get_logger()

_PAUSE_SECONDS = 0.1
"""Between rounds over all endpoints while the cluster elects."""
_LEAST_TURNS = 10
_LOOK_UP_SECONDS = 10.0
"""Between two look-ups of a service: in an outage every node of the cluster would ask."""
_HAS_LEADER = ("hasleader", "true")
"""A watch at a member that was cut off from the others ends instead of keeping silent."""

_RANGE = Method("/etcdserverpb.KV/Range", rpc.RangeResponse)
_TXN = Method("/etcdserverpb.KV/Txn", rpc.TxnResponse)
_GRANT = Method("/etcdserverpb.Lease/LeaseGrant", rpc.LeaseGrantResponse)
_KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", rpc.LeaseKeepAliveResponse)
_TIME_TO_LIVE = Method("/etcdserverpb.Lease/LeaseTimeToLive", rpc.LeaseTimeToLiveResponse)
_REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", rpc.LeaseRevokeResponse)
_STATUS = Method("/etcdserverpb.Maintenance/Status", rpc.StatusResponse)
_AUTHENTICATE = Method("/etcdserverpb.Auth/Authenticate", rpc.AuthenticateResponse)
_WATCH = Method("/etcdserverpb.Watch/Watch", rpc.WatchResponse)


class EtcdClient:
    """See module. Belongs to the event loop in which it is first used."""

    def __init__(self, address: EtcdAddress, find: FindEndpoints | None = None) -> None:
        """``find``: tells the endpoints where the address has none."""
        self.address = address
        self._endpoints = address.endpoints
        self._find = find
        self._looked_up = -math.inf
        self._channels: dict[str, Channel] = {}
        self._current = 0
        self._token: str | None = None
        self._closing = asyncio.Event()

    def __str__(self) -> str:
        return str(self.address)

    @property
    def closing(self) -> asyncio.Event:
        """Set when the client is closed."""
        return self._closing

    async def close(self) -> None:
        """Close all connections; idempotent. Calls in flight fail, watches return."""
        self._closing.set()
        for channel in list(self._channels.values()):
            await channel.close()

    async def attempts(self) -> AsyncIterator[None]:
        """Turns of a compare-and-swap: as many as the timeout allows, and some in any case.

        On a slow machine time says little of how often others were first.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.address.timeout
        pauses = Backoff(initial=0.005, maximum=_PAUSE_SECONDS)
        for turn in count():
            yield
            if turn > 0:
                await asyncio.sleep(pauses.next())
            if turn >= _LEAST_TURNS and loop.time() >= deadline:
                return

    async def read(self, first: Operation, *more: Operation) -> Found:
        """Several reads of one moment. Raises StoreUnavailable, StoreError.

        A transaction of reads is to etcd a transaction; plain reads cost the cluster less.
        """
        answer = await self._range(first)
        revision: int = answer.header.revision
        rest = await all_of(self._range(operation, revision) for operation in more)
        return Found(revision, [answer, *rest])

    async def _range(self, operation: Operation, revision: int = 0) -> Any:
        return await self._call(_RANGE, range_request(operation, revision), repeatable=True)

    async def write(
        self,
        compare: Sequence[Compare],
        success: Sequence[Operation],
        failure: Sequence[Operation] = (),
        *,
        repeatable: bool = False,
    ) -> Results:
        """One transaction. ``repeatable``: done a second time it does no harm.

        Raises StoreUnavailable, after which its outcome is unknown; StoreError.
        """
        request = txn_request(compare, success, failure)
        return Results(await self._call(_TXN, request, repeatable=repeatable))

    async def grant(self, seconds: int) -> int:
        """A new lease of so many seconds; its id."""
        answer = await self._call(_GRANT, rpc.LeaseGrantRequest(TTL=seconds), repeatable=True)
        return int(answer.ID)

    async def keep_alive(self, lease: int) -> bool:
        """Let a lease begin anew; False when it has ended already."""
        request = rpc.LeaseKeepAliveRequest(ID=lease)
        return int((await self._call(_KEEP_ALIVE, request, repeatable=True)).TTL) > 0

    async def time_left(self, lease: int) -> tuple[int, int]:
        """See the engine."""
        request = rpc.LeaseTimeToLiveRequest(ID=lease)
        answer = await self._call(_TIME_TO_LIVE, request, repeatable=True)
        return int(answer.TTL), int(answer.grantedTTL)

    async def revoke(self, lease: int) -> None:
        """End a lease and all its keys; one that has ended is fine."""
        with contextlib.suppress(StoreUnavailable):
            await self._call(_REVOKE, rpc.LeaseRevokeRequest(ID=lease), repeatable=True)

    async def server_version(self) -> str:
        """What the endpoint in use says it is."""
        return str((await self._call(_STATUS, rpc.StatusRequest(), repeatable=True)).version)

    async def changes(self, prefix: str, revision: int) -> AsyncGenerator[Changes, None]:
        """Yield what changes below ``prefix`` from ``revision`` on, message by message.

        Ends when that cannot be known any more: that revision is compacted, or a cluster put back
        from a backup has not come to it; and when the client is closed. Raises StoreUnavailable
        when the watch is interrupted: nothing up to the last revision yielded was missed;
        StoreError where it is not permitted.
        """
        try:
            channel = await self._channel()
            metadata = (*self._metadata(), _HAS_LEADER)
            request = watch_request(prefix, revision)
            async with channel.open(_WATCH, request, self.address.timeout, metadata) as following:
                while (answer := await following()) is not None:
                    if answer.compact_revision or answer.header.revision + 1 < revision:
                        return
                    if answer.canceled:
                        break
                    if answer.events:
                        yield to_changes(answer.events)
        except CallFailed as exc:
            if self._closing.is_set():
                return
            self._leave(exc.endpoint)
            raise translated(self.address, exc) from exc
        reason = answer.cancel_reason if answer else "by the other side"
        if self.address.user and is_of_permission(reason):
            # Some versions say of a watch that it is not permitted where they have forgotten the
            # token. A call is told the difference, and logs in again; never for a permission, as
            # that costs etcd the most of all.
            await self._range(get(prefix))
        self._leave(channel.endpoint)
        raise StoreUnavailable(f"{self.address}: the watch was ended ({reason})")

    async def _call(self, method: Method, request: Any, *, repeatable: bool) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.address.timeout
        failures, silent, logged_in_again = 0, False, False
        while True:
            left = deadline - loop.time()
            try:
                channel = await self._channel(left)
                share = self._share(left, failures)
                return await channel.call(method, request, share, self._metadata())
            except CallFailed as exc:
                found = outcome(exc)
                if found is Outcome.TOKEN and self.address.user and not logged_in_again:
                    self._token, logged_in_again = None, True
                    continue
                failures += 1
                silent = silent or isinstance(exc.cause, TimeoutError)
                self._leave(exc.endpoint)
                if failures >= len(self._endpoints) and await self._look_again(left):
                    failures = 0
                # Who was silent may be slow, an election ends by itself; where nobody listens at
                # all, waiting is for the caller.
                waits = silent or "leader" in exc.details or found is Outcome.UNKNOWN
                more = waits or failures < len(self._endpoints)
                if not more or not self._may_go_on(found, repeatable=repeatable):
                    raise translated(self.address, exc) from exc
                if failures % len(self._endpoints) == 0:
                    await asyncio.sleep(_PAUSE_SECONDS)
                if loop.time() >= deadline:
                    raise translated(self.address, exc) from exc

    def _may_go_on(self, found: Outcome, *, repeatable: bool) -> bool:
        """Whether a call that failed so may be sent again."""
        if self._closing.is_set():
            return False
        return found is Outcome.NOT_SENT or (found is Outcome.UNKNOWN and repeatable)

    def _share(self, left: float, failures: int) -> float:
        """Seconds one endpoint may take: all must have their turn."""
        turns = max(1, len(self._endpoints) - failures)
        return max(0.05, left / turns)

    def _leave(self, endpoint: str) -> None:
        """It has failed: on to the next, unless another call has gone on already."""
        if self._endpoints[self._current] == endpoint:
            self._current = (self._current + 1) % len(self._endpoints)

    async def _look_up(self) -> None:
        """Ask where the members of the service are. Raises StoreError, ConfigError."""
        if self._find is not None:
            self._looked_up = asyncio.get_running_loop().time()
            self._endpoints, self._current = await self._find(), 0

    async def _look_again(self, seconds: float) -> bool:
        """All that were known have failed: whether a service is elsewhere by now."""
        now = asyncio.get_running_loop().time()
        if self._find is None or now - self._looked_up < _LOOK_UP_SECONDS:
            return False
        before = set(self._endpoints)
        try:
            async with asyncio.timeout(max(0.1, seconds)):
                await self._look_up()
        except TimeoutError:
            return False
        except (StoreError, ConfigError) as exc:
            _log.warning("endpoints stay as they were", reason=exc.message)
            return False
        for endpoint in before - set(self._endpoints):
            if endpoint in self._channels:
                await self._channels.pop(endpoint).close()
        return set(self._endpoints) != before

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("token", self._token),) if self._token else ()

    async def _channel(self, seconds: float = 1.0) -> Channel:
        if self._closing.is_set():
            raise StoreError(f"{self.address}: the store is closed")
        if not self._endpoints:
            await self._look_up()
        endpoint = self._endpoints[self._current]
        channel = self._channels.get(endpoint)
        if channel is None:
            channel = self._channels[endpoint] = _open(self.address, endpoint)
        if self.address.user and self._token is None:
            request = rpc.AuthenticateRequest(
                name=self.address.user, password=self.address.password
            )
            answer = await channel.call(_AUTHENTICATE, request, max(0.05, seconds), ())
            self._token = answer.token
        return channel


def _open(address: EtcdAddress, endpoint: str) -> Channel:
    if address.service is None:
        return Channel(endpoint, address.tls)
    # Its members' addresses change; a certificate is for the name of the service.
    return Channel(endpoint, address.tls, f"{address.service.name}.{address.service.namespace}.svc")
