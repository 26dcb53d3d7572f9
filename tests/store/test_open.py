"""URLs of stores: which open one, and that every other says what is possible."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from coil.domain.errors import ConfigError
from coil.store.open import _split, open_store


@pytest.mark.parametrize("scheme", ["sqlite", "SQLite"])
@pytest.mark.parametrize(
    ("text", "name"),
    [("store.db", "store.db"), ("a%20b.db", "a b.db"), ("a%3Fb%23c", "a?b#c"), ("%C3%A9", "é")],
)
async def test_a_url_opens_the_file_it_names(
    tmp_path: Path, scheme: str, text: str, name: str
) -> None:
    store = await open_store(f"{scheme}://{tmp_path}/{text}")
    try:
        assert await store.list_pools() == []
        assert (tmp_path / name).is_file()
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "not a URL"),
        ("/var/lib/coil/store.db", "not a URL"),
        ("etcd://localhost:2379", "unknown kind of store 'etcd'"),
        ("kubernetes://", "unknown kind of store 'kubernetes'"),
        ("sqlite3:///x", "unknown kind of store 'sqlite3'"),
        ("sqlite:", "absolute path"),
        ("sqlite://", "absolute path"),
        ("sqlite:x.db", "absolute path"),
        ("sqlite://x.db", "absolute path"),
        ("sqlite://host/x.db", "absolute path"),
        ("sqlite:///", "not the name of a file"),
        ("sqlite:///tmp/", "not the name of a file"),
        ("sqlite:///a%00b", "not the name of a file"),
        ("sqlite:///x.db?mode=ro", "no parameters"),
        ("sqlite:///x.db#y", "no parameters"),
        ("sqlite:///x\n.db", "unprintable"),
        ("sqlite://[x", "not a URL"),
    ],
)
async def test_another_url_is_refused_with_what_is_possible(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await open_store(url)
    assert says in caught.value.message
    assert "sqlite:///ABSOLUTE/PATH" in caught.value.message


async def test_a_password_in_a_url_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        await open_store("etcd://root:secret@localhost:2379")
    assert "secret" not in caught.value.message


@given(text=st.text(max_size=50))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_split_or_refused(text: str) -> None:
    try:
        parts = _split(text)
    except ConfigError:
        return
    assert parts.geturl() or not text


async def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await open_store(f"sqlite://{tmp_path}")
