"""What the processes of a test do with a store. Prints one JSON line per thing done.

Times are nanoseconds of CLOCK_MONOTONIC, which is one clock for all processes.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Awaitable, Callable

from coil.domain.block import BlockClaim
from coil.domain.errors import OutOfBlocks, PoolExists, PoolInUse, PoolNotFound, SubnetOverlap
from coil.domain.names import parse_node_name, parse_pool_name
from coil.domain.pool import Pool, parse_subnet
from coil.store.contract import Store
from coil.store.open import open_store


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def churn(store: Store, node: str, pool: str, rounds: str, most: str) -> None:
    """Claim and release at random, holding about ``most``; say when each block was held."""
    mine = parse_node_name(node)
    name = parse_pool_name(pool)
    chance = random.Random(node)
    held: list[tuple[BlockClaim, int]] = []
    done = 0
    while done < int(rounds):
        done += 1
        if held and (chance.random() < 0.5 or len(held) >= int(most)):
            claim, since = held.pop(chance.randrange(len(held)))
            until = time.monotonic_ns()
            assert await store.release_blocks([claim]) == [claim]
            assert await store.release_blocks([claim]) == []
            say(index=claim.id.index, revision=claim.revision, since=since, until=until)
            continue
        try:
            claims = await store.claim_blocks(mine, name, chance.randint(1, min(3, int(most))))
        except OutOfBlocks:
            continue
        except PoolNotFound:  # deleted at this moment: that was no round
            done -= 1
            await asyncio.sleep(0)
            continue
        held += [(claim, time.monotonic_ns()) for claim in claims]
    for claim, since in held:
        say(index=claim.id.index, revision=claim.revision, since=since, until=None)


async def claim_forever(store: Store, node: str, pool: str) -> None:
    """Claim block after block until killed; say each one that was confirmed."""
    while True:
        for claim in await store.claim_blocks(parse_node_name(node), parse_pool_name(pool), 1):
            say(index=claim.id.index, revision=claim.revision)


async def create_all(store: Store, seed: str, prefix: str, *subnets: str) -> None:
    """Try to make a pool of each subnet, in an order of our own; say which were made."""
    order = list(enumerate(subnets))
    random.Random(seed).shuffle(order)
    for number, subnet in order:
        pool = Pool(parse_pool_name(f"{prefix}{number}"), (parse_subnet(subnet),), 0)
        try:
            await store.create_pool(pool)
        except (SubnetOverlap, PoolExists) as exc:
            say(name=pool.name, refused=type(exc).__name__)
        else:
            say(name=pool.name, made=subnet)


async def delete_and_create(store: Store, pool: str, subnet: str, rounds: str) -> None:
    """Delete the pool whenever it is unused and make it again; say when it was deleted.

    Goes on past ``rounds`` until it was refused once, and was not once: else it may have raced with
    nobody.
    """
    again = Pool(parse_pool_name(pool), (parse_subnet(subnet),), 0)
    refused = deleted = False
    for number in range(50 * int(rounds)):
        if number >= int(rounds) and refused and deleted:
            return
        before = time.monotonic_ns()
        try:
            await store.delete_pool(again.name)
        except PoolInUse:
            refused = True
            say(refused=True)
            continue
        deleted = True
        say(since=before, until=time.monotonic_ns())
        await store.create_pool(again)


async def identity(store: Store) -> None:
    """Say the store's identity and whether this process kept a damaged file aside."""
    say(identity=await store.identity(), kept_aside=str(getattr(store, "recovered_from", None)))


async def watch_pools(store: Store, until: str) -> None:
    """Say the names of the pools whenever they change, until there is one of this name."""
    async for pools in store.watch_pools():
        names = [pool.name for pool in pools]
        say(pools=names)
        if until in names:
            return


COMMANDS: dict[str, Callable[..., Awaitable[None]]] = {
    "churn": churn,
    "claim-forever": claim_forever,
    "create-all": create_all,
    "delete-and-create": delete_and_create,
    "identity": identity,
    "watch-pools": watch_pools,
}


async def main(url: str, command: str, *words: str) -> None:
    if command == "identity":  # opens at the same moment as others
        print("ready", flush=True)
        sys.stdin.readline()
        store = await open_store(url)
    else:
        store = await open_store(url)
        print("ready", flush=True)
        sys.stdin.readline()
    try:
        await COMMANDS[command](store, *words)
    finally:
        await store.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
