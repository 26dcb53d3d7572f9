"""Nodes in etcd: a record that stays, and a sign of life that goes with the node's lease.

A lease that has ended says that a node was not heard of, and nothing else: whoever wants to take
its blocks needs better evidence (coil.controller).
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Mapping

from coil.domain.codec import holder_from_json, holder_to_json, node_from_json, node_to_json
from coil.domain.errors import CoilError, NodeNameInDoubt, NodeNameTaken
from coil.domain.names import NodeName
from coil.domain.node import Holder, NodeRecord, NodeStatus, may_hold
from coil.store.errors import StoreConflict
from coil.store.etcd.base import EtcdPart
from coil.store.etcd.engine import Engine
from coil.store.etcd.keys import Keys
from coil.store.etcd.wire import (
    Compare,
    KeyValue,
    delete,
    get,
    get_below,
    is_absent,
    is_unchanged,
    put,
)

_REWRITE_SECONDS = 300
"""A record is written again so often: for 5,000 nodes 17 writes a second; "last seen" is good to
five minutes for a node that has gone, and what a node says of its blocks is no older."""
_FRESH = 0.6
"""What is left at least of a lease that a coild still renews: it does so each third. The default
one is stale after 36 seconds: of these a boot takes most, and the plugin can wait for the rest."""


class EtcdNodes(EtcdPart):
    """See ``coil.store.contract.NodeStore`` for what is promised."""

    def __init__(self, client: Engine, keys: Keys) -> None:
        super().__init__(client, keys)
        self._lease = 0
        self._written: NodeRecord | None = None
        self._held = False

    async def hold_name(self, record: NodeRecord, seconds: float) -> None:
        """See the contract."""
        renewed = self._is_current(record) and await self._client.keep_alive(self._lease)
        async for _ in self._client.attempts():
            node, life = await self._read(record.name)
            # Whoever released this node by force has deleted both.
            if renewed and node and life and life.lease == self._lease:
                return
            self._check_free(record, node, life)
            await self._check_silent(record, node, life)
            if not self._lease or not await self._client.keep_alive(self._lease):
                self._lease = await self._client.grant(max(2, math.ceil(seconds)))
            if await self._write(record, node, life):
                self._written, self._held = record, True
                return
        raise StoreConflict(f"the record of node {record.name} is changed by others all the time")

    async def _read(self, name: NodeName) -> tuple[KeyValue | None, KeyValue | None]:
        """Record and sign of life."""
        found = await self._client.read(get(self._keys.node(name)), get(self._keys.life(name)))
        return next(iter(found.pairs(0)), None), next(iter(found.pairs(1)), None)

    def _is_current(self, record: NodeRecord) -> bool:
        """Whether what etcd has says all that is new."""
        before = self._written
        if not self._lease or before is None:
            return False
        return not record.says_more_than(before) and record.seen - before.seen < _REWRITE_SECONDS

    def _check_free(self, record: NodeRecord, node: KeyValue | None, life: KeyValue | None) -> None:
        living = self._to_holder(life) if life else None
        there: NodeRecord | None = None
        # What cannot be read may be another's: only who is known to be alive here writes it anew.
        if node and living != record.holder:
            there = self._to_record(node)
        elif node:
            there = next(self.readable([node], self._to_record), None)
        recorded = there.holder if there else None
        if may_hold(record.holder, recorded, living, held=self._held):
            return
        self._lease, self._written = 0, None
        if there and there.holder.machine != record.holder.machine:
            raise NodeNameTaken(
                f"node name {record.name} is that of another machine ({_reached(there)}): give "
                "this one another --node-name; if the other is gone for good, free the name with: "
                f"coilctl node release {record.name}",
                node=record.name,
            )
        if living is None or living.boot != record.holder.boot:
            raise NodeNameTaken(
                f"node name {record.name} was taken by another machine with the same "
                f"/etc/machine-id ({_reached(there)}): drain one of them, give it an id of its own "
                "(systemd-machine-id-setup) and another --node-name, and restart coild on both",
                node=record.name,
            )
        raise NodeNameTaken(
            f"node name {record.name} is in use by another coild of this machine "
            f"({living.place}): end that one, or give this one another "
            "--node-name",
            node=record.name,
        )

    async def _check_silent(
        self, record: NodeRecord, node: KeyValue | None, life: KeyValue | None
    ) -> None:
        """Raise NodeNameInDoubt while the boot before this one may be there and renew its lease."""
        if life is None or self._to_holder(life).boot == record.holder.boot:
            return
        left, granted = await self._client.time_left(life.lease)
        fresh = math.floor(granted * _FRESH)
        if left < fresh:
            return
        there = self._to_record(node) if node else None
        raise NodeNameInDoubt(
            f"node name {record.name} was in use by another boot of this machine just now "
            f"({_reached(there)}): if it was not rebooted, another one has the same "
            "/etc/machine-id: give this one an id of its own (systemd-machine-id-setup) and "
            "another --node-name",
            seconds=left + 1 - fresh,  # left is rounded down
            node=record.name,
        )

    async def _write(
        self, record: NodeRecord, node: KeyValue | None, life: KeyValue | None
    ) -> bool:
        keys = self._keys.node(record.name), self._keys.life(record.name)
        conditions = [_as_read(key, pair) for key, pair in zip(keys, (node, life), strict=True)]
        done = await self._client.write(
            conditions,
            [
                put(keys[0], node_to_json(record).encode()),
                put(keys[1], holder_to_json(record.holder).encode(), lease=self._lease),
            ],
            repeatable=True,  # the second time the conditions fail, and the record is read again
        )
        return done.succeeded

    async def list_nodes(self) -> list[NodeStatus]:
        """See the contract."""
        found = await self._client.read(get_below(self._keys.nodes), get_below(self._keys.lives))
        alive = {pair.key.removeprefix(self._keys.lives) for pair in found.pairs(1)}
        records = self.readable(found.pairs(0), self._to_record)
        return [NodeStatus(record, record.name in alive) for record in records]

    def watch_nodes(self) -> AsyncIterator[Mapping[NodeName, NodeRecord]]:
        """See the contract."""

        def read(pair: KeyValue) -> tuple[NodeName, NodeRecord]:
            record = self._to_record(pair)
            return record.name, record

        return self.watch_entries(self._keys.nodes, read)

    async def find_node(self, name: NodeName) -> NodeStatus | None:
        """See the contract."""
        node, life = await self._read(name)
        return NodeStatus(self._to_record(node), life is not None) if node else None

    async def forget_node(self, name: NodeName) -> None:
        """See the contract."""
        gone = [delete(self._keys.node(name)), delete(self._keys.life(name))]
        await self._client.write([], gone, repeatable=True)

    def _to_record(self, pair: KeyValue) -> NodeRecord:
        try:
            return node_from_json(pair.key.removeprefix(self._keys.nodes), pair.value.decode())
        except (CoilError, ValueError) as exc:
            raise self.corrupt(pair, exc) from exc

    def _to_holder(self, pair: KeyValue) -> Holder:
        try:
            return holder_from_json(pair.value.decode())
        except ValueError as exc:
            raise self.corrupt(pair, exc) from exc


def _reached(record: NodeRecord | None) -> str:
    return ", ".join(map(str, record.addresses if record else ())) or "no address"


def _as_read(key: str, pair: KeyValue | None) -> Compare:
    return is_unchanged(pair) if pair else is_absent(key)
