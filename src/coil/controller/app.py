"""Composition of coil-controller: the only place that knows every part."""

from __future__ import annotations

import asyncio

import structlog

from coil.controller.api import Api
from coil.controller.leader import Leadership
from coil.controller.metrics import Metrics
from coil.controller.passes import Passes
from coil.controller.settings import Settings
from coil.controller.steps import StepHook, no_step
from coil.controller.witness import NetworkWitness
from coil.domain.errors import CoilError, ConfigError
from coil.domain.gone import find_grace_fault
from coil.process import clock
from coil.process.http import ListenError, Router, Server
from coil.process.notify import Notifier
from coil.process.problems import Problems
from coil.process.supervise import Supervisor
from coil.store.contract import Store
from coil.store.open import shown_url

_log = structlog.get_logger()

_FIRST_LOOK_SECONDS = 2.0
_DRAIN_SECONDS = 2.0


async def run(
    settings: Settings, store: Store, supervisor: Supervisor, step: StepHook = no_step
) -> None:
    """Be coil-controller until told to stop. Raises ConfigError for what prevents a start."""
    await _check(settings, store)
    problems = Problems()
    leadership = Leadership(store, clock=clock.boottime, lease=settings.lease, problems=problems)
    passes = Passes(
        settings,
        store=store,
        leadership=leadership,
        witnesses=[NetworkWitness()],
        problems=problems,
        clock=clock.boottime,
        step=step,
    )
    api = Api(
        leadership=leadership,
        passes=passes,
        problems=problems,
        metrics=Metrics(leadership, passes, problems),
    )
    router = Router(api.endpoints())
    server, notifier = Server(router), Notifier()
    async with server.serving(_DRAIN_SECONDS):
        if settings.metrics_addr:
            try:
                await server.listen_tcp(*settings.metrics_endpoint(), router)
            except ListenError as exc:  # it may start before the host has this address
                raise CoilError(str(exc)) from exc
        supervisor.spawn("lead", leadership.run)
        supervisor.spawn("passes", passes.run)
        supervisor.spawn("watchdog", notifier.watchdog)
        await notifier.serve(supervisor, store=shown_url(settings.store))
        supervisor.end_tasks()
        await leadership.resign()


async def _check(settings: Settings, store: Store) -> None:
    """Refuse what is seen to be wrong from the start; a store, away or not ours, is waited for."""
    try:
        async with asyncio.timeout(_FIRST_LOOK_SECONDS):
            await store.identity()
            fault = find_grace_fault(settings.grace, await store.list_pools())
    except (CoilError, TimeoutError) as exc:
        # Also a wrong password or an etcd that is too old may be mended at the other end.
        reason = exc.message if isinstance(exc, CoilError) else "not in time"
        _log.warning(
            "store does not answer; trying on", store=shown_url(settings.store), reason=reason
        )
        return
    if fault:
        raise ConfigError(fault)
