"""HTTP/1.1 over a Unix socket or TCP, for programs that are asked.

One request per connection. A caller that goes away while its request is worked on is noticed:
the request is cancelled if its endpoint says so (an ADD), finished otherwise (a DEL).
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import socket
import stat
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from coil.process.http_wire import BadRequest, RequestReader, encode_head

_log = structlog.get_logger()

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format."""
_READ_SECONDS = 10.0
"""A request must be here by then: callers are local and send at once."""
_BACKLOG = 1024
_RECEIVE_BYTES = 1 << 16
_PAUSE_SECONDS = 1.0

FileId = tuple[int, int]
"""Device and inode."""


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
    headers: Mapping[bytes, bytes]
    """By their names in lower case."""
    body: bytes
    caller: Caller

    def header(self, name: str) -> str:
        """A header's value; empty when it is not there."""
        return self.headers.get(name.encode(), b"").decode("latin-1")


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer; the body is sent as it is."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(
    status: int, value: object, headers: Mapping[str, str] | None = None
) -> HttpResponse:
    """An answer in JSON, one line."""
    return HttpResponse(status, json.dumps(value).encode() + b"\n", headers=headers or {})


@dataclass(frozen=True, slots=True)
class HttpStream:
    """An answer whose end is not known, sent as it comes; cancelled when the caller goes away.

    The next chunk is asked for when the caller has taken the one before, but for what the kernel
    holds: for a slow caller nothing piles up here.
    """

    chunks: AsyncGenerator[bytes, None]
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[HttpRequest], Awaitable[HttpResponse | HttpStream]]


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
    """Listens; serves each connection in a task of its own.

    Plain sockets and not asyncio's transports: a connection is one read, one write and a close, and
    what transports do beside that is a tenth of an ADD.
    """

    def __init__(self, router: Router) -> None:
        self._router = router
        self._group = asyncio.TaskGroup()
        self._listening: list[socket.socket] = []
        self._files: dict[Path, tuple[FileId | None, socket.socket]] = {}
        """The Unix sockets, and the files they were bound to."""
        self._reading: set[asyncio.Task[None]] = set()
        self._serving: set[asyncio.Task[None]] = set()
        self._requests = itertools.count(1)

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
        self._listen_unix(path)

    def listen_again(self, path: Path) -> bool:
        """As ``listen_unix``, where what has that name is not its socket any more; whether so.

        Raises ListenError, also when somebody else serves there by now.
        """
        found, sock = self._files[path]
        if _find_file(path) == found:
            return False
        self._listen_unix(path)
        self._close(sock)
        return True

    def _listen_unix(self, path: Path) -> None:
        try:
            _check_unserved(path)
            sock, found = _bind_unix(path)
        except OSError as exc:
            raise ListenError(f"cannot listen on {path}: {exc.strerror or exc}") from exc
        self._files[path] = found, sock
        self._listen(sock, self._router)

    async def listen_tcp(self, host: str, port: int, router: Router) -> int:
        """Listen on TCP with a router of its own; returns the port (0: any). Raises ListenError."""
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            for family, address in {(family, address) for family, *_kind, address in found}:
                sock = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
                self._listen(sock, router)
        except OSError as exc:
            raise ListenError(f"cannot listen on {host}:{port}: {exc.strerror or exc}") from exc
        return int(self._listening[-1].getsockname()[1])

    def _listen(self, sock: socket.socket, router: Router) -> None:
        sock.settimeout(0)
        self._listening.append(sock)
        asyncio.get_running_loop().add_reader(sock, self._accept, sock, router)

    def _accept(self, listening: socket.socket, router: Router) -> None:
        """Take one connection; the loop calls again while more are waiting."""
        try:
            sock, _peer = listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        except OSError as exc:
            self._pause(listening, router, reason=str(exc))
            return
        sock.settimeout(0)
        task = self._group.create_task(self._converse(sock, router))
        self._reading.add(task)
        task.add_done_callback(self._reading.discard)

    def _pause(self, listening: socket.socket, router: Router, *, reason: str) -> None:
        """No descriptor is free, or no memory: callers wait in the backlog for a moment."""
        _log.error("cannot accept connections", reason=reason)
        loop = asyncio.get_running_loop()
        loop.remove_reader(listening)
        loop.call_later(_PAUSE_SECONDS, self._resume, listening, router)

    def _resume(self, listening: socket.socket, router: Router) -> None:
        if listening in self._listening:
            asyncio.get_running_loop().add_reader(listening, self._accept, listening, router)

    def _close(self, listening: socket.socket) -> None:
        self._listening.remove(listening)
        asyncio.get_running_loop().remove_reader(listening)
        listening.close()

    async def _drain(self, seconds: float) -> None:
        """Accept no more, finish what is in flight, drop what takes longer."""
        for sock in [*self._listening]:
            self._close(sock)
        for task in self._reading:
            task.cancel()
        if self._serving:
            _done, late = await asyncio.wait(self._serving, timeout=seconds)
            for task in late:
                task.cancel()

    async def _converse(self, sock: socket.socket, router: Router) -> None:
        """One connection: a request, its answer, the end."""
        with sock, contextlib.suppress(OSError, TimeoutError, CallerGone):
            reader = RequestReader()
            try:
                await _receive(sock, reader)
            except BadRequest as exc:
                response: HttpResponse | HttpStream = json_response(exc.status, {"error": str(exc)})
            else:
                response = await self._serve(sock, reader, router)
            if isinstance(response, HttpStream):
                await self._stream(sock, response)
                return
            head = encode_head(
                response.status, response.content_type, response.headers, len(response.body)
            )
            # The answer to a HEAD may have no body (RFC 9110, 9.3.2).
            body = b"" if reader.method == "HEAD" else response.body
            await asyncio.get_running_loop().sock_sendall(sock, head + body)

    async def _stream(self, sock: socket.socket, stream: HttpStream) -> None:
        """Send until there is no more; the end of the connection is the end of the body."""
        loop, task = asyncio.get_running_loop(), _this_task()
        self._serving.add(task)
        try:
            async with contextlib.aclosing(stream.chunks) as chunks:
                with _cancelled_with_caller(sock, task):
                    await loop.sock_sendall(
                        sock, encode_head(200, stream.content_type, stream.headers)
                    )
                    async for chunk in chunks:
                        await loop.sock_sendall(sock, chunk)
        finally:
            self._serving.discard(task)

    async def _serve(
        self, sock: socket.socket, reader: RequestReader, router: Router
    ) -> HttpResponse | HttpStream:
        found = router.find(reader.method, reader.path)
        if isinstance(found, HttpResponse):
            return found
        request = HttpRequest(
            reader.method, reader.path, reader.query, reader.headers, reader.body, Caller(sock)
        )
        task = _this_task()
        self._reading.discard(task)
        self._serving.add(task)
        # The task ends with the request, and its context with it.
        structlog.contextvars.bind_contextvars(request_id=next(self._requests))
        try:
            if not found.ends_with_caller(request):
                return await found.handler(request)
            with _cancelled_with_caller(sock, task):
                return await found.handler(request)
        except CallerGone:
            _log.info("caller is gone", path=request.path)
            raise
        except Exception:  # noqa: BLE001 - the edge: a bug must not end the daemon
            _log.exception("bug while serving a request", path=request.path)
            return HttpResponse(500, b'{"error": "internal error; see the log"}\n')
        finally:
            self._serving.discard(task)


