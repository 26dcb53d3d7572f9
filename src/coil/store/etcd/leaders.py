"""Leadership in etcd: one key a role, which goes with a lease.

Each renewal puts the key under a new lease. Renewing the old one would be cheaper, but a member
that was leader of etcd and has not heard of its successor yet may say yes to that; a lease that was
granted has been agreed on, and lasts for its time from then on. Leaders are few.
"""

from __future__ import annotations

import json
import math

from coil.domain.codec import read_json
from coil.store.etcd.base import EtcdPart
from coil.store.etcd.wire import KeyValue, delete, get, has_value, is_absent, is_unchanged, put


class EtcdLeaders(EtcdPart):
    """See ``coil.store.contract.LeaderStore`` for what is promised."""

    async def lead(self, role: str, holder: str, seconds: float) -> bool:
        """See the contract."""
        key = self._keys.leader(role)
        there = next(iter((await self._client.read(get(key))).pairs(0)), None)
        if there is not None and self._to_holder_name(there) != holder:
            return False
        lease = await self._client.grant(math.ceil(seconds))
        condition = is_unchanged(there) if there else is_absent(key)
        done = await self._client.write([condition], [put(key, _value(holder), lease=lease)])
        if not done.succeeded:
            await self._client.revoke(lease)
        return done.succeeded

    async def resign(self, role: str, holder: str) -> None:
        """See the contract."""
        key = self._keys.leader(role)
        await self._client.write([has_value(key, _value(holder))], [delete(key)], repeatable=True)

    async def find_leader(self, role: str) -> str | None:
        """See the contract."""
        pairs = (await self._client.read(get(self._keys.leader(role)))).pairs(0)
        return self._to_holder_name(pairs[0]) if pairs else None

    def _to_holder_name(self, pair: KeyValue) -> str:
        try:
            match read_json(pair.value.decode()):
                case {"holder": str(holder)}:
                    return holder
        except ValueError as exc:
            raise self.corrupt(pair, exc) from exc
        raise self.corrupt(pair, "it names no holder")


def _value(holder: str) -> bytes:
    return json.dumps({"holder": holder}).encode()
