"""The controller's view of etcd, and how it takes back what a node left behind.

See ``coil.store.contract.ControlStore`` for what is promised.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from coil.domain.block import BlockClaim
from coil.domain.codec import claim_to_json
from coil.domain.errors import CoilError
from coil.domain.node import NodeRecord, NodeStatus
from coil.domain.survey import Survey, Unreadable
from coil.store.contract import Release
from coil.store.etcd.blocks import EtcdBlocks
from coil.store.etcd.nodes import EtcdNodes
from coil.store.etcd.wire import (
    Compare,
    KeyValue,
    choice,
    delete,
    get,
    get_page,
    has_value,
    is_absent,
    is_unchanged,
    put,
)

T = TypeVar("T")

_PAGE = 1000
"""Keys of one request: 5,000 nodes are read in fifty, of 10 ms each, between which others run."""


class EtcdControl(EtcdBlocks, EtcdNodes):
    """See module."""

    async def survey(self) -> Survey:
        """See the contract. All pages are of the revision of the first."""
        revision = (await self._client.read(get(self._keys.identity))).revision
        unreadable: list[Unreadable] = []

        async def read(prefix: str, parse: Callable[[KeyValue], T]) -> dict[str, T]:
            found: dict[str, T] = {}
            async for pair in self._pages(prefix, revision):
                try:
                    found[pair.key] = parse(pair)
                except (CoilError, ValueError) as exc:
                    unreadable.append(Unreadable(pair.key, _reason(exc)))
            return found

        pools = await read(self._keys.pools, self.to_pool)
        lives = await read(self._keys.lives, self._to_holder)
        records = await read(self._keys.nodes, self._to_record)
        claims = await read(self._keys.all_blocks, self.to_claim)
        copies = await read(self._keys.all_owned, self._to_copy)
        in_force, shown = set(claims.values()), set(copies.values())
        alive = {key.removeprefix(self._keys.lives) for key in lives}
        # A sign of life that cannot be read is one all the same.
        alive |= {each.key.removeprefix(self._keys.lives) for each in unreadable}
        return Survey(
            pools=tuple(pools.values()),
            nodes=tuple(NodeStatus(found, found.name in alive) for found in records.values()),
            claims=tuple(claims.values()),
            hidden=tuple(claim for claim in claims.values() if claim not in shown),
            stale=tuple(copy for copy in copies.values() if copy not in in_force),
            unreadable=tuple(unreadable),
        )

    async def _pages(self, prefix: str, revision: int) -> AsyncIterator[KeyValue]:
        begin = prefix
        while True:
            page = await self._client.read(get_page(begin, prefix, revision, limit=_PAGE))
            pairs = page.pairs(0)
            for pair in pairs:
                yield pair
            if len(pairs) < _PAGE:
                return
            begin = pairs[-1].key + "\0"

    def _to_copy(self, pair: KeyValue) -> BlockClaim:
        claim = self.to_claim(pair)
        if pair.key != self._keys.owned_block(claim.node, claim.id):
            raise ValueError(f"it is under another name than its owner {claim.node}")
        return claim

    async def take_block(self, claim: BlockClaim, record: NodeRecord) -> Release:
        """See the contract."""
        gone = await self._find_gone(record)
        if gone is None:
            return Release.NOT_GONE
        block, owned = self._keys.block(claim.id), self._keys.owned_block(claim.node, claim.id)
        is_owner = has_value(block, claim_to_json(claim).encode())
        done = await self._client.write(
            gone, [choice([is_owner], [delete(block), delete(owned)])], repeatable=True
        )
        if not done.succeeded:
            return Release.NOT_GONE
        return Release.RELEASED if done.nested(0).succeeded else Release.NOT_OWNER

    async def take_name(self, record: NodeRecord) -> bool:
        """See the contract."""
        gone = await self._find_gone(record)
        if gone is None:
            return False
        removed = [delete(self._keys.node(record.name))]
        return (await self._client.write(gone, removed, repeatable=True)).succeeded

    async def _find_gone(self, record: NodeRecord) -> list[Compare] | None:
        """What holds as long as the node of ``record`` does not show itself; None if it has."""
        node, life = self._keys.node(record.name), self._keys.life(record.name)
        found = await self._client.read(get(node), get(life))
        if found.pairs(1) or not found.pairs(0):
            return None
        pair = found.pairs(0)[0]
        if self._to_record(pair) != record:
            return None
        return [is_unchanged(pair), is_absent(life)]

    async def mend_claim(self, claim: BlockClaim) -> bool:
        """See the contract."""
        block, owned = self._keys.block(claim.id), self._keys.owned_block(claim.node, claim.id)
        value = claim_to_json(claim).encode()
        in_force, shown = has_value(block, value), has_value(owned, value)
        done = await self._client.write(
            [in_force],
            [choice([shown], [], [put(owned, value)])],
            [choice([shown], [delete(owned)])],
            repeatable=True,
        )
        return done.succeeded != done.nested(0).succeeded


def _reason(exc: Exception) -> str:
    """Why, without the name of the key and what to do."""
    cause = exc.__cause__ or exc
    return cause.message if isinstance(cause, CoilError) else str(cause)
