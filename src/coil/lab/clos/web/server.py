"""What browsers ask: the page, the stream of what happens, and verbs, the same as coil-lab's."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from coil.domain.errors import CoilError, RequestError
from coil.lab.clos import fabric
from coil.lab.clos.fail import PARTS, Part
from coil.lab.clos.lab import Lab
from coil.lab.clos.web.board import Board
from coil.lab.clos.web.pings import Pings
from coil.lab.clos.web.watch import Watcher
from coil.lab.errors import LabError
from coil.process.http import (
    Endpoint,
    HttpRequest,
    HttpResponse,
    HttpStream,
    ListenError,
    Router,
    Server,
    json_response,
)
from coil.process.supervise import Supervisor, supervise

Json = dict[str, Any]
Answer = HttpResponse | HttpStream
T = TypeVar("T")
Verb = Callable[[Json], Awaitable[None]]

_PAGE = Path(__file__).parent / "page"
_TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript"}
_LOOPBACK = ("127.0.0.1", "::1")
_NAMES = {*_LOOPBACK, "localhost"}
_THREADS = 32
"""Healing takes seconds, and waits for more than it computes."""
_HEADERS = {
    # Nothing from elsewhere, and in nobody's frame, where clicks could be led astray.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


async def serve(lab: Lab, port: int, announce: Callable[[str], None]) -> None:
    """Serve the page until SIGINT or SIGTERM; ``announce`` is told its URL.

    Raises NoLab when there is no such lab now, and LabError where the port is not free. A lab that
    goes away later, or comes back, is shown as such.
    """
    lab.files.get_shape()

    async def run(supervisor: Supervisor) -> None:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(_THREADS))
        board = Board()
        watcher = Watcher(lab, board)
        pings = Pings(lab, board, watcher)
        router = Router(Pages(lab, board, watcher, pings).endpoints())
        server = Server(router)
        async with pings.running(), server.serving(0):
            announce(await _listen(server, router, port))
            supervisor.spawn("watch the lab", watcher.run)
            await supervisor.wait_stopping()

    await supervise(run)


async def _listen(server: Server, router: Router, port: int) -> str:
    """Listen on loopback, IPv6 where there is any; returns the URL. Raises LabError."""
    first, second = _LOOPBACK
    try:
        found = await server.listen_tcp(first, port, router)
        if socket.has_dualstack_ipv6():
            await server.listen_tcp(second, found, router)
    except ListenError as exc:
        raise LabError(f"{exc}; choose another --port (0: any that is free)") from exc
    return f"http://{first}:{found}/"


class Pages:
    """The endpoints. Every request must have been meant for this very page (``_check``)."""

    def __init__(self, lab: Lab, board: Board, watcher: Watcher, pings: Pings) -> None:
        self._lab = lab
        self._board = board
        self._watcher = watcher
        self._pings = pings

    def endpoints(self) -> dict[tuple[str, str], Endpoint]:
        """For the router."""
        files = {f"/{path.name}": path for path in _PAGE.iterdir() if path.suffix in _TYPES}
        files["/"] = files.pop("/index.html")
        verbs: dict[str, Verb] = {
            "/fail": self._fail,
            "/heal": self._heal,
            "/pods/add": self._add_pod,
            "/pods/delete": self._delete_pod,
            "/pings/start": self._start_ping,
            "/pings/stop": self._stop_ping,
        }
        return {
            **{("GET", name): Endpoint(_guarded(_file(path))) for name, path in files.items()},
            ("GET", "/stream"): Endpoint(_guarded(self._stream)),
            ("GET", "/routes"): Endpoint(_guarded(self._routes)),
            **{("POST", name): Endpoint(_guarded(self._does(do))) for name, do in verbs.items()},
        }

    async def _stream(self, _request: HttpRequest) -> Answer:
        return HttpStream(self._board.stream(), "text/event-stream", _HEADERS)

    async def _routes(self, request: HttpRequest) -> Answer:
        """The kernel's routes of a machine, all families, as ip(8) tells them."""
        machine = self._lab.plan.get_machine(request.query.get("machine", ""))
        host = self._lab.files.host(machine)
        rows: list[Json] = []
        if fabric.exists(host):
            for version in self._lab.plan.shape.families:
                rows += await asyncio.to_thread(host.ip, f"-{version}", "route", "show")
        return _reply(200, rows)

    def _does(self, verb: Verb) -> Callable[[HttpRequest], Awaitable[Answer]]:
        async def handle(request: HttpRequest) -> Answer:
            try:
                await verb(_parse(request.body))
            finally:
                self._watcher.wake()
            return _reply(200, {})

        return handle

    async def _fail(self, said: Json) -> None:
        part, names = _part(said)
        await asyncio.to_thread(part.fail, self._lab.faults, *names)

    async def _heal(self, said: Json) -> None:
        part, names = _part(said)
        await asyncio.to_thread(part.heal, self._lab.faults, *names)

    async def _add_pod(self, said: Json) -> None:
        name, node = _get(said, "name", str), _get(said, "node", str)
        await asyncio.to_thread(self._lab.add_pod, name, node)

    async def _delete_pod(self, said: Json) -> None:
        await asyncio.to_thread(self._lab.delete_pod, _get(said, "name", str))

    async def _start_ping(self, said: Json) -> None:
        source, target = (self._lab.get_pod(_get(said, end, str)) for end in ("source", "target"))
        self._pings.start(source, target, _get(said, "version", int))

    async def _stop_ping(self, said: Json) -> None:
        self._pings.stop(_get(said, "key", int))


