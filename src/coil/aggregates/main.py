"""The command line of coil-aggregates."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import click

from coil.aggregates.follower import Follower, write_file
from coil.aggregates.settings import DEFAULT_FILE, Settings
from coil.aggregates.view import View
from coil.domain.names import parse_rack_name
from coil.process.notify import Notifier
from coil.process.problems import Problems
from coil.process.supervise import Supervisor, supervise
from coil.program import program, start
from coil.routing.bird import aggregates_config
from coil.speakers.bird import DEFAULT_SOCKET, ask_bird
from coil.speakers.errors import SpeakerUnavailable
from coil.store.contract import Store
from coil.store.open import opened_store, shown_url


@program("coil-aggregates")
@click.option("--rack", required=True, help="The rack of this ToR, as its nodes name it.")
@click.option("--store", default="", help="URL of the store that all nodes share.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    default=DEFAULT_FILE,
    show_default=True,
    help="What BIRD includes: --aggregates of coilctl router-config.",
)
@click.option(
    "--bird-socket",
    type=click.Path(path_type=Path),
    default=DEFAULT_SOCKET,
    show_default=True,
    help="BIRD's control socket.",
)
@click.option(
    "--period",
    type=float,
    default=1.0,
    show_default=True,
    help="Seconds between two looks at BIRD's routes.",
)
@click.option(
    "--settle",
    type=float,
    default=10.0,
    show_default=True,
    help="Seconds an aggregate must be usable before it is announced.",
)
def main(**options: Any) -> None:
    """Announce a rack's ranges as prefixes, while this ToR reaches every block in them.

    Every option can be set by COIL_<OPTION> in the environment, too, or in the config file. What
    is announced stays as it is when this program ends.
    """
    start(options, _read_settings, lambda settings: asyncio.run(serve(settings)))


def _read_settings(*, rack: str, **options: Any) -> Settings:
    return Settings(rack=parse_rack_name(rack), **options)


async def serve(settings: Settings) -> None:
    """Be coil-aggregates until told to stop. Raises ConfigError for what prevents a start."""
    if not settings.file.exists() or not _is_running(settings.bird_socket):
        # BIRD does not start without the file, and must not start with what it announced before it
        # was ended: it reaches nobody yet.
        write_file(settings.file, aggregates_config([], []))
    async with opened_store(settings.store) as store:
        await supervise(lambda supervisor: run(settings, store, supervisor))


def _is_running(bird: Path) -> bool:
    try:
        ask_bird(bird)
    except SpeakerUnavailable:
        return False
    return True


async def run(settings: Settings, store: Store, supervisor: Supervisor) -> None:
    """Follow store and BIRD until told to stop."""
    notifier = Notifier()
    problems = Problems()
    view = View(store, settings.rack, problems, grace=settings.grace)
    follower = Follower(settings, view, problems, notifier.status)
    supervisor.spawn("check store", view.check_store)
    supervisor.spawn("watch pools", view.watch_pools)
    supervisor.spawn("watch ranges", view.watch_ranges)
    supervisor.spawn("watch claims", view.watch_claims)
    supervisor.spawn("watch nodes", view.watch_nodes)
    supervisor.spawn("follow", follower.run)
    supervisor.spawn("watchdog", notifier.watchdog)
    await notifier.serve(supervisor, store=shown_url(settings.store))


if __name__ == "__main__":
    main(prog_name="coil-aggregates")
