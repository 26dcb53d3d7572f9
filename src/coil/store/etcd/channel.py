"""The connection to one endpoint of etcd: gRPC as grpclib speaks it, and what it leaves out.

grpclib (docs/adr/0019) has no threads and wakes for its own pings only. Three things of it are not
good enough here. A connection that does not answer a ping is closed politely, which takes a TLS
connection half a minute and one with unsent data for ever: here it is gone at once. Why a
connection was lost is not told: here it is. And a call whose connection is lost is woken by
cancelling its task, which is never taken back, so that a later timeout of that task would end as
a cancellation: here each call has a task of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Coroutine
from dataclasses import replace
from typing import Any, NamedTuple, cast

from google.protobuf.message import DecodeError
from grpclib.client import Channel as GrpcChannel
from grpclib.client import Handler, Stream, StreamStreamMethod, UnaryUnaryMethod
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.connection import H2Connection
from h2.events import RemoteSettingsChanged
from h2.exceptions import NoAvailableStreamIDError, ProtocolError

# h2 remembers 65,536 ended calls of a connection, in 9 MB, to tell late frames from wrong ones.
H2Connection.MAX_CLOSED_STREAMS = 1000

_SILENCE_SECONDS = 5.0
"""What was sent is acknowledged within this time, or the other side is gone."""
_CONFIG = Configuration(
    # A member that hangs is found by pings; etcd takes one per 5 s at most. On an idle machine each
    # is a wake with cold caches, milliseconds of a core.
    _keepalive_time=20.0,
    _keepalive_timeout=_SILENCE_SECONDS,
    # etcd takes pings amiss while no call is open; a watch is one.
    _keepalive_permit_without_calls=False,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=1.0,
    # Who reads a watch slowly must not keep the other calls of the connection from their answers.
    http2_connection_window_size=(1 << 31) - 1,
)
_CONNECT_SECONDS = 1.0
"""For one address to answer at all: who is there does so in milliseconds, also by TLS."""
_SETTINGS = b"\x04"
"""The kind, in a frame's fourth byte, of what who speaks HTTP/2 says first (RFC 9113, 3.4)."""
_FAILURES = (
    OSError,
    GRPCError,
    StreamTerminatedError,
    ProtocolError,
    DecodeError,
    UnicodeError,  # a name that cannot be one of DNS
    AssertionError,  # grpclib's word for an answer that ends in its middle
)

Metadata = Collection[tuple[str, str]]


class Method(NamedTuple):
    """One of etcd's calls."""

    path: str
    answer: type[Any]


class NotHttp2Error(ConnectionError):
    """What came first was not HTTP/2."""


class ConnectionClosedError(ConnectionError):
    """The other side, or this one, closed the connection."""


class CallFailed(Exception):
    """A call that brought no answer."""

    def __init__(self, endpoint: str, cause: Exception, *, sent: bool) -> None:
        super().__init__(endpoint, cause)
        self.endpoint = endpoint
        self.cause = cause
        """What etcd said (GRPCError), or what happened to the connection."""
        self.sent = sent
        """False: etcd surely knows nothing of it."""

    @property
    def status(self) -> Status | None:
        """What etcd said, if it did."""
        return self.cause.status if isinstance(self.cause, GRPCError) else None

    @property
    def details(self) -> str:
        """The same in words."""
        if isinstance(self.cause, GRPCError):
            return self.cause.message or self.cause.status.name
        return str(self.cause) or type(self.cause).__name__