async def _receive(sock: socket.socket, reader: RequestReader) -> None:
    """Read until the request is whole. Raises BadRequest; CallerGone, TimeoutError: it never is."""
    with contextlib.suppress(BlockingIOError):  # as a rule all is here already
        if reader.feed(_some(sock.recv(_RECEIVE_BYTES))):
            return
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(_READ_SECONDS):
        while not reader.feed(_some(await loop.sock_recv(sock, _RECEIVE_BYTES))):
            pass


def _some(received: bytes) -> bytes:
    """What was received, if the sender's end is still open. Raises CallerGone."""
    if not received:
        raise CallerGone
    return received


@contextlib.contextmanager
def _cancelled_with_caller(sock: socket.socket, task: asyncio.Task[None]) -> Iterator[None]:
    """Have ``task`` cancelled when the other end of ``sock`` is closed.

    Watched from the loop's next turn on: by then most are through.
    """
    loop = asyncio.get_running_loop()
    fileno = sock.fileno()

    def look() -> None:
        try:
            gone = sock.recv(_RECEIVE_BYTES) == b""  # else it says more than it should: ignored
        except BlockingIOError:
            return
        except OSError:
            gone = True
        if gone:
            loop.remove_reader(fileno)
            task.cancel()

    watching = loop.call_soon(loop.add_reader, fileno, look)
    try:
        yield
    finally:
        watching.cancel()
        loop.remove_reader(fileno)


def _this_task() -> asyncio.Task[None]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - only coroutines of tasks ask
    return task


def _check_unserved(path: Path) -> None:
    """Raise ListenError when somebody serves on the socket already."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    with probe, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        probe.setblocking(False)  # noqa: FBT003 - whoever serves may be stopped, its backlog full
        probe.connect(str(path))
        raise ListenError(f"somebody serves on {path} already; give each coild its --socket")


def _find_file(path: Path) -> FileId | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _bind_unix(path: Path) -> tuple[socket.socket, FileId | None]:
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
        found = _find_file(temporary)
        temporary.rename(path)
    except BaseException:
        sock.close()
        temporary.unlink(missing_ok=True)
        raise
    return sock, found
