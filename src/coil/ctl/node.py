"""coilctl node: this node as its coild tells, and all nodes as the store knows them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

import click

from coil.ctl.client import ask_list, ask_object
from coil.ctl.common import Context, noun, verb, with_store
from coil.ctl.output import ago, show_done, show_object, show_rows
from coil.domain.block import BlockId
from coil.domain.errors import InvalidPool, NodeAlive, NodeNotFound
from coil.domain.names import NodeName, PoolName, parse_node_name
from coil.domain.node import NodeRecord, NodeStatus
from coil.domain.pool import Pool
from coil.store.contract import Release, Store
from coil.store.release import release_node, take_blocks

_DANGER = """{node} may still be running: then its pods go on using their addresses, and its routing
daemon goes on announcing them, until its coild has asked the store again. Another node may be given
these blocks at once, and two pods would have one address. Do this only when the machine is off, and
has been for the cool-down of its pools: the addresses its pods had may be given again at once."""


@noun("node")
def node_group() -> None:
    """This node, and all the others."""


@verb(node_group, "status")
def status(context: Context) -> None:
    """Show pools, blocks, attachments and problems of this node."""
    found = ask_object(context.socket, "GET", "/status")
    if context.output != "table":
        show_object({**found, "blocks": ask_list(context.socket, "/blocks")}, context.output)
        return
    show_object({key: value for key, value in found.items() if key != "pools"}, "table")
    columns = {
        "pool": "POOL", "index": "BLOCK", "networks": "NETWORKS", "used": "USED",
        "cooling": "COOLING", "free": "FREE", "exported": "EXPORTED",
    }  # fmt: skip
    show_rows(ask_list(context.socket, "/blocks"), "table", columns, "this node owns no block")


@verb(node_group, "list")
def list_nodes(context: Context) -> None:
    """List nodes, with their racks and blocks, and whether they live.

    A node that lives says so several times a minute. What else it says (addresses in use, and when
    a dead one was last seen) is written every five minutes.
    """

    async def read(store: Store) -> list[dict[str, object]]:
        nodes = await store.list_nodes()
        blocks: dict[NodeName, int] = {}
        for pool in await store.list_pools():
            for claim in await store.list_pool_blocks(pool.name):
                blocks[claim.node] = blocks.get(claim.node, 0) + 1
        known = {found.record.name for found in nodes}
        rows = [{**_summary(found), "blocks": blocks.get(found.record.name, 0)} for found in nodes]
        # An owner without a record: it was removed by hand, or the node never came that far.
        return rows + [
            {"name": node, "alive": None, "blocks": count}
            for node, count in sorted(blocks.items())
            if node not in known
        ]

    columns = {
        "name": "NODE", "alive": "ALIVE", "rack": "RACK", "addresses": "ADDRESSES",
        "blocks": "BLOCKS", "used": "USED", "version": "VERSION", "age": "LAST SEEN",
    }  # fmt: skip
    empty = "no node has a record (the embedded store keeps none)"
    show_rows(with_store(context, read), context.output, columns, empty)


@verb(node_group, "show")
@click.argument("name")
def show(context: Context, name: str) -> None:
    """Show one node as the store knows it, and what it says of its blocks itself.

    Of a block, "used" is what the node reported when it wrote its record; none if it did not know
    the block then. A block that only the node knows is listed as "reported only".
    """
    node = parse_node_name(name)

    async def read(store: Store) -> dict[str, object]:
        found = await store.find_node(node)
        claims = await store.list_node_blocks(node)
        if found is None and not claims:
            raise _not_found(node)
        pools = {pool.name: pool for pool in await store.list_pools()}
        summary = _summary(found) if found else {"name": node, "alive": None}
        reports = {each.id: each.used for each in (found.record.blocks or ())} if found else {}
        owned = [claim.id for claim in claims]
        return {
            **summary,
            "machine": found.record.holder.machine if found else "",
            "blocks": [_block(pools, block, reports.get(block)) for block in owned],
            "reported_only": [
                _block(pools, block, used) for block, used in reports.items() if block not in owned
            ],
        }

    found = with_store(context, read)
    if context.output == "table":
        found.pop("seen", None)  # the age says it
    show_object(found, context.output)


@verb(node_group, "release")
@click.argument("name")
@click.option("--force", is_flag=True, help="Even if the node lives. Read what is asked.")
@click.option("--yes", is_flag=True, help="Don't ask.")
def release(context: Context, name: str, *, force: bool, yes: bool) -> None:
    """Take back all blocks of a node that is gone for good, and free its name.

    coil-controller does this by itself for a node that is silent for long and answers to nothing;
    this is for when it cannot know, or need not wait. Refused while the node lives.
    """
    node = parse_node_name(name)

    async def look(store: Store) -> tuple[NodeStatus | None, int]:
        return await store.find_node(node), len(await store.list_node_blocks(node))

    found, count = with_store(context, look)
    if found is None and not count:
        raise _not_found(node)
    if (found is None or found.alive) and not force:
        why = "is alive" if found else "has no record, so nobody knows whether it lives"
        raise NodeAlive(
            f"node {node} {why}: drain it and end its coild first, or use --force if you know that "
            "its machine is off"
        )
    if not yes:
        click.echo(_DANGER.format(node=node), err=True)
        click.confirm(f"release {count} blocks of {node}?", abort=True, err=True)

    async def take(store: Store) -> int:
        if found is None or force:
            return len(await release_node(store, node))
        return await _take(store, found.record)

    taken = with_store(context, take)
    said = f"node {node} released; blocks that are free now: {taken}"
    show_done(said, {"name": node, "released_blocks": taken}, context.output)


async def _take(store: Store, record: NodeRecord) -> int:
    """Take all, unless the node came back since it was looked at; how many blocks were taken."""
    taken = 0
    async for _claim, outcome in take_blocks(store, record):
        taken += outcome is Release.RELEASED
    if not await store.take_name(record):
        raise NodeAlive(
            f"node {record.name} came back: {taken} of its blocks were released, it keeps the rest"
        )
    return taken


def _block(pools: Mapping[PoolName, Pool], block: BlockId, used: int | None) -> dict[str, object]:
    """A block for people; ``used`` is the node's word, None when it said nothing."""
    networks: list[str] = []
    with contextlib.suppress(KeyError, InvalidPool):
        networks = [str(network) for network in pools[block.pool].block(block.index).networks]
    return {"pool": block.pool, "index": block.index, "networks": networks, "used": used}


def _not_found(node: NodeName) -> NodeNotFound:
    return NodeNotFound(f"the store knows no node {node}; coilctl node list shows those it knows")


def _summary(found: NodeStatus) -> dict[str, object]:
    record = found.record
    return {
        "name": record.name,
        "alive": found.alive,
        "rack": record.rack or "",
        "addresses": [str(address) for address in record.addresses],
        "version": record.version,
        "used": None if record.blocks is None else sum(each.used for each in record.blocks),
        "seen": record.seen,
        "age": "now" if found.alive else ago(record.seen),
    }
