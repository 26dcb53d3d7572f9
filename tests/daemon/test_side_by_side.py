"""What coild does beside each other: passes of repair, ADDs, claims and releases."""

from __future__ import annotations

import asyncio
import contextlib
import time

from coil.daemon.blocks import BlockKeeper
from coil.daemon.inventory import Inventory
from coil.daemon.rack import Rack
from coil.daemon.steps import no_step
from coil.daemon.workers import Workers
from coil.domain.attachment import Netns
from coil.domain.names import NodeName, PoolName
from coil.journal.journal import Journal
from coil.nodenet.errors import DumpInterrupted
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.netns import NetnsHandle
from coil.nodenet.observe import list_routes, observe
from coil.nodenet.plan import Tables
from coil.process.problems import Problems
from coil.store.open import opened_store
from daemon.conftest import inside, pool_of

TABLES = Tables()


def comes(number):
    """A pod's host end as coild makes it: its alias first, its route last."""
    name, address = f"coil{number:011x}", f"10.77.0.{number}"
    return (
        f"link add {name} group 7 type veth peer name pod{number}\n"
        f'link set {name} alias "coil c{number} eth0 default" up\n'
        f"route add {address} dev {name} table {TABLES.pod_table} proto {TABLES.protocol}\n"
    )


def test_no_route_is_told_without_its_link_while_pods_come(pods, tmp_path):
    """Who has no link is taken for a stray, and its route is removed."""
    host, batch, strays, partly = pods(), tmp_path / "batch", [], 0
    batch.write_text("".join(map(comes, range(200))))
    with NetnsHandle(Netns(str(host.path))) as handle, handle.open_netlink() as netlink:
        for _time in range(100):
            with open(tmp_path / "log", "wb") as log:
                coming = host.start("ip", "-batch", batch, log=log)
            while coming.poll() is None:
                with contextlib.suppress(DumpInterrupted):
                    state = observe(netlink, TABLES)
                    live = {found.link.ifindex for found in state.links.values() if found.owner}
                    strays += [r.network for r in state.pod_routes if not live & set(r.ifindexes)]
                    partly += 0 < len(state.pod_routes) < 200
            assert (coming.returncode, (tmp_path / "log").read_text()) == (0, "")
            if partly > 40:
                break
            host.run("ip", "link", "del", "group", "7")
    assert partly > 40
    assert strays == []


@contextlib.asynccontextmanager
async def keeper_on(store_url, state_dir):
    """A keeper of blocks on a store, a journal and threads of its own, and its inventory."""
    workers, journal = Workers(), Journal.open(state_dir, boot_id="b")
    inventory = Inventory(time.monotonic)
    try:
        async with opened_store(store_url) as store:
            await store.create_pool(pool_of("10.77.0.0/24", cool_down=0))
            inventory.pools = {pool.name: pool for pool in await store.list_pools()}
            made = BlockKeeper(
                node=NodeName("node1"),
                rack=Rack(
                    node=NodeName("node1"),
                    name=None,
                    label="",
                    ask=None,
                    store=store,
                    problems=Problems(),
                ),
                store=store,
                journal=journal,
                inventory=inventory,
                workers=workers,
                tables=TABLES,
                step=no_step,
            )
            yield made, inventory
    finally:
        await asyncio.to_thread(workers.close)
        journal.close()


def test_no_pass_undoes_what_a_claim_or_a_release_has_just_done(pods, tmp_path):
    """A pass that began before the release, and ends after, must not announce the block again."""
    wrong = []

    async def work():
        async with keeper_on(f"sqlite://{tmp_path}/store", tmp_path) as (keeper, inventory):
            ended = False

            async def passes():
                while not ended:
                    await keeper.sync_routes()

            async with asyncio.TaskGroup() as group:
                for _number in range(8):
                    group.create_task(passes())
                for _time in range(300):
                    await keeper.claim(PoolName("default"), 1)
                    (owned,) = inventory.blocks.values()
                    wrong.extend(set(owned.block.networks) ^ exported())
                    await keeper.release([owned])
                    assert not inventory.blocks
                    wrong.extend(exported())
                ended = True

    def exported():
        with NetlinkSocket() as netlink:
            return {route.network for route in list_routes(netlink, TABLES.export_table)}

    inside(pods(), work())
    assert wrong == []
