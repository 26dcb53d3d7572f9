"""From a URL to a store: the only place that knows which stores there are."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import SplitResult, unquote

from coil.domain.errors import ConfigError
from coil.store.contract import Store
from coil.store.errors import StoreAbsent
from coil.store.sqlite import SqliteStore

DEFAULT_STORE = "sqlite:///var/lib/coil/store.db"
"""Of every program."""
_URL = re.compile(
    r"(?:([A-Za-z][A-Za-z0-9+.-]*):)?(?://([^/?#]*))?([^?#]*)(?:\?([^#]*))?(?:#(.*))?", re.ASCII
)
"""RFC 3986, appendix B."""


async def open_store(url: str, *, make: bool = True) -> Store:
    """Open the store that ``url`` names; whoever opens it closes it.

    A file that is not there is made, with ``make=False`` StoreAbsent is raised instead. Raises
    ConfigError for a URL or a place that cannot be, StoreCorrupt for one that holds something
    else. A store that cannot be reached now is returned all the same: its methods raise
    StoreUnavailable until it can be.
    """
    parts = _split(url)
    opener = _OPENERS.get(parts.scheme)
    if opener is None:
        kind = f"unknown kind of store {parts.scheme!r}" if parts.scheme else "not a URL of a store"
        raise ConfigError(f"{kind}; {_possible()}")
    return await opener(parts, make)


@asynccontextmanager
async def opened_store(url: str, *, make: bool = True) -> AsyncIterator[Store]:
    """The store that ``url`` names, closed at the end. Raises as ``open_store``."""
    store = await open_store(url, make=make)
    try:
        yield store
    finally:
        await store.close()


def _split(url: str) -> SplitResult:
    # urlsplit takes one host only, so no IPv6 address after another, and shows what it refuses.
    found = _URL.fullmatch(url.lstrip())
    if found is None or not url.isprintable():
        raise ConfigError(f"the URL of the store holds unprintable characters; {_possible()}")
    scheme, netloc, path, query, fragment = found.groups("")
    return SplitResult(scheme.lower(), netloc, path, query, fragment)


async def _open_sqlite(parts: SplitResult, make: bool) -> Store:  # noqa: FBT001 - an opener
    path = _sqlite_path(parts)
    if not make:
        _check_there(path)
    store = SqliteStore(path)
    try:
        await store.open()
    except BaseException:
        await store.close()
        raise
    return store


def _sqlite_path(parts: SplitResult) -> Path:
    text = unquote(parts.path, errors="surrogateescape")
    if parts.netloc or not text.startswith("/"):
        raise ConfigError(f"the file of an SQLite store needs an absolute path; {_possible()}")
    if parts.query or parts.fragment:
        raise ConfigError(
            "the URL of an SQLite store takes no parameters (a '?' or '#' in the path is written "
            f"%3F or %23); {_possible()}"
        )
    if "\0" in text or text.endswith("/"):
        raise ConfigError(f"{text!r} is not the name of a file; {_possible()}")
    return Path("/" + text.lstrip("/"))


def _check_there(path: Path) -> None:
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as exc:
        raise StoreAbsent(
            f"there is no store {path}; coild makes it when it starts, coilctl pool create with "
            "the first pool: is it the right --store?",
            path=str(path),
        ) from exc
    except OSError:
        return  # the store says what is wrong


async def _open_etcd(parts: SplitResult, _make: bool) -> Store:  # noqa: FBT001 - an opener
    # Late: gRPC takes 9 MB and 50 ms that one machine has no use for.
    from coil.store.etcd import EtcdClient, EtcdStore, look_up, parse_address

    address, find = parse_address(parts), None
    if address.service is not None:
        address, find = look_up(address, address.service)
    return EtcdStore(EtcdClient(address, find), address.prefix)


_OPENERS: dict[str, Callable[[SplitResult, bool], Awaitable[Store]]] = {
    "sqlite": _open_sqlite,
    "etcd": _open_etcd,
}
_FORMS = {
    "sqlite": "sqlite:///ABSOLUTE/PATH",
    "etcd": "etcd://HOST:PORT,.../PREFIX?ca=&cert=&key=",
}


def shown_url(url: str) -> str:
    """The URL without the password it may hold, for people and logs."""
    # Up to the last @: what is in a password may look like the end of the hosts.
    return re.sub(r"(?<=://)(?!/)([^@:]*):.*?(@@?)(?=[^@]*$)", r"\1:***\2", url, flags=re.DOTALL)


def _possible() -> str:
    """Which URLs there are."""
    return "a store is named by " + " or ".join(_FORMS[scheme] for scheme in _OPENERS)
