"""The store in etcd as a whole: its parts on one connection, and which store it is."""

from __future__ import annotations

import json
import uuid

from coil.domain.codec import read_json
from coil.domain.errors import ConfigError
from coil.store.errors import StoreCorrupt
from coil.store.etcd.address import DEFAULT_PREFIX
from coil.store.etcd.control import EtcdControl
from coil.store.etcd.engine import Engine
from coil.store.etcd.keys import Keys
from coil.store.etcd.leaders import EtcdLeaders
from coil.store.etcd.wire import KeyValue, get, is_absent, put

_FORMAT = 1
"""Of all keys together: another number is another set of keys, and another coil."""
_OLDEST_SERVER = (3, 4)
"""Transactions inside transactions came with 3.3; 3.4 is the oldest that is tested."""


class EtcdStore(EtcdControl, EtcdLeaders):
    """See ``coil.store.contract.Store`` for what the methods promise."""

    def __init__(self, engine: Engine, prefix: str = DEFAULT_PREFIX) -> None:
        super().__init__(engine, Keys(prefix))
        self._is_new_enough = False

    async def close(self) -> None:
        """Close all connections; watches end. Idempotent."""
        await self._client.close()

    async def identity(self) -> str:
        """See the contract. Made by whoever asks first.

        Raises StoreCorrupt for keys of another format, ConfigError for a server that is too old.
        """
        key = self._keys.identity
        pairs = (await self._client.read(get(key))).pairs(0)
        await self._check_server()
        if not pairs:
            value = json.dumps({"format": _FORMAT, "identity": str(uuid.uuid4())}).encode()
            await self._client.write([is_absent(key)], [put(key, value)], repeatable=True)
            pairs = (await self._client.read(get(key))).pairs(0)
        return self._read_identity(pairs[0])

    def _read_identity(self, pair: KeyValue) -> str:
        try:
            found = read_json(pair.value.decode())
        except ValueError as exc:
            raise self.corrupt(pair, exc) from exc
        match found:
            case {"format": int(number), "identity": str(identity)}:
                if number == _FORMAT:
                    return identity
                raise StoreCorrupt(
                    f"{self._client} holds format {number} (key {pair.key}), and this coil "
                    f"knows {_FORMAT}: another coil wrote it; use that one, or another prefix",
                    key=pair.key,
                )
        raise self.corrupt(pair, "it names no format")

    async def _check_server(self) -> None:
        """Once: also a prefix that is there may have been put into an older etcd."""
        if self._is_new_enough:
            return
        version = await self._client.server_version()
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < _OLDEST_SERVER:
            raise ConfigError(f"{self._client} is etcd {version}; coil needs 3.4 or newer")
        self._is_new_enough = True
