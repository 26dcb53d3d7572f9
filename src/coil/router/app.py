"""Composition of coil-router."""

from __future__ import annotations

import asyncio

import structlog

from coil.process.notify import Notifier
from coil.process.problems import Problems
from coil.process.supervise import Supervisor
from coil.router.keeper import RouteKeeper
from coil.router.settings import Settings
from coil.store.contract import Store
from coil.store.open import shown_url

_log = structlog.get_logger()

_FIRST_SYNC_SECONDS = 2.0
"""How long the start waits for the store; without it the routes stay as they are."""


async def run(settings: Settings, store: Store, supervisor: Supervisor) -> None:
    """Be coil-router until told to stop; the routes stay."""
    notifier = Notifier()
    keeper = RouteKeeper(settings, store, Problems(), notifier.status)
    supervisor.spawn("watch kernel", keeper.watch_kernel)
    supervisor.spawn("sync routes", keeper.run)
    supervisor.spawn("check store", keeper.check_store)
    supervisor.spawn("watch pools", keeper.watch_pools)
    supervisor.spawn("watch claims", keeper.watch_claims)
    supervisor.spawn("watch nodes", keeper.watch_nodes)
    supervisor.spawn("watchdog", notifier.watchdog)
    try:
        async with asyncio.timeout(_FIRST_SYNC_SECONDS):
            await keeper.synced.wait()
    except TimeoutError:
        _log.warning("store does not answer; routes stay as they are")
    await notifier.serve(supervisor, store=shown_url(settings.store))