class Channel:
    """Connected when it is first used, and anew when it was lost. Belongs to one event loop."""

    def __init__(
        self, endpoint: str, tls: ssl.SSLContext | None = None, server_name: str | None = None
    ) -> None:
        """``server_name``: for which the certificate must be, where the endpoint's is not it."""
        self.endpoint = endpoint
        host, _colon, port = endpoint.rpartition(":")
        config = replace(_CONFIG, ssl_target_name_override=server_name)
        self._grpc = _Channel(host.strip("[]"), int(port), ssl=tls, config=config)
        self._calls: set[asyncio.Task[Any]] = set()

    async def close(self) -> None:
        """Idempotent. Calls in flight fail, also those that wait for the connection."""
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)
        self._grpc.close()
        await asyncio.sleep(0)  # the transport closes its socket in the next turn of the loop

    async def call(self, method: Method, request: Any, seconds: float, metadata: Metadata) -> Any:
        """The answer to one request. Raises CallFailed."""
        unary = UnaryUnaryMethod(self._grpc, method.path, type(request), method.answer)

        async def ask(_connection: _Connection) -> Any:
            return await unary(request, metadata=metadata)

        return await self._run(self._attempt(seconds, ask))

    @contextlib.asynccontextmanager
    async def open(
        self, method: Method, request: Any, seconds: float, metadata: Metadata
    ) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
        """A request whose answers come one by one; yields what waits for the next.

        That gives None after the last, and raises CallFailed. ``seconds``: for the connection.
        """
        streams = StreamStreamMethod(self._grpc, method.path, type(request), method.answer)
        stream = streams.open(metadata=metadata)

        async def ask(connection: _Connection) -> _Connection:
            await stream.send_message(request)
            return connection

        await stream.__aenter__()
        try:
            connection = await self._run(self._attempt(seconds, ask))
            yield lambda: self._run(self._next(stream, connection))
        finally:
            # Left without an error it would wait for the other side to end, too.
            await stream.__aexit__(asyncio.CancelledError, asyncio.CancelledError(), None)

    async def _run(self, attempt: Coroutine[Any, Any, Any]) -> Any:
        """In a task of its own, see module."""
        caller = cast("asyncio.Task[Any]", asyncio.current_task())
        cancellations = caller.cancelling()
        async with asyncio.TaskGroup() as group:
            call = group.create_task(attempt)
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)
            try:
                found = await call  # and not at the group's end: one turn of the loop less
            except asyncio.CancelledError:
                if caller.cancelling() > cancellations:
                    raise
                cause = ConnectionClosedError("the store is closed")
                found = CallFailed(self.endpoint, cause, sent=True)
        if isinstance(found, CallFailed):
            raise found from found.cause
        return found

    async def _attempt(self, seconds: float, ask: Callable[[_Connection], Awaitable[Any]]) -> Any:
        """What the call brings, or how it failed."""
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(seconds):
                connection = await self._grpc.connection()
                return await ask(connection)
        except _FAILURES as exc:
            return self._failed(exc, connection)

    async def _next(self, stream: Stream[Any, Any], connection: _Connection) -> Any:
        """The next answer of a stream, or how it failed."""
        try:
            try:
                answer = await stream.recv_message()
            except StreamTerminatedError:
                # Who ends a stream early says why, and then resets it.
                stream._maybe_raise()  # noqa: SLF001
                raise
            if answer is None:
                stream._maybe_raise()  # noqa: SLF001
        except _FAILURES as exc:
            return self._failed(exc, connection)
        return answer

    def _failed(self, exc: Exception, connection: _Connection | None) -> CallFailed:
        if connection is None:
            return CallFailed(self.endpoint, exc, sent=False)
        if isinstance(exc, NoAvailableStreamIDError):  # a billion calls: the next one connects anew
            connection.processor.close()
        lost = connection.lost if isinstance(exc, StreamTerminatedError) else None
        return CallFailed(self.endpoint, lost or exc, sent=True)