def _part(said: Json) -> tuple[Part, list[str]]:
    """What is to fail or to be healed, and its name or ends. Raises RequestError."""
    part, names = PARTS.get(_get(said, "part", str)), _get(said, "names", list)
    if part is None or len(names) != len(part.arguments):
        raise RequestError(f"a lab has no part {said}; it has {', '.join(PARTS)}")
    return part, list(map(str, names))


def _get(said: Json, key: str, kind: type[T]) -> T:
    value = said.get(key)
    if not isinstance(value, kind):
        raise RequestError(f"the request must say {key!r}, of type {kind.__name__}")
    return value


def _parse(body: bytes) -> Json:
    try:
        said = json.loads(body)
    except ValueError as exc:
        raise RequestError(f"the request is not JSON: {exc}") from exc
    if not isinstance(said, dict):
        raise RequestError("the request is not a JSON object")
    return said


def _file(path: Path) -> Callable[[HttpRequest], Awaitable[Answer]]:
    response = HttpResponse(200, path.read_bytes(), _TYPES[path.suffix], _HEADERS)

    async def handle(_request: HttpRequest) -> Answer:
        return response

    return handle


def _guarded(
    handler: Callable[[HttpRequest], Awaitable[Answer]],
) -> Callable[[HttpRequest], Awaitable[Answer]]:
    """Refuse what another site made a browser ask, and tell errors as sentences."""

    async def handle(request: HttpRequest) -> Answer:
        refused = _find_intruder(request)
        if refused:
            return _reply(403, {"error": refused})
        try:
            return await handler(request)
        except CoilError as exc:
            return _reply(400 if isinstance(exc, RequestError) else 409, {"error": exc.message})

    return handle


def _find_intruder(request: HttpRequest) -> str:
    """Why a request is not this page's own; empty when it is.

    A name of another site that leads here (DNS rebinding) stands in Host. A site that sends a
    request here stands in Origin, which browsers send with every POST; and JSON is nothing that a
    form can send.
    """
    host, origin = request.header("host"), request.header("origin")
    if urlsplit(f"//{host}").hostname not in _NAMES:
        return f"this page is http://localhost, not {host!r}"
    if origin and origin != f"http://{host}":
        return f"{origin!r} has nothing to say here"
    if request.method == "POST" and request.header("content-type") != "application/json":
        return "only JSON is understood"
    return ""


def _reply(status: int, value: object) -> HttpResponse:
    return json_response(status, value, _HEADERS)
