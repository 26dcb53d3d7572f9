"""HTTP/1.1 over a Unix socket or TCP, for programs that are asked. h11 does the protocol.

One request per connection. A caller that goes away while its request is worked on is noticed:
the request is cancelled if its endpoint says so (an ADD), finished otherwise (a DEL).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import h11
import structlog

_log = structlog.get_logger()

_MOST_BODY = 1 << 20
_MOST_HEAD = 1 << 20
"""Bytes. An environment string is at most 128 KiB (MAX_ARG_STRLEN) and triples when encoded."""
_READ_SECONDS = 10.0
"""A request must be here by then: callers are local and send at once."""
_BACKLOG = 1024


class ListenError(Exception):
    """Nobody can be served there; the message says where and why."""


class CallerGone(Exception):
    """Whoever asked is not there any more."""


@dataclass(slots=True)
class Caller:
    """The other end of a connection."""

    sock: socket.socket

    def check(self) -> None:
        """Raise CallerGone when the caller has closed its end.

        Asks the kernel and not the loop: what is queued there may not have been read yet.
        """
        try:
            if self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"":
                raise CallerGone
        except BlockingIOError:
            return
        except OSError as exc:
            raise CallerGone from exc


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A complete request."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes
    caller: Caller


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer; the body is sent as it is."""

    status: int
    body: bytes
    content_type: str = "application/json"


Handler = Callable[[HttpRequest], Awaitable[HttpResponse]]


def _never(_request: HttpRequest) -> bool:
    return False


@dataclass(slots=True)
class Endpoint:
    """What serves a (method, path)."""

    handler: Handler
    ends_with_caller: Callable[[HttpRequest], bool] = _never
    """Whether to cancel a request when its caller goes away."""


