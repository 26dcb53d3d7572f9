"""coilctl simulate: what a data centre would need, before it is built."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from coil.ctl.common import Context, verb
from coil.ctl.output import show_object
from coil.ctl.simulation.plan import Plan, Sample
from coil.domain.errors import RequestError
from coil.domain.names import PoolName
from coil.domain.pool import DEFAULT_BLOCK_SIZE_LOG2, MAX_BLOCK_SIZE_LOG2, Pool, parse_subnet

_MOST_NODES, _MOST_PODS = 20_000, 2_000_000


def add_to(group: click.Group) -> None:
    """Make it a command of ``group``."""
    verb(group, "simulate")(simulate)


@click.option("--nodes", type=click.IntRange(1, _MOST_NODES), default=5000, show_default=True)
@click.option("--racks", type=click.IntRange(1, _MOST_NODES), default=125, show_default=True)
@click.option("--pods", type=click.IntRange(0, _MOST_PODS), default=250_000, show_default=True)
@click.option(
    "--churn",
    type=click.FloatRange(0, 10),
    default=1.0,
    show_default=True,
    help="How often each pod is replaced in the simulated hour after all have come.",
)
@click.option(
    "--subnet",
    "subnets",
    multiple=True,
    metavar="SUBNET[,SUBNET6]",
    default=["10.0.0.0/12"],
    show_default=True,
    help="Of the pool; may be repeated.",
)
@click.option(
    "--block-bits",
    type=click.IntRange(0, MAX_BLOCK_SIZE_LOG2),
    default=DEFAULT_BLOCK_SIZE_LOG2,
    show_default=True,
    help="Blocks have 2^BITS addresses.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another: other pods go.")
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="Draw curves there.")
def simulate(
    context: Context, *, nodes: int, racks: int, pods: int, churn: float, subnets: Sequence[str],
    block_bits: int, seed: int, svg: Path | None,
) -> None:  # fmt: skip
    """Run the allocator and the claim code of thousands of nodes, in memory.

    Pods come for 10 minutes of simulated time, come and go for an hour, and then three of four
    nodes are drained. No store is touched.
    """
    pool = Pool(PoolName("default"), tuple(parse_subnet(text) for text in subnets), block_bits)
    plan = Plan(nodes, racks, pods, churn, pool, seed)
    _check(plan, svg)
    samples = _run(plan)
    if svg:
        from coil.ctl.simulation.charts import write_svg

        write_svg(samples, svg)
    if context.output != "table":
        result = {"summary": _summary(plan, samples), "samples": [asdict(each) for each in samples]}
        show_object(result, context.output)
        return
    from coil.ctl.simulation.charts import show

    show(samples)
    show_object(_summary(plan, samples), "table")


def _check(plan: Plan, svg: Path | None) -> None:
    if math.isnan(plan.churn):  # no range holds it back
        raise RequestError("--churn must be a number from 0 to 10, not nan")
    if plan.racks > plan.nodes:
        raise RequestError(f"{plan.nodes} nodes cannot fill {plan.racks} racks: use fewer --racks")
    pool = plan.pool
    room = pool.block_count * pool.block_size
    if plan.pods > room or plan.nodes > pool.block_count:
        raise RequestError(
            f"{', '.join(map(str, pool.subnets))} has {pool.block_count} blocks with {room} "
            f"addresses, too few for {plan.nodes} nodes with {plan.pods} pods: use a larger "
            "--subnet, or fewer --block-bits"
        )
    if svg and not svg.parent.is_dir():
        raise RequestError(f"cannot write {svg}: there is no directory {svg.parent}")


def _run(plan: Plan) -> list[Sample]:
    from rich.console import Console
    from rich.progress import Progress

    from coil.ctl.simulation.datacentre import DataCentre

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("start", total=plan.seconds)

        def advance(seconds: int, phase: str) -> None:
            bar.update(task, advance=seconds, description=phase)

        return asyncio.run(DataCentre(plan).run(advance))


def _summary(plan: Plan, samples: Sequence[Sample]) -> dict[str, object]:
    """The promises in numbers: at the worst moment where there is one, else at the end."""
    families = len(plan.pool.families)
    most = max(sample.routes.spine for sample in samples)
    plain = max(sample.routes.spine_plain for sample in samples)
    end = samples[-1]
    transactions = end.claims + end.conflicts
    return {
        "nodes": plan.nodes,
        "racks": plan.racks,
        "pool": f"{', '.join(map(str, plan.pool.subnets))}: {plan.pool.block_count} blocks of "
        f"{plan.pool.block_size} addresses",
        "pods_refused": end.refused,
        "spine_routes_without_aggregates": plain,
        "spine_routes": most,
        "spine_routes_above_racks_percent": round(100 * (most / plan.racks / families - 1), 2),
        "tor_routes": max(sample.routes.tor for sample in samples),
        "node_routes": max(sample.routes.node for sample in samples),
        "prefixes_of_a_rack": max(sample.routes.rack for sample in samples),
        "blocks_outside_ranges": max(sample.routes.outside for sample in samples),
        "claims": end.claims,
        "conflicts_percent": round(100 * end.conflicts / transactions, 2) if transactions else 0.0,
    }
