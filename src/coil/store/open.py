"""From a URL to a store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from coil.domain.errors import ConfigError
from coil.store.contract import Store
from coil.store.sqlite_store import SqliteStore

_FORMS = "sqlite:///ABSOLUTE/PATH"


async def open_store(url: str) -> Store:
    """Open the store that ``url`` names. Raises ConfigError, StoreError."""
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        raise ConfigError(f"store {url!r}: the URL must be {_FORMS}")
    path = Path(unquote(parts.path))
    if parts.netloc or not parts.path.startswith("/") or not path.name:
        raise ConfigError(f"store {url!r}: the path must be absolute, three slashes: {_FORMS}")
    if parts.query or parts.fragment:
        raise ConfigError(f"store {url!r}: sqlite takes no parameters, use {_FORMS}")
    store = SqliteStore(path)
    await store.open()
    return store
