"""The command line of coil-gobgp."""

from __future__ import annotations

import asyncio
from typing import Any

import click
import structlog

from coil.gobgp.keeper import Keeper
from coil.gobgp.settings import RTPROT_BGP, Settings
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.ways import sync_ways
from coil.process.notify import Notifier
from coil.process.problems import Problems
from coil.process.supervise import Supervisor, supervise
from coil.program import program, start
from coil.routing.gobgp import API
from coil.routing.model import EXPORT_PROTOCOL, EXPORT_TABLE, MAIN_TABLE

_FIRST_PASS_SECONDS = 2.0
"""How long the start waits for gobgpd."""
_log = structlog.get_logger()

_OPTIONS = (
    click.option("--gobgp", default=API, show_default=True,
                 help="Where gobgpd is asked: HOST:PORT or unix:PATH, as its --api-hosts."),
    click.option("--export-table", type=click.IntRange(1, 2**32 - 1), default=EXPORT_TABLE,
                 show_default=True, help="As coild's --export-table."),
    click.option("--protocol", type=click.IntRange(1, 255), default=EXPORT_PROTOCOL,
                 show_default=True, help="As coild's --protocol."),
    click.option("--route-protocol", type=click.IntRange(5, 255), default=RTPROT_BGP,
                 show_default=True, help="Protocol id of the routes learnt from the fabric."),
    click.option("--period", type=float, default=30.0, show_default=True,
                 help="Seconds between two looks at both when nothing happens."),
    click.option("--settle", type=float, default=10.0, show_default=True,
                 help="Seconds a new gobgpd has before routes that it lacks are removed."),
)  # fmt: skip


def _options(command: click.decorators.FC) -> click.decorators.FC:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@program("coil-gobgp")
@_options
@click.option("--flush", is_flag=True, help="Remove all routes of this program and exit.")
def main(*, flush: bool, **options: Any) -> None:
    """Give gobgpd this machine's loopbacks and coild's blocks, and the kernel gobgpd's routes.

    Every option can be set by COIL_<OPTION> in the environment, too, or in the config file. The
    routes stay when this program ends: nothing is cut off by a restart.
    """
    start(options, Settings, _flush if flush else _run)


def _flush(settings: Settings) -> None:
    with NetlinkSocket() as netlink:
        changes = sync_ways(netlink, {}, table=MAIN_TABLE, protocol=settings.route_protocol)
    click.echo(f"{changes.removed} routes removed from the main table")


def _run(settings: Settings) -> None:
    asyncio.run(supervise(lambda supervisor: run(settings, supervisor)))


async def run(settings: Settings, supervisor: Supervisor) -> None:
    """Be coil-gobgp until told to stop; the routes stay."""
    notifier = Notifier()
    keeper = Keeper(settings, Problems(), notifier.status)
    supervisor.spawn("watch kernel", keeper.watch_kernel)
    supervisor.spawn("learn", keeper.run)
    supervisor.spawn("announce", keeper.announce)
    supervisor.spawn("watchdog", notifier.watchdog)
    try:
        async with asyncio.timeout(_FIRST_PASS_SECONDS):
            await keeper.synced.wait()
    except TimeoutError:
        _log.warning("gobgpd does not answer; routes stay as they are")
    await notifier.serve(supervisor)


if __name__ == "__main__":
    main(prog_name="coil-gobgp")
