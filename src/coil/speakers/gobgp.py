"""gobgpd, asked and told by its gRPC API: what it knows, whom it tells, what is ours.

GoBGP neither reads nor writes kernel routes; somebody has to give it those of the machine. What
coil gives has the origin IGP. What others add to it (``gobgp global rib add``) has the origin
"incomplete", unless they say otherwise, and is not touched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from coil.speakers import bgp
from coil.speakers.bgp import Address
from coil.speakers.errors import SpeakerRefused, SpeakerUnavailable
from coil.speakers.gobgp_wire import CLASSES, ESTABLISHED, GOBGP_3, GOBGP_4, Dialect
from coil.speakers.pickup import Network, Pickup

_SECONDS = 10.0
"""For one call; a table of 20,000 routes takes one or two."""
_OPTIONS = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_receive_message_length", -1),
    # A gobgpd that is back is found soon: gRPC's own pauses grow to two minutes.
    ("grpc.max_reconnect_backoff_ms", 1_000),
)
_AFI = {4: 1, 6: 2}
_UNICAST = 1
_AWAY = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
_NOT_STARTED = "hasn't started yet"
"""What a gobgpd says that serves and has not read its configuration."""


@dataclass(frozen=True, slots=True)
class Known:
    """A destination that gobgpd knows."""

    ours: bool = False
    """Whether coil announces it here."""
    local: bool = False
    """Whether anybody announces it here: then the kernel has its own way there."""
    gateways: frozenset[Address] = frozenset()
    """All equally good ways by neighbours, if it is not local."""


class Gobgp:
    """A connection. Its methods block; each raises SpeakerUnavailable or SpeakerRefused."""

    def __init__(self, endpoint: str) -> None:
        """``endpoint``: HOST:PORT or unix:PATH, as gobgpd's --api-hosts."""
        self._name = f"gobgpd on {endpoint}"
        self._channel = grpc.insecure_channel(endpoint, options=_OPTIONS)
        self._dialect: Dialect | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Close; ends a watch that is read on another thread. Idempotent."""
        self._channel.close()

    def list_routes(self) -> dict[Network, Known]:
        """All that it knows."""
        found = {}
        for version in _AFI:
            for paths in self._list_paths(version, self._speak().table_global):
                network = bgp.read_network(paths[0].nlri_binary, version)
                found[network] = _read(paths)
        return found

    def announce(self, network: Network, *, origin: int = bgp.IGP) -> None:
        """Have it tell its neighbours that this network is here. Idempotent."""
        self._put("AddPath", network, origin)

    def withdraw(self, network: Network) -> None:
        """Have it not tell so any more. Idempotent."""
        self._put("DeletePath", network, bgp.IGP)

    def watch(self) -> Iterator[None]:
        """Say whenever ways to somewhere have changed, until the connection is lost or closed."""
        dialect = self._speak()
        request = {"table": {"filters": [{"type": dialect.best}]}}
        for _event in self._stream(
            dialect, "WatchEvent", "WatchEventRequest", request, seconds=None
        ):
            yield

    def find_pickups(self, networks: Iterable[Network]) -> list[Pickup]:
        """What it did with each of ``networks``."""
        sessions = self._list_sessions()
        known = self.list_routes()
        return [
            Pickup(
                network,
                learnt=known.get(network, Known()).local,
                announced_to=tuple(s for s in sessions if self._tells(s, network)),
            )
            for network in networks
        ]

    def _list_sessions(self) -> list[str]:
        answers = self._ask("ListPeer", "Empty", {})
        peers = [answer.peer for answer in answers]
        return [
            peer.conf.neighbor_address for peer in peers if peer.state.session_state == ESTABLISHED
        ]

    def _tells(self, session: str, network: Network) -> bool:
        lookup = [{"prefix": str(network), "type": self._speak().exact}]
        table = self._speak().table_adj_out
        found = self._list_paths(network.version, table, name=session, prefixes=lookup)
        return any(not path.filtered for paths in found for path in paths)

    def _list_paths(self, version: int, table: int, **more: object) -> Iterator[list[Any]]:
        """The paths to each destination of a table, the best one first."""
        family = {"afi": _AFI[version], "safi": _UNICAST}
        request = {"table_type": table, "family": family, "enable_only_binary": True, **more}
        for answer in self._ask("ListPath", "ListPathRequest", request):
            if answer.destination.paths:
                yield list(answer.destination.paths)

    def _put(self, method: str, network: Network, origin: int) -> None:
        family = {"afi": _AFI[network.version], "safi": _UNICAST}
        path = {
            "family": family,
            "nlri_binary": bgp.write_network(network),
            "pattrs_binary": bgp.write_own(network, origin),
        }
        request: dict[str, object] = {"table_type": self._speak().table_global, "path": path}
        if method == "DeletePath":
            request["family"] = family
        with self._errors(method):
            self._channel.unary_unary(
                self._speak().method(method),
                request_serializer=_serialize,
                response_deserializer=CLASSES["Empty"].FromString,
            )(CLASSES[f"{method}Request"](**request), timeout=_SECONDS)

    def _speak(self) -> Dialect:
        """The version of the API that it serves; asked once a connection.

        Two threads may ask at the same time, and find the same.
        """
        if self._dialect is None:
            try:
                list(self._stream(GOBGP_4, "ListPeer", "Empty", {}))
            except _UnknownMethod:
                self._dialect = GOBGP_3
            else:
                self._dialect = GOBGP_4
        return self._dialect

    def _ask(self, method: str, asked: str, request: dict[str, Any]) -> Iterator[Any]:
        return self._stream(self._speak(), method, asked, request)

    def _stream(
        self,
        dialect: Dialect,
        method: str,
        asked: str,
        request: dict[str, Any],
        *,
        seconds: float | None = _SECONDS,
    ) -> Iterator[Any]:
        answered = CLASSES.get(f"{method}Response", CLASSES["Empty"])
        with self._errors(method):
            yield from self._channel.unary_stream(
                dialect.method(method),
                request_serializer=_serialize,
                response_deserializer=answered.FromString,
            )(CLASSES[asked](**request), timeout=seconds)

    @contextlib.contextmanager
    def _errors(self, method: str) -> Iterator[None]:
        try:
            yield
        except grpc.RpcError as exc:
            code, details = exc.code(), exc.details()
            if code in _AWAY or _NOT_STARTED in str(details):
                raise SpeakerUnavailable(f"{self._name} does not answer ({details})") from exc
            if code is grpc.StatusCode.UNIMPLEMENTED:
                raise _UnknownMethod(f"{self._name} has no {method}: is it GoBGP 3 or 4?") from exc
            raise SpeakerRefused(f"{self._name} refused {method}: {details}") from exc
        except ValueError as exc:  # what grpc says of a channel that was closed
            raise SpeakerUnavailable(f"{self._name} is not asked any more") from exc


class _UnknownMethod(SpeakerRefused):
    """The API of another version."""


def _serialize(message: Message) -> bytes:
    data: bytes = message.SerializeToString()
    return data


def _read(paths: list[Any]) -> Known:
    usable = [path for path in paths if not (path.filtered or path.is_nexthop_invalid)]
    attributes = [bgp.read_attributes(path.pattrs_binary) for path in usable]
    # A path of this machine has no neighbour, and so no next hop.
    local = [found for found in attributes if found.gateway is None]
    if local:
        return Known(ours=any(found.origin == bgp.IGP for found in local), local=True)
    equal = (found for found in attributes if found.rank == attributes[0].rank)
    return Known(gateways=frozenset(found.gateway for found in equal if found.gateway))


def find_pickups(endpoint: str, networks: Iterable[Network]) -> list[Pickup]:
    """What the gobgpd on ``endpoint`` did with each of ``networks``."""
    with Gobgp(endpoint) as gobgp:
        return gobgp.find_pickups(networks)
