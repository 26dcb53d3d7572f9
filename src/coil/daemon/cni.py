"""The CNI edge of coild: ``POST /cni`` with the variables as query and the netconf as body."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

import structlog

from coil.cni import errors, result, versions
from coil.cni.netconf import Netconf, decode, version_of
from coil.cni.request import Command, Request, parse_request, printable
from coil.daemon.attach import AddCall, Attacher
from coil.daemon.collect import Collector
from coil.daemon.fetch import DEFAULT_POOL, BlockFetcher
from coil.daemon.inventory import Inventory
from coil.daemon.metrics import Metrics
from coil.domain.attachment import Attachment, AttachmentKey
from coil.domain.errors import CoilError, PoolCordoned
from coil.domain.names import MAX_CONTAINER_ID, MAX_IFNAME
from coil.nodenet.plan import GATEWAYS, HOST_MAC
from coil.process.http import CallerGone, Endpoint, HttpRequest, HttpResponse, json_response
from coil.process.problems import Problems

_log = structlog.get_logger()
Json = dict[str, object]


class CniEndpoint:
    """Serves all verbs; every failure becomes an error object of the specification."""

    def __init__(
        self,
        *,
        attacher: Attacher,
        collector: Collector,
        inventory: Inventory,
        fetcher: BlockFetcher,
        metrics: Metrics,
        problems: Problems,
    ) -> None:
        self._attacher = attacher
        self._collector = collector
        self._inventory = inventory
        self._fetcher = fetcher
        self._metrics = metrics
        self._problems = problems

    def endpoints(self) -> Mapping[tuple[str, str], Endpoint]:
        """For the router. An ADD ends with its caller; all else is finished whoever listens."""
        return {("POST", "/cni"): Endpoint(self._serve, ends_with_caller=_is_add)}

    async def _serve(self, http: HttpRequest) -> HttpResponse:
        command = http.query.get("CNI_COMMAND", "")
        started = time.perf_counter()
        code = 0
        try:
            request = parse_request(http.query, http.body)
            async with asyncio.timeout(request.netconf.timeout):
                body = await self._carry_out(request, http)
            response = json_response(200, body) if body else HttpResponse(200, b"")
        except CallerGone:
            raise
        except Exception as exc:  # noqa: BLE001 - the edge: every failure has its answer
            code = int(errors.code_of(exc, command))
            response = _refusal(exc, command, http)
        known = command in Command.__members__
        self._metrics.count(command if known else "?", code, time.perf_counter() - started)
        return response

    async def _carry_out(self, request: Request, http: HttpRequest) -> Json | None:
        match request.command:
            case Command.ADD:
                return await self._do_add(request, http)
            case Command.DEL:
                await self._attacher.delete(_key(request), request.netconf.name)
            case Command.CHECK:
                await self._do_check(request)
            case Command.GC:
                valid = request.netconf.valid_attachments
                if valid is not None:
                    await self._collector.collect_invalid(request.netconf.name, valid)
            case Command.STATUS:
                self._do_status(request)
            case Command.VERSION:
                return result.version_reply(request.netconf.version)
        return None

    async def _do_add(self, request: Request, http: HttpRequest) -> Json:
        netconf, key = request.netconf, _key(request)
        previous = netconf.prev_result
        if previous is not None:
            result.to_json(result.Result((), ()), netconf.version, previous)  # refuse early
        call = AddCall(key, request.netns, netconf.name, netconf.pool, netconf.mtu, request.pod)
        attachment = await self._attacher.add(call, http.caller.check)
        return result.to_json(_result(attachment, netconf), netconf.version, previous)

    async def _do_check(self, request: Request) -> None:
        key, previous = _key(request), request.netconf.prev_result or {}
        attachment = self._attacher.get(key, request.netconf.name)
        told = result.addresses_on(previous, key.ifname, request.netns)
        missing = [str(address) for address in attachment.addresses if address not in told]
        if missing:
            raise errors.Unhealthy(
                f"prevResult does not give {key.ifname} its address {', '.join(missing)}"
            )
        # A later plugin of the chain may have taken the default route over (vrf).
        gateways = result.default_gateways(previous)
        faults = await self._attacher.faults(key, request.netns, gateways=gateways)
        if faults:
            raise errors.Unhealthy(f"attachment {key}: {'; '.join(faults)}")

    def _do_status(self, request: Request) -> None:
        """Fail when an ADD could not get an address, or the host's network cannot be mended.

        Reads memory only: it is asked all day. A store that is away fails nothing that is owned.
        """
        for found in self._problems.list():
            if found["kind"] == "kernel":
                raise errors.Limited(f"the node's network cannot be mended: {found['problem']}")
            if found["kind"] == "journal":
                raise errors.NotAvailable(found["problem"])
        wanted = request.netconf.pool
        if wanted is None and self._inventory.pools and DEFAULT_POOL not in self._inventory.pools:
            return  # pools by namespace only: which one a pod will want is not known
        pool = self._inventory.get_pool(wanted or DEFAULT_POOL)
        self._inventory.check_fit(pool)
        if pool.cordoned:
            raise PoolCordoned(f"pool {pool.name} is cordoned and gives no addresses")
        if self._inventory.free_count(pool) == 0 and pool.name in self._fetcher.faults:
            raise errors.NotAvailable(
                f"no address of pool {pool.name} is free on this node: "
                f"{self._fetcher.faults[pool.name].message}"
            )


def _is_add(http: HttpRequest) -> bool:
    return http.query.get("CNI_COMMAND") == Command.ADD.value


def _key(request: Request) -> AttachmentKey:
    if request.key is None:  # parse_request() has made sure
        raise CoilError(f"{request.command.value} without an attachment")
    return request.key


def _result(attachment: Attachment, netconf: Netconf) -> result.Result:
    return result.Result(
        interfaces=(
            result.Interface(attachment.host_ifname, HOST_MAC, attachment.mtu),
            result.Interface(
                attachment.key.ifname, attachment.mac, attachment.mtu, attachment.netns.path
            ),
        ),
        addresses=attachment.addresses,
        gateways=GATEWAYS,
        dns=netconf.dns,
    )


def _refusal(exc: Exception, command: str, http: HttpRequest) -> HttpResponse:
    code = errors.code_of(exc, command)
    named = {
        "command": printable(command)[:20],
        "container_id": printable(http.query.get("CNI_CONTAINERID", ""))[:MAX_CONTAINER_ID],
        "ifname": printable(http.query.get("CNI_IFNAME", ""))[:MAX_IFNAME],
    }
    if code is errors.Code.BUG:
        _log.error("bug while serving a CNI request", **named, exc_info=exc)
    else:
        _log.warning("cni request refused", **named, code=int(code), reason=str(exc))
    found = errors.to_json(exc, _version_for(http.body), command)
    return json_response(400 if code < errors.Code.TRY_AGAIN else 503, found)


def _version_for(body: bytes) -> str:
    """The version an error is written in: the netconf's, where it can be told."""
    try:
        return version_of(decode(body))
    except CoilError:
        return versions.NEWEST
