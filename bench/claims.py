"""Clients of an etcd, to be run where it can be reached: ``python -m bench.claims WORK URL COUNT``.

Prints what it measured as JSON. The nodes are the store's own claim code; only coild is left out.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
import time
from urllib.parse import urlsplit

from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import Holder, NodeRecord
from coil.domain.pool import Pool, parse_subnet
from coil.process.together import all_of
from coil.store.etcd import EtcdClient, EtcdStore, parse_address
from coil.store.etcd.wire import is_absent, put

RACKS = 125
AT_ONCE = 200
"""Claims under way at a moment: more would only wait for this one process."""
CONNECTIONS = 16


def pool(name: str) -> Pool:
    return Pool(PoolName(name), (parse_subnet("10.0.0.0/12"),))


async def daemons(url: str, count: int) -> dict:
    """Make the pool that running daemons wait for; until each has a block of it."""
    address = parse_address(urlsplit(url))
    store = EtcdStore(EtcdClient(address), address.prefix)
    watch = store.watch_claims()
    await anext(watch)
    began = time.monotonic()
    await store.create_pool(pool("default"))
    async for claims in watch:
        if len({claim.node for claim in claims.values()}) == count:
            break
    took = time.monotonic() - began
    await store.close()
    return {"seconds": took}


async def clients(url: str, count: int) -> dict:
    """As many connections: each puts one key if it is absent; each claims its first block."""
    address = parse_address(urlsplit(url))
    made = [EtcdClient(address) for _ in range(count)]
    stores = [EtcdStore(client, address.prefix) for client in made]
    name = PoolName(f"p{secrets.token_hex(4)}")
    await stores[0].create_pool(Pool(name, (parse_subnet(f"10.{secrets.randbelow(200)}.0.0/16"),)))
    await all_of(store.list_pools() for store in stores)

    async def bare(client: EtcdClient, number: int) -> None:
        key = f"{address.prefix}bare/{name}/{number}"
        assert (await client.write([is_absent(key)], [put(key, b"x" * 60)])).succeeded

    began = time.monotonic()
    await all_of(bare(client, number) for number, client in enumerate(made))
    puts = time.monotonic() - began
    began = time.monotonic()
    await all_of(s.claim_blocks(NodeName(f"n{n}"), name, 1) for n, s in enumerate(stores))
    claims = time.monotonic() - began
    await stores[0].release_blocks(await stores[0].list_pool_blocks(name))
    await stores[0].delete_pool(name)
    for store in stores:
        await store.close()
    return {"puts": puts, "claims": claims}


async def nodes(url: str, count: int) -> dict:
    """So many nodes in racks claim their first block, as fast as one process can do it."""
    address = parse_address(urlsplit(url))
    made = [EtcdClient(address) for _ in range(CONNECTIONS)]
    # What a node remembers is its own: a store each.
    stores = [EtcdStore(made[number % CONNECTIONS], address.prefix) for number in range(count)]
    await stores[0].create_pool(pool("default"))
    turn = asyncio.Semaphore(AT_ONCE)

    async def claim(number: int) -> None:
        async with turn:
            rack = RackName(f"r{number % RACKS}")
            await stores[number].claim_blocks(NodeName(f"n{number}"), PoolName("default"), 1, rack)

    began = time.monotonic()
    await all_of(claim(number) for number in range(count))
    took = time.monotonic() - began
    owners = {claim.node for claim in await stores[0].list_pool_blocks(PoolName("default"))}
    assert len(owners) == count
    for client in made:
        await client.close()
    return {"seconds": took, "conflicts": sum(store.conflicts for store in stores)}


async def others(url: str, count: int) -> dict:
    """Records and a block each of so many other nodes."""
    address = parse_address(urlsplit(url))
    store = EtcdStore(EtcdClient(address), address.prefix)
    for number in range(count):
        name = NodeName(f"other-{secrets.token_hex(6)}")
        await store.hold_name(NodeRecord(name, Holder(name, "b", "p"), "1", None, (), 1), 3600)
        await store.claim_blocks(name, PoolName("default"), 1, RackName(f"r{number % RACKS}"))
    await store.close()
    return {}


WORKS = {"daemons": daemons, "clients": clients, "nodes": nodes, "others": others}

if __name__ == "__main__":
    print(json.dumps(asyncio.run(WORKS[sys.argv[1]](sys.argv[2], int(sys.argv[3])))))