class Router:
    """Endpoints by method and path; never raises for what a caller sent."""

    def __init__(self, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        self._endpoints = dict(endpoints)

    def find(self, method: str, path: str) -> Endpoint | HttpResponse:
        """The endpoint, or the answer 404 or 405."""
        endpoint = self._endpoints.get((method, path))
        if endpoint is not None:
            return endpoint
        methods = [known for known, at in self._endpoints if at == path]
        if methods:
            return HttpResponse(405, b'{"error": "use method %s"}\n' % methods[0].encode())
        return HttpResponse(404, b'{"error": "no such path"}\n')


class Server:
    """Listens; hands each request to the router in a task of its own."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._group = asyncio.TaskGroup()
        self._servers: list[asyncio.Server] = []
        self._connections: set[_Connection] = set()

    @contextlib.asynccontextmanager
    async def serving(self, drain_seconds: float):  # type: ignore[no-untyped-def]  # noqa: ANN201
        """While inside, requests are served; at the end those in flight are finished."""
        async with self._group:
            try:
                yield
            finally:
                await self._drain(drain_seconds)

    async def listen_unix(self, path: Path) -> None:
        """Listen on a socket of mode 0600, put in place of an old one in one step.

        Raises ListenError when it can't be made there.
        """
        try:
            _check_unserved(path)
            sock = _bind_unix(path)
        except OSError as exc:
            raise ListenError(f"cannot listen on {path}: {exc.strerror or exc}") from exc
        loop = asyncio.get_running_loop()
        self._servers.append(
            await loop.create_unix_server(
                lambda: self._connect(self._router), sock=sock, backlog=_BACKLOG
            )
        )

    async def listen_tcp(self, host: str, port: int, router: Router) -> None:
        """Listen on TCP with a router of its own. Raises ListenError."""
        loop = asyncio.get_running_loop()
        try:
            self._servers.append(
                await loop.create_server(lambda: self._connect(router), host, port)
            )
        except OSError as exc:
            raise ListenError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc

    def _connect(self, router: Router) -> _Connection:
        return _Connection(router, self._group, self._connections)

    async def _drain(self, seconds: float) -> None:
        """Accept no more, finish what is in flight, drop what takes longer."""
        for server in self._servers:
            server.close()
        tasks = [c.task for c in self._connections if c.task is not None]
        if tasks:
            _done, late = await asyncio.wait(tasks, timeout=seconds)
            for task in late:
                task.cancel()
        for connection in list(self._connections):
            connection.abort_idle()


class _Connection(asyncio.Protocol):
    """One connection, one request."""

    def __init__(
        self, router: Router, group: asyncio.TaskGroup, connections: set[_Connection]
    ) -> None:
        self._router = router
        self._group = group
        self._connections = connections
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=_MOST_HEAD)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._ends_with_caller = False
        self._reading_until: asyncio.TimerHandle | None = None
        self.task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - asyncio's own promise
        self._transport = transport
        self._connections.add(self)
        loop = asyncio.get_running_loop()
        self._reading_until = loop.call_later(_READ_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        if self.task is not None:
            return  # pipelined requests are not served: one request per connection
        try:
            self._h11.receive_data(data)
            self._advance()
        except h11.RemoteProtocolError as exc:
            self._refuse(exc.error_status_hint, str(exc))
        except ValueError as exc:  # a target that is no URL, or a query of too many fields
            self._refuse(400, str(exc))

    def _advance(self) -> None:
        while True:
            event = self._h11.next_event()
            if isinstance(event, h11.Request):
                self._request = event
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > _MOST_BODY:
                    self._refuse(413, f"a body may have {_MOST_BODY} bytes")
                    return
            elif isinstance(event, h11.EndOfMessage):
                self._start()
                return
            else:
                return

    def _start(self) -> None:
        assert self._request is not None  # noqa: S101 - h11's order of events
        self._cancel_timer()
        target = urlsplit(self._request.target.decode("latin-1"))
        method = self._request.method.decode("latin-1")
        found = self._router.find(method, target.path)
        if isinstance(found, HttpResponse):
            self._answer(found)
            return
        pairs = parse_qsl(
            target.query, keep_blank_values=True, errors="surrogateescape", max_num_fields=64
        )
        sock = self._transport.get_extra_info("socket")
        # asyncio's TransportSocket lacks recv(); the descriptor is the same.
        caller = Caller(sock._sock)  # noqa: SLF001
        request = HttpRequest(method, target.path, dict(pairs), bytes(self._body), caller)
        self._ends_with_caller = found.ends_with_caller(request)
        self.task = self._group.create_task(self._serve(found.handler, request))

    async def _serve(self, handler: Handler, request: HttpRequest) -> None:
        try:
            self._answer(await handler(request))
        except CallerGone:
            _log.info("caller is gone", path=request.path)
            self._transport.abort()
        except asyncio.CancelledError:
            self._transport.abort()
            raise
        except Exception:  # noqa: BLE001 - the edge: a bug must not end the daemon
            _log.exception("bug while serving a request", path=request.path)
            self._answer(HttpResponse(500, b'{"error": "internal error; see the log"}\n'))

    def _answer(self, response: HttpResponse) -> None:
        if self._transport.is_closing():
            return
        head = h11.Response(
            status_code=response.status,
            headers=[
                ("Content-Type", response.content_type),
                ("Content-Length", str(len(response.body))),
                ("Connection", "close"),
            ],
        )
        body = b"" if self._is_head() else response.body
        self._transport.write(
            (self._h11.send(head) or b"")
            + (self._h11.send(h11.Data(data=body)) or b"")
            + (self._h11.send(h11.EndOfMessage()) or b"")
        )
        self._transport.close()

    def _is_head(self) -> bool:
        """Whether the answer may have no body (RFC 9110, 9.3.2)."""
        return self._request is not None and self._request.method == b"HEAD"

    def _refuse(self, status: int, reason: str) -> None:
        self._cancel_timer()
        if self._h11.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer(HttpResponse(status, json.dumps({"error": reason}).encode() + b"\n"))
        else:
            self._transport.abort()

    def eof_received(self) -> bool:
        """The caller closed its end: it is gone, or reads on after a half-close."""
        if self.task is not None and self._ends_with_caller:
            self.task.cancel()
        return self.task is not None

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - its place
        self._cancel_timer()
        self._connections.discard(self)
        if self.task is not None and self._ends_with_caller:
            self.task.cancel()

    def _cancel_timer(self) -> None:
        if self._reading_until is not None:
            self._reading_until.cancel()
            self._reading_until = None

    def abort_idle(self) -> None:
        """Drop a connection that has sent no whole request."""
        if self.task is None:
            self._transport.abort()


def _check_unserved(path: Path) -> None:
    """Raise ListenError when somebody serves on the socket already."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with probe, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        probe.connect(str(path))
        raise ListenError(f"somebody serves on {path} already; give each coild its --socket")


def _bind_unix(path: Path) -> socket.socket:
    """Bind under a temporary name, restrict, listen, rename: nobody meets a half-made socket."""
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(17, "there is something else of that name")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.bind(str(temporary))
        temporary.chmod(0o600)
        sock.listen(_BACKLOG)
        temporary.rename(path)
    except BaseException:
        sock.close()
        temporary.unlink(missing_ok=True)
        raise
    return sock
