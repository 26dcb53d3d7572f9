"""Composition of coild: the only place that knows every part."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import structlog

from coil import __version__
from coil.daemon.api import Api
from coil.daemon.attach import Attacher
from coil.daemon.blocks import BlockKeeper
from coil.daemon.cni import CniEndpoint
from coil.daemon.collect import Collector
from coil.daemon.events import EventWatcher
from coil.daemon.fetch import BlockFetcher
from coil.daemon.inventory import Inventory
from coil.daemon.locks import AttachmentLocks
from coil.daemon.metrics import Metrics
from coil.daemon.ownership import Ownership
from coil.daemon.problems import Problems
from coil.daemon.recover import Recoverer
from coil.daemon.repair import Repairer
from coil.daemon.report import Reporter
from coil.daemon.server import Router, Server
from coil.daemon.settings import Settings
from coil.daemon.steps import StepHook, no_step
from coil.daemon.uplink import UplinkMtu
from coil.daemon.workers import Workers
from coil.journal.journal import Journal
from coil.nodenet.removal import LinkRemover
from coil.process import clock
from coil.process.notify import Notifier
from coil.process.supervise import Supervisor
from coil.store.contract import Store

_log = structlog.get_logger()

_FIRST_SYNC_SECONDS = 2.0
"""How long the start waits for the store; then what the journal says is served."""
_DRAIN_SECONDS = 10.0
"""How long the end waits for requests in flight; systemd's TimeoutStopSec is longer."""


@dataclass(slots=True)
class _Parts:
    """What the start wires together."""

    ownership: Ownership
    repairer: Repairer
    fetcher: BlockFetcher
    collector: Collector
    watcher: EventWatcher
    keeper: BlockKeeper
    api: Api
    cni: CniEndpoint
    mtu: UplinkMtu


async def run(
    settings: Settings, store: Store, supervisor: Supervisor, step: StepHook = no_step
) -> None:
    """Be coild until told to stop. Raises ConfigError for what prevents a start."""
    journal = Journal.open(settings.state_dir, boot_id=clock.boot_id())
    with contextlib.closing(journal):
        inventory = _load(journal)
        async with _threads() as (workers, remover):
            parts = _compose(settings, store, journal, inventory, workers, remover, step)
            await _reconcile(parts)
            await _serve(settings, parts, supervisor)


def _load(journal: Journal) -> Inventory:
    """The inventory as the journal has it; attachments of an earlier boot have ended with it."""
    if journal.kept_aside:
        _log.error("journal could not be read and was kept aside", path=str(journal.kept_aside))
    inventory = Inventory(clock.boottime)
    state = journal.load()
    if journal.rebooted:
        _log.warning("machine was rebooted", ended_attachments=len(state.attachments))
        journal.remove_attachments(state.attachments, freed_at=0.0)
        state = journal.load()
    inventory.set_pools(state.pools)
    for attachment in state.attachments:
        inventory.put_attachment(attachment)
    for journaled in state.blocks:
        claim = journaled.claim
        owned = inventory.add_block(claim, state.freed.get(claim.id, {}), known=True)
        owned.releasing = journaled.releasing
    return inventory


@contextlib.asynccontextmanager
async def _threads() -> AsyncIterator[tuple[Workers, LinkRemover]]:
    workers, remover = Workers(), LinkRemover()
    try:
        yield workers, remover
    finally:
        await asyncio.to_thread(remover.close)
        await asyncio.to_thread(workers.close)


def _compose(  # noqa: PLR0913, PLR0915, PLR0917 - wiring is long and has no branches
    settings: Settings,
    store: Store,
    journal: Journal,
    inventory: Inventory,
    workers: Workers,
    remover: LinkRemover,
    step: StepHook,
) -> _Parts:
    problems, locks, tables = Problems(), AttachmentLocks(), settings.tables
    mtu = UplinkMtu(workers, settings.mtu)
    keeper = BlockKeeper(
        node=settings.node_name,
        store=store,
        journal=journal,
        inventory=inventory,
        workers=workers,
        tables=tables,
        step=step,
    )
    fetcher = BlockFetcher(inventory, keeper)
    attacher = Attacher(
        inventory=inventory,
        fetcher=fetcher,
        journal=journal,
        workers=workers,
        remover=remover,
        locks=locks,
        tables=tables,
        mtu=mtu.get,
        calico_names=settings.calico_names,
        step=step,
    )
    repairer = Repairer(
        inventory=inventory,
        keeper=keeper,
        workers=workers,
        locks=locks,
        tables=tables,
        problems=problems,
        period=settings.period,
    )
    collector = Collector(
        inventory=inventory,
        attacher=attacher,
        workers=workers,
        locks=locks,
        mode=settings.gc,
        period=settings.period,
    )
    ownership = Ownership(
        node=settings.node_name,
        store=store,
        store_url=settings.store,
        journal=journal,
        inventory=inventory,
        keeper=keeper,
        fetcher=fetcher,
        recoverer=Recoverer(inventory=inventory, journal=journal, workers=workers, tables=tables),
        workers=workers,
        problems=problems,
        period=settings.period,
    )
    reporter = Reporter(settings.node_name, settings.store, inventory, problems, tables)
    metrics = Metrics(inventory, problems)
    watcher = EventWatcher(inventory=inventory, locks=locks, repairer=repairer, tables=tables)
    api = Api(reporter=reporter, attacher=attacher, inventory=inventory, metrics=metrics)
    cni = CniEndpoint(
        attacher=attacher,
        collector=collector,
        inventory=inventory,
        fetcher=fetcher,
        metrics=metrics,
    )
    return _Parts(ownership, repairer, fetcher, collector, watcher, keeper, api, cni, mtu)


async def _reconcile(parts: _Parts) -> None:
    """Store, then kernel, before anything is served. A store that is away holds nobody up."""
    await parts.mtu.refresh()
    try:
        async with asyncio.timeout(_FIRST_SYNC_SECONDS):
            await parts.ownership.sync()
    except TimeoutError:
        _log.warning("store does not answer; serving what the journal says is ours")
    await parts.repairer.repair()


async def _serve(settings: Settings, parts: _Parts, supervisor: Supervisor) -> None:
    endpoints = {**parts.api.endpoints(), **parts.cni.endpoints()}
    server = Server(Router(endpoints))
    notifier = Notifier()
    async with server.serving(_DRAIN_SECONDS):
        await server.listen_unix(settings.socket)
        if settings.metrics_addr:
            metrics_only = {("GET", "/metrics"): endpoints["GET", "/metrics"]}
            await server.listen_tcp(*settings.metrics_endpoint(), Router(metrics_only))
        supervisor.spawn("fetch blocks", parts.fetcher.run)
        supervisor.spawn("watch pools", parts.ownership.watch_pools)
        supervisor.spawn("watch blocks", parts.ownership.watch_blocks)
        supervisor.spawn("sync with store", parts.ownership.resync)
        supervisor.spawn("watch kernel", parts.watcher.run)
        supervisor.spawn("repair", parts.repairer.run)
        supervisor.spawn("housekeeping", parts.collector.run)
        supervisor.spawn("uplink mtu", parts.mtu.run)
        supervisor.spawn("watchdog", notifier.watchdog)
        parts.api.is_ready = True
        notifier.ready()
        _log.info("serving", version=__version__, socket=str(settings.socket))
        await supervisor.wait_stopping()
        notifier.stopping()
