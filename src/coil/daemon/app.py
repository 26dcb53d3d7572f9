"""Composition of coild: the only place that knows every part."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import structlog

from coil.daemon.api import Api
from coil.daemon.attach import Attacher
from coil.daemon.blocks import BlockKeeper
from coil.daemon.cni import CniEndpoint
from coil.daemon.collect import Collector
from coil.daemon.events import EventWatcher
from coil.daemon.fetch import BlockFetcher
from coil.daemon.inventory import Inventory
from coil.daemon.isolation import Isolation
from coil.daemon.listening import keep_listening
from coil.daemon.locks import AttachmentLocks
from coil.daemon.metrics import Metrics
from coil.daemon.opener import NetnsOpener
from coil.daemon.ownership import Ownership
from coil.daemon.presence import Presence
from coil.daemon.rack import Rack
from coil.daemon.recover import Recoverer
from coil.daemon.repair import Repairer
from coil.daemon.report import Reporter
from coil.daemon.settings import Settings
from coil.daemon.steps import StepHook, no_step
from coil.daemon.uplink import UplinkMtu
from coil.daemon.vigil import Vigil
from coil.daemon.workers import Workers
from coil.domain.errors import CoilError, ConfigError, NodeNameTaken
from coil.domain.names import NodeName
from coil.journal.journal import Journal
from coil.journal.schema import JournaledBlock
from coil.nodenet.removal import LinkRemover
from coil.process import clock
from coil.process.beat import Beat
from coil.process.http import ListenError, Router, Server
from coil.process.notify import Notifier
from coil.process.problems import Problems
from coil.process.supervise import Supervisor
from coil.store.contract import Store
from coil.store.open import shown_url

_log = structlog.get_logger()

_DRAIN_SECONDS = 10.0
"""How long the end waits for requests in flight; systemd's TimeoutStopSec is longer."""


@dataclass(slots=True)
class _Base:
    """What all parts stand on."""

    settings: Settings
    store: Store
    journal: Journal
    inventory: Inventory
    workers: Workers
    remover: LinkRemover
    step: StepHook
    beat: Beat
    problems: Problems
    rack: Rack
    alarm: asyncio.Event = field(default_factory=asyncio.Event)
    """Whether the vigil is to look at once."""
    locks: AttachmentLocks = field(default_factory=AttachmentLocks)
    opener: NetnsOpener = field(default_factory=NetnsOpener)


@dataclass(slots=True)
class _Parts:
    """What the start wires together."""

    ownership: Ownership
    vigil: Vigil
    repairer: Repairer
    fetcher: BlockFetcher
    collector: Collector
    watcher: EventWatcher
    api: Api
    cni: CniEndpoint
    mtu: UplinkMtu
    rack: Rack


async def run(
    settings: Settings, store: Store, supervisor: Supervisor, step: StepHook = no_step
) -> None:
    """Be coild until told to stop. Raises ConfigError for what prevents a start.

    What may pass by itself is another CoilError: the next start may succeed.
    """
    journal = Journal.open(settings.state_dir, boot_id=clock.boot_id())
    with contextlib.closing(journal):
        inventory = _load(journal, settings.node_name)
        async with _threads() as (workers, remover):
            beat, problems = Beat(settings.period), Problems()
            rack = _rack(settings, store, problems)
            base = _Base(
                settings, store, journal, inventory, workers, remover, step, beat, problems, rack
            )
            parts = _compose(base)
            await _reconcile(parts, supervisor)
            if parts.ownership.name_taken and not inventory.attachments:
                raise NodeNameTaken(parts.ownership.name_taken)
            await _serve(base, parts, supervisor)


def _load(journal: Journal, node: NodeName) -> Inventory:
    """The inventory as the journal has it; attachments of an earlier boot have ended with it."""
    if journal.kept_aside:
        _log.error(
            "journal could not be read and was kept aside", kept_aside=str(journal.kept_aside)
        )
    inventory = Inventory(clock.boottime)
    state = journal.load()
    if journal.rebooted:
        _log.warning("machine was rebooted", ended_attachments=len(state.attachments))
        journal.remove_attachments(state.attachments, freed_at=0.0)
        state = journal.load()
    _check_node(journal, state.blocks, node)
    inventory.pools = inventory.with_pools(state.pools)
    for attachment in state.attachments:
        inventory.put_attachment(attachment)
    for journaled in state.blocks:
        claim = journaled.claim
        owned = inventory.add_block(claim, state.freed.get(claim.id, {}), known=True)
        owned.releasing = journaled.releasing
    return inventory


