"""A connection to an etcd cluster: one call, tried at one endpoint after the other.

A call goes to the endpoint that answered last. One that surely was not executed goes on to the
next; one that may have been goes on only when doing it twice does no harm.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from typing import Any

import grpc
import structlog
from aetcd import rpc

from coil.domain.errors import ConfigError
from coil.process.retry import Backoff
from coil.process.together import all_of
from coil.store.errors import StoreError, StoreUnavailable
from coil.store.etcd.address import EtcdAddress
from coil.store.etcd.errors import Outcome, outcome, translated
from coil.store.etcd.lookup import FindEndpoints
from coil.store.etcd.wire import (
    Changes,
    Compare,
    Found,
    Operation,
    Results,
    range_request,
    to_changes,
    txn_request,
    watch_requests,
)

_log = structlog.get_logger()

_PAUSE_SECONDS = 0.1
"""Between rounds over all endpoints while the cluster elects."""
_LEAST_TURNS = 10
_OPTIONS = (
    # A member that is gone without a word is found by pings; etcd takes one per 5 s at most.
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.max_pings_without_data", 0),
    # Who restarts is found soon: gRPC's own pauses grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", -1),
    # Nobody's proxy stands between a node and its etcd.
    ("grpc.enable_http_proxy", 0),
)
_LOOK_UP_SECONDS = 10.0
"""Between two look-ups of a service: in an outage every node of the cluster would ask."""
_HAS_LEADER = ("hasleader", "true")
"""A watch at a member that was cut off from the others ends instead of keeping silent."""


class EtcdClient:
    """See module. Belongs to the event loop in which it is first used."""

    def __init__(self, address: EtcdAddress, find: FindEndpoints | None = None) -> None:
        """``find``: tells the endpoints where the address has none."""
        self.address = address
        self._endpoints = address.endpoints
        self._find = find
        self._looked_up = -math.inf
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._kvs: dict[grpc.aio.Channel, Any] = {}
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
        request = range_request(operation, revision)

        async def call(channel: grpc.aio.Channel, seconds: float) -> Any:
            return await self._kv(channel).Range(
                request, timeout=seconds, metadata=self._metadata()
            )

        return await self._call(call, repeatable=True)

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

        async def call(channel: grpc.aio.Channel, seconds: float) -> Any:
            return await self._kv(channel).Txn(request, timeout=seconds, metadata=self._metadata())

        return Results(await self._call(call, repeatable=repeatable))

    async def grant(self, seconds: int) -> int:
        """A new lease of so many seconds; its id."""

        async def call(channel: grpc.aio.Channel, timeout: float) -> Any:  # noqa: ASYNC109
            stub = rpc.LeaseStub(channel)
            request = rpc.LeaseGrantRequest(TTL=seconds)
            return await stub.LeaseGrant(request, timeout=timeout, metadata=self._metadata())

        answer = await self._call(call, repeatable=True)
        return int(answer.ID)

    async def keep_alive(self, lease: int) -> bool:
        """Let a lease begin anew; False when it has ended already."""

        async def call(channel: grpc.aio.Channel, timeout: float) -> Any:  # noqa: ASYNC109
            request = rpc.LeaseKeepAliveRequest(ID=lease)
            stub = rpc.LeaseStub(channel)
            stream = stub.LeaseKeepAlive(
                iter([request]), timeout=timeout, metadata=self._metadata()
            )
            try:
                return await stream.read()
            finally:
                stream.cancel()

        answer = await self._call(call, repeatable=True)
        return int(getattr(answer, "TTL", 0)) > 0

    async def revoke(self, lease: int) -> None:
        """End a lease and all its keys; one that has ended is fine."""

        async def call(channel: grpc.aio.Channel, timeout: float) -> Any:  # noqa: ASYNC109
            stub = rpc.LeaseStub(channel)
            request = rpc.LeaseRevokeRequest(ID=lease)
            return await stub.LeaseRevoke(request, timeout=timeout, metadata=self._metadata())

        with contextlib.suppress(StoreUnavailable):
            await self._call(call, repeatable=True)

    async def server_version(self) -> str:
        """What the endpoint in use says it is."""

        async def call(channel: grpc.aio.Channel, timeout: float) -> Any:  # noqa: ASYNC109
            stub = rpc.MaintenanceStub(channel)
            return await stub.Status(
                rpc.StatusRequest(), timeout=timeout, metadata=self._metadata()
            )

        answer = await self._call(call, repeatable=True)
        return str(answer.version)

    async def changes(self, prefix: str, revision: int) -> AsyncGenerator[Changes, None]:
        """Yield what changes below ``prefix`` from ``revision`` on, message by message.

        Ends when that cannot be known any more: that revision is compacted, or a cluster put back
        from a backup has not come to it; and when the client is closed. Raises StoreUnavailable
        when the watch is interrupted: nothing up to the last revision yielded was missed.
        """
        metadata = (*self._metadata(), _HAS_LEADER)
        requests = watch_requests(prefix, revision)
        stream = rpc.WatchStub(await self._channel()).Watch(_forever(requests), metadata=metadata)
        try:
            while (answer := await self._next(stream)) is not grpc.aio.EOF:
                if answer.compact_revision or answer.header.revision + 1 < revision:
                    return
                if answer.canceled:
                    break
                if answer.events:
                    yield to_changes(answer.events)
        finally:
            stream.cancel()
        if self._closing.is_set():
            return
        self._rotate()
        reason = answer.cancel_reason if answer is not grpc.aio.EOF else "by the other side"
        raise StoreUnavailable(f"{self.address}: the watch was ended ({reason})")

    async def _next(self, stream: Any) -> Any:
        """The next message of a watch; the end of the client is the end of the watch."""
        try:
            return await stream.read()
        except grpc.aio.AioRpcError as exc:
            if self._closing.is_set():
                return grpc.aio.EOF
            self._rotate()
            raise translated(self.address, exc) from exc
        except asyncio.CancelledError:
            # A channel that is closed cancels its calls; that is not a cancellation of ours.
            task = asyncio.current_task()
            if not self._closing.is_set() or (task and task.cancelling()):
                raise
            return grpc.aio.EOF

    async def _call(
        self,
        call: Callable[[grpc.aio.Channel, float], Awaitable[Any]],
        *,
        repeatable: bool,
    ) -> Any:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.address.timeout
        failures, logged_in_again = 0, False
        while True:
            left = deadline - loop.time()
            try:
                channel = await self._channel(left)
                return await call(channel, self._share(left, failures))
            except grpc.aio.AioRpcError as exc:
                found = outcome(exc)
                if found is Outcome.TOKEN and self.address.user and not logged_in_again:
                    self._token, logged_in_again = None, True
                    continue
                failures += 1
                self._rotate()
                if failures >= len(self._endpoints) and await self._look_again(left):
                    failures = 0
                if not self._may_go_on(exc, found, failures, repeatable=repeatable):
                    raise translated(self.address, exc) from exc
                if failures % len(self._endpoints) == 0:
                    await asyncio.sleep(_PAUSE_SECONDS)
                if loop.time() >= deadline:
                    raise translated(self.address, exc) from exc

    def _may_go_on(
        self, exc: grpc.aio.AioRpcError, found: Outcome, failures: int, *, repeatable: bool
    ) -> bool:
        """Whether the call may be tried again elsewhere."""
        if self._closing.is_set() or found not in {Outcome.NOT_SENT, Outcome.UNKNOWN}:
            return False
        if found is Outcome.UNKNOWN and not repeatable:
            return False
        # An election ends by itself; where nobody listens at all, waiting is for the caller.
        electing = "leader" in (exc.details() or "") or found is Outcome.UNKNOWN
        return electing or failures < len(self._endpoints)

    def _share(self, left: float, failures: int) -> float:
        """Seconds one endpoint may take: all must have their turn."""
        turns = max(1, len(self._endpoints) - failures)
        return max(0.05, left / turns)

    def _rotate(self) -> None:
        self._current = (self._current + 1) % len(self._endpoints)

    async def _look_up(self) -> None:
        """Ask where the members of the service are. Raises StoreUnavailable, ConfigError."""
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
        except (StoreUnavailable, ConfigError) as exc:
            _log.warning("endpoints stay as they were", reason=exc.message)
            return False
        for endpoint in before - set(self._endpoints):
            if endpoint in self._channels:
                await self._channels.pop(endpoint).close()
        return set(self._endpoints) != before

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("token", self._token),) if self._token else ()

    def _kv(self, channel: grpc.aio.Channel) -> Any:
        """The calls on keys: made once, for making them takes a third of the time of one."""
        if channel not in self._kvs:
            self._kvs[channel] = rpc.KVStub(channel)
        return self._kvs[channel]

    async def _channel(self, seconds: float = 1.0) -> grpc.aio.Channel:
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
            answer = await rpc.AuthStub(channel).Authenticate(request, timeout=max(0.05, seconds))
            self._token = answer.token
        return channel


def _open(address: EtcdAddress, endpoint: str) -> grpc.aio.Channel:
    tls = address.tls
    options: list[tuple[str, int | str]] = list(_OPTIONS)
    if tls is None:
        return grpc.aio.insecure_channel(endpoint, options=options)
    if address.service is not None:
        # Its members' addresses change; a certificate is for the name of the service.
        name = f"{address.service.name}.{address.service.namespace}.svc"
        options.append(("grpc.ssl_target_name_override", name))
    credentials = grpc.ssl_channel_credentials(tls.ca, tls.key, tls.cert)
    return grpc.aio.secure_channel(endpoint, credentials, options=options)


async def _forever(requests: Any) -> Any:
    """The requests, and then none: a stream that is ended by its writer would end the watch."""
    for request in requests:
        yield request
    await asyncio.Event().wait()
