"""coilctl pool: create, extend, look at, cordon and delete pools."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence
from math import ceil

import click

from coil.ctl.common import Context, noun, verb, with_store
from coil.ctl.output import show_done, show_object, show_rows
from coil.domain.block import BlockClaim
from coil.domain.errors import InvalidPool
from coil.domain.names import parse_pool_name
from coil.domain.pool import (
    DEFAULT_BLOCK_SIZE_LOG2,
    DEFAULT_COOL_DOWN,
    MAX_BLOCK_SIZE_LOG2,
    Pool,
    parse_subnet,
)
from coil.store.contract import Store

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_MAP_CELLS = 256
_MAP_WIDTH = 64


@noun("pool")
def pool_group() -> None:
    """Named sets of subnets that pods get addresses from."""


@verb(pool_group, "create")
@click.argument("name")
@click.argument("subnets", nargs=-1, required=True, metavar="SUBNET[,SUBNET6]...")
@click.option(
    "--block-bits",
    type=click.IntRange(0, MAX_BLOCK_SIZE_LOG2),
    default=DEFAULT_BLOCK_SIZE_LOG2,
    show_default=True,
    help="Blocks have 2^BITS addresses; cannot be changed later.",
)
@click.option(
    "--cool-down",
    default=f"{DEFAULT_COOL_DOWN}s",
    show_default=True,
    help="How long an address rests after its pod has gone (s, m, h).",
)
def create(
    context: Context, name: str, subnets: tuple[str, ...], block_bits: int, cool_down: str
) -> None:
    """Create a pool. A dual-stack subnet is an IPv4 and an IPv6 one of equal size with a comma."""
    pool = Pool(
        parse_pool_name(name),
        tuple(parse_subnet(text) for text in subnets),
        block_bits,
        parse_duration(cool_down),
    )

    async def change(store: Store) -> Pool:
        await store.create_pool(pool)
        return pool

    said = "pool {name} created: {blocks} blocks of {block_size} addresses"
    _change(context, change, said, make=True)


@verb(pool_group, "add-subnet")
@click.argument("name")
@click.argument("subnet", metavar="SUBNET[,SUBNET6]")
def add_subnet(context: Context, name: str, subnet: str) -> None:
    """Append a subnet to a pool. Subnets are never taken away."""
    parsed = parse_subnet(subnet)
    _change(
        context,
        lambda store: store.add_subnet(parse_pool_name(name), parsed),
        "pool {name} has {blocks} blocks now",
    )


@verb(pool_group, "list")
def list_pools(context: Context) -> None:
    """List all pools."""

    async def read(store: Store) -> list[dict[str, object]]:
        return [
            _summary(pool, await store.list_pool_blocks(pool.name))
            for pool in await store.list_pools()
        ]

    columns = {
        "name": "POOL", "subnets": "SUBNETS", "block_size": "BLOCK SIZE", "blocks": "BLOCKS",
        "owned": "OWNED", "cool_down": "COOL-DOWN (s)", "cordoned": "CORDONED",
    }  # fmt: skip
    empty = "no pools; create one with: coilctl pool create default SUBNET"
    show_rows(with_store(context, read), context.output, columns, empty)


@verb(pool_group, "show")
@click.argument("name")
def show(context: Context, name: str) -> None:
    """Show a pool's use, the nodes that own blocks, and a map of its blocks."""

    async def read(store: Store) -> tuple[Pool, list[BlockClaim]]:
        pool = await store.get_pool(parse_pool_name(name))
        return pool, list(await store.list_pool_blocks(pool.name))

    pool, claims = with_store(context, read)
    nodes: dict[str, int] = {}
    for claim in claims:
        nodes[claim.node] = nodes.get(claim.node, 0) + 1
    shown = {**_summary(pool, claims), "nodes": nodes}
    if context.output == "table":
        shown["nodes"] = [f"{node}: {count}" for node, count in sorted(nodes.items())]
        shown["map"] = block_map(pool, claims)
    show_object(shown, context.output)


@verb(pool_group, "cordon")
@click.argument("name")
def cordon(context: Context, name: str) -> None:
    """Let a pool give no new addresses; nodes give its blocks back as pods go."""
    _change(
        context,
        lambda store: store.set_cordoned(parse_pool_name(name), cordoned=True),
        "pool {name} is cordoned",
    )


@verb(pool_group, "uncordon")
@click.argument("name")
def uncordon(context: Context, name: str) -> None:
    """Let a pool give addresses again."""
    _change(
        context,
        lambda store: store.set_cordoned(parse_pool_name(name), cordoned=False),
        "pool {name} gives addresses",
    )


@verb(pool_group, "delete")
@click.argument("name")
def delete(context: Context, name: str) -> None:
    """Delete a pool that no node owns a block of."""
    with_store(context, lambda store: store.delete_pool(parse_pool_name(name)))
    show_done(f"pool {name} deleted", {"name": name, "deleted": True}, context.output)


def _change(
    context: Context, change: Callable[[Store], Awaitable[Pool]], said: str, *, make: bool = False
) -> None:
    """Change a pool and show the row that ``pool list`` has of it; ``said`` is filled out of it."""

    async def work(store: Store) -> dict[str, object]:
        pool = await change(store)
        return _summary(pool, await store.list_pool_blocks(pool.name))

    row = with_store(context, work, make=make)
    show_done(said.format_map(row), row, context.output)


def parse_duration(text: str) -> int:
    """Seconds of ``130``, ``130s``, ``2m`` or ``1h``. Raises InvalidPool."""
    match = re.fullmatch(r"(\d{1,6})([smh]?)", text)
    if match is None:
        raise InvalidPool(f"cool-down {text!r} must be a number with s, m or h, like 130s")
    return int(match[1]) * _UNITS[match[2]]


def _summary(pool: Pool, claims: Sequence[BlockClaim]) -> dict[str, object]:
    return {
        "name": pool.name,
        "subnets": [str(subnet) for subnet in pool.subnets],
        "block_size": pool.block_size,
        "blocks": pool.block_count,
        "owned": len(claims),
        "cool_down": pool.cool_down,
        "cordoned": pool.cordoned,
    }


def block_map(pool: Pool, claims: Sequence[BlockClaim]) -> list[str]:
    """Lines of a picture: '.' free, '#' owned; a cell of a large pool stands for many blocks."""
    per_cell = ceil(pool.block_count / _MAP_CELLS)
    owned: dict[int, int] = {}
    for claim in claims:
        owned[claim.id.index // per_cell] = owned.get(claim.id.index // per_cell, 0) + 1
    cells = "".join(
        "." if not owned.get(cell) else "#" if owned[cell] >= per_cell else "+"
        for cell in range(ceil(pool.block_count / per_cell))
    )
    lines = [cells[at : at + _MAP_WIDTH] for at in range(0, len(cells), _MAP_WIDTH)]
    legend = ". free  # owned" if per_cell == 1 else f". free  + some  # all of {per_cell} owned"
    return [*lines, legend]