def _check_node(journal: Journal, blocks: Sequence[JournaledBlock], node: NodeName) -> None:
    """Under another name all blocks would be fenced, and all pods cut off."""
    others = {block.claim.node for block in blocks} - {node}
    if others:
        raise ConfigError(
            f"the journal {journal.path} is that of node {', '.join(sorted(others))}; use "
            "--node-name with that name, or another --state-dir"
        )


@contextlib.asynccontextmanager
async def _threads() -> AsyncIterator[tuple[Workers, LinkRemover]]:
    workers, remover = Workers(), LinkRemover()
    try:
        yield workers, remover
    finally:
        await asyncio.to_thread(remover.close)
        await asyncio.to_thread(workers.close)


def _compose(base: _Base) -> _Parts:
    settings, inventory, workers = base.settings, base.inventory, base.workers
    keeper = BlockKeeper(
        node=settings.node_name,
        rack=base.rack,
        store=base.store,
        journal=base.journal,
        inventory=inventory,
        workers=workers,
        tables=settings.tables,
        step=base.step,
    )
    fetcher = BlockFetcher(inventory, keeper, base.beat)
    mtu = UplinkMtu(workers, settings.mtu, base.beat)
    repairer = Repairer(
        inventory=inventory,
        keeper=keeper,
        workers=workers,
        opener=base.opener,
        locks=base.locks,
        tables=settings.tables,
        problems=base.problems,
        beat=base.beat,
    )
    ownership = _ownership(base, keeper, fetcher)
    vigil = _vigil(base, keeper, ownership, repairer)
    attacher = _attacher(base, fetcher, vigil, mtu)
    collector = Collector(
        inventory=inventory,
        attacher=attacher,
        workers=workers,
        opener=base.opener,
        locks=base.locks,
        mode=settings.gc,
        beat=base.beat,
        all_linked=lambda: repairer.found_all_well,
    )
    api, cni = _endpoints(base, keeper, attacher, collector, fetcher)
    return _Parts(
        ownership=ownership,
        vigil=vigil,
        repairer=repairer,
        fetcher=fetcher,
        collector=collector,
        watcher=EventWatcher(
            inventory=inventory, locks=base.locks, repairer=repairer, tables=settings.tables
        ),
        api=api,
        cni=cni,
        mtu=mtu,
        rack=base.rack,
    )


def _attacher(base: _Base, fetcher: BlockFetcher, vigil: Vigil, mtu: UplinkMtu) -> Attacher:
    return Attacher(
        inventory=base.inventory,
        fetcher=fetcher,
        vigil=vigil,
        journal=base.journal,
        workers=base.workers,
        opener=base.opener,
        remover=base.remover,
        locks=base.locks,
        tables=base.settings.tables,
        mtu=mtu.get,
        calico_names=base.settings.calico_names,
        step=base.step,
    )


def _vigil(base: _Base, keeper: BlockKeeper, ownership: Ownership, repairer: Repairer) -> Vigil:
    return Vigil(
        clock=clock.boottime,
        journal=base.journal,
        keeper=keeper,
        problems=base.problems,
        isolation=_isolation(base, keeper, ownership),
        sync=ownership.sync,
        beat=base.beat,
        alarm=base.alarm,
        wake_repair=repairer.wake,
        patience=base.settings.patience,
    )


def _isolation(base: _Base, keeper: BlockKeeper, ownership: Ownership) -> Isolation:
    return Isolation(
        clock=clock.boottime,
        journal=base.journal,
        keeper=keeper,
        workers=base.workers,
        store_is_away=lambda: base.problems.count("store") > 0,
        heard_at=lambda: ownership.heard_at,
        sockets=base.settings.sockets,
        patience=base.settings.patience,
    )


def _ownership(base: _Base, keeper: BlockKeeper, fetcher: BlockFetcher) -> Ownership:
    settings = base.settings
    recoverer = Recoverer(
        inventory=base.inventory,
        journal=base.journal,
        workers=base.workers,
        locks=base.locks,
        tables=settings.tables,
        problems=base.problems,
    )
    return Ownership(
        node=settings.node_name,
        presence=Presence(
            settings,
            store=base.store,
            workers=base.workers,
            inventory=base.inventory,
            rack=base.rack,
        ),
        store=base.store,
        store_url=settings.store,
        journal=base.journal,
        inventory=base.inventory,
        keeper=keeper,
        fetcher=fetcher,
        recoverer=recoverer,
        problems=base.problems,
        alarm=base.alarm,
        beat=base.beat,
    )