class _Channel(GrpcChannel):
    """grpclib's, with connections as below."""

    def __init__(self, *parts: Any, **options: Any) -> None:
        super().__init__(*parts, **options)
        self._turn = asyncio.Lock()
        self._failures = 0
        self._failure: OSError | None = None
        self._avoided = ""
        self._look_up: asyncio.Future[list[str]] | None = None

    async def connection(self) -> _Connection:
        """The one there is, or a new one that has been answered. Raises OSError."""
        if self._protocol is not None and self._protocol.connection.is_closing():
            self._protocol.handler.close()  # it was lost, and is told so in the loop's next turn
        if not self._connected:
            await self._connect()
        return cast("_Connection", self._protocol)

    async def _connect(self) -> None:
        failures = self._failures
        async with self._turn:
            if self._failure and self._failures > failures:
                raise self._failure.with_traceback(None)  # all who waited for it have failed
            try:
                await self.__connect__()
            except OSError as exc:
                self._failures += 1
                self._failure = exc
                raise

    async def _create_connection(self) -> _Connection:
        failure: OSError | None = None
        # The one that was tried last without success comes last.
        for address in sorted(await self._addresses(), key=lambda each: each == self._avoided):
            self._avoided = address
            try:
                async with asyncio.timeout(_CONNECT_SECONDS):
                    connection = await self._reach(address)
            except OSError as exc:
                failure = exc
            else:
                self._avoided = ""
                return connection
        raise failure or OSError(f"{self._host} has no address")

    async def _addresses(self) -> Collection[str]:
        if ":" in self._host or self._host.rpartition(".")[2].isdigit():
            return [self._host]
        # A resolver may take longer than a call: who calls next waits for the same answer.
        if self._look_up is None:
            self._look_up = self._loop.run_in_executor(None, _resolve, self._host)
        try:
            return await asyncio.shield(self._look_up)
        finally:
            if self._look_up.done():
                self._look_up = None

    async def _reach(self, address: str) -> _Connection:
        name = (self._config.ssl_target_name_override or self._host) if self._ssl else None
        _transport, connection = await self._loop.create_connection(
            lambda: _Connection(Handler(), self._config, self._h2_config),
            address,
            self._port,
            ssl=self._ssl,
            server_hostname=name,
        )
        try:
            await connection.answered
        except BaseException:
            connection.processor.close()
            raise
        return connection


def _resolve(host: str) -> list[str]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_kind, address in found))


class _Connection(H2Protocol):
    """One whose beginning is awaited, whose end is at once, and known."""

    handler: Handler

    def __init__(self, *parts: Any) -> None:
        super().__init__(*parts)
        self.answered = asyncio.get_running_loop().create_future()
        """Done when the other side speaks HTTP/2. Until then no call was sent."""
        self.lost: Exception | None = None
        """Why the connection is no more."""
        self._first = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Who is gone without a word is found by the kernel, whatever was sent to him.
        transport.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(_SILENCE_SECONDS * 1000)
        )
        super().connection_made(_Abrupt(cast("asyncio.Transport", transport), self.handler))
        self.processor.processors[RemoteSettingsChanged] = self._begin

    def _begin(self, event: RemoteSettingsChanged) -> None:
        self.processor.process_remote_settings_changed(event)
        if not self.answered.done():
            self.answered.set_result(None)

    def data_received(self, data: bytes) -> None:
        if self.handler.connection_lost:
            return
        if not self.answered.done():
            self._first += data[:4]
            # h2 would wait for as many bytes as the first ones seem to announce.
            if self._first[3:4] not in {b"", _SETTINGS}:
                self.lost = NotHttp2Error("it does not speak HTTP/2")
                self.processor.close()
                return
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.lost is None:
            self.lost = exc if isinstance(exc, Exception) else ConnectionClosedError("lost")
        if not self.answered.done():
            self.answered.set_exception(self.lost)
            self.answered.exception()  # nobody may be waiting any more
        super().connection_lost(exc)


class _Abrupt(asyncio.Transport):
    """A transport that, once closed, is gone, and the handler knows it.

    What is written in one turn of the loop is sent in one piece: a call is two writes, and many
    calls begin together.
    """

    def __init__(self, transport: asyncio.Transport, handler: Handler) -> None:
        super().__init__()
        self._transport = transport
        self._handler = handler
        self._unsent = bytearray()
        self._greeted = False

    def close(self) -> None:
        self._handler.close()
        self._transport.abort()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self._send)
        self._unsent += data

    def _send(self) -> None:
        if self.is_closing():
            return
        if not self._greeted and self._is_readable():
            # Who refuses says why before he hangs up; to write to him then would fail first.
            asyncio.get_running_loop().call_soon(self._send)
            return
        self._greeted = True
        data, self._unsent = self._unsent, bytearray()
        self._transport.write(data)

    def _is_readable(self) -> bool:
        poll = select.poll()
        poll.register(self.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