def _endpoints(
    base: _Base,
    keeper: BlockKeeper,
    attacher: Attacher,
    collector: Collector,
    fetcher: BlockFetcher,
) -> tuple[Api, CniEndpoint]:
    settings, inventory = base.settings, base.inventory
    reporter = Reporter(
        node=settings.node_name,
        store_url=shown_url(settings.store),
        inventory=inventory,
        problems=base.problems,
        tables=settings.tables,
        announces=keeper.announces,
    )
    metrics = Metrics(inventory, base.problems, base.store)
    api = Api(reporter=reporter, attacher=attacher, inventory=inventory, metrics=metrics)
    cni = CniEndpoint(
        attacher=attacher,
        collector=collector,
        inventory=inventory,
        fetcher=fetcher,
        metrics=metrics,
        problems=base.problems,
    )
    return api, cni


def _rack(settings: Settings, store: Store, problems: Problems) -> Rack:
    """Raises ConfigError where a label is to be asked for and this is no pod of Kubernetes."""
    ask = None
    if settings.rack_label:
        # Late: few need them.
        from coil.kube.client import KubeClient
        from coil.kube.nodes import find_node_label

        try:
            client = KubeClient.in_cluster()
        except ConfigError as exc:
            raise ConfigError(
                f"rack-label {settings.rack_label} cannot be asked for: {exc.message}; name the "
                "rack by --rack or --rack-file"
            ) from exc
        ask = partial(find_node_label, client, settings.node_name, settings.rack_label)
    return Rack(
        node=settings.node_name,
        name=settings.rack,
        label=settings.rack_label,
        ask=ask,
        store=store,
        problems=problems,
    )


async def _reconcile(parts: _Parts, supervisor: Supervisor) -> None:
    """Store, then kernel, before anything is served. A store that is away holds nobody up."""
    await parts.mtu.refresh()
    await parts.ownership.recover()
    await parts.vigil.start()
    await parts.ownership.first_sync(supervisor.wait_stopping)
    await parts.vigil.look_around()
    parts.vigil.stamp()
    await parts.repairer.repair()


async def _serve(base: _Base, parts: _Parts, supervisor: Supervisor) -> None:
    settings = base.settings
    endpoints = {**parts.api.endpoints(), **parts.cni.endpoints()}
    server = Server(Router(endpoints))
    notifier = Notifier()
    async with server.serving(_DRAIN_SECONDS):
        try:
            await server.listen_unix(settings.socket)
        except ListenError as exc:
            raise ConfigError(str(exc)) from exc
        if settings.metrics_addr:
            metrics_only = {("GET", "/metrics"): endpoints["GET", "/metrics"]}
            try:
                await server.listen_tcp(*settings.metrics_endpoint(), Router(metrics_only))
            except ListenError as exc:  # coild may start before the host has this address
                raise CoilError(str(exc)) from exc
        listening = partial(keep_listening, server, settings.socket, base.beat, base.problems)
        supervisor.spawn("socket", listening)
        supervisor.spawn("rack", parts.rack.run)
        supervisor.spawn("fetch blocks", parts.fetcher.run)
        supervisor.spawn("watch pools", parts.ownership.watch_pools)
        supervisor.spawn("watch blocks", parts.ownership.watch_blocks)
        supervisor.spawn("sync with store", parts.ownership.resync)
        supervisor.spawn("vigil", parts.vigil.run)
        supervisor.on_resume(parts.vigil.resumed, parts.vigil.after_resume)
        supervisor.spawn("watch kernel", parts.watcher.run)
        supervisor.spawn("repair", parts.repairer.run)
        supervisor.spawn("housekeeping", parts.collector.run)
        supervisor.spawn("uplink mtu", parts.mtu.run)
        supervisor.spawn("watchdog", notifier.watchdog)
        # What the start made lives on: the collector of cycles need not look at it each time.
        gc.collect()
        gc.freeze()
        parts.api.is_ready = True
        await notifier.serve(supervisor, socket=str(settings.socket))
    # Before the threads that they wait for.
    supervisor.end_tasks()
