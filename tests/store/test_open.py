"""URLs of stores: which open one, and that every other says what is possible."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.domain.errors import ConfigError
from coil.kube.endpoints import ServiceName
from coil.store.etcd import parse_address
from coil.store.open import _split, open_store, shown_url


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
        ("etcd:", "not an endpoint"),
        ("etcd://", "not an endpoint"),
        ("etcd:///prefix", "not an endpoint"),
        ("etcd://a:2379,", "not an endpoint"),
        ("etcd://a b:1", "not an endpoint"),
        ("etcd://::1:2379", "not an endpoint"),
        ("etcd://[::1", "not an endpoint"),
        ("etcd://[:::]:1", "not an endpoint"),
        ("etcd://a:0", "port"),
        ("etcd://a:65536", "port"),
        ("etcd://a:http", "port"),
        ("etcd://@No_Name/x", "not the name of a Kubernetes service"),
        ("etcd://@a:x", "no port from 1 to 65535"),
        ("etcd://user@@a", "USER:PASSWORD"),
        ("etcd://user@a", "needs a password"),
        ("etcd://:secret@a", "needs a password"),
        ("etcd://a/b//c", "prefix"),
        ("etcd://a/b%20c", "prefix"),
        ("etcd://a/b?x=1", "unknown parameter 'x'"),
        ("etcd://a/?timeout=soon", "timeout=soon"),
        ("etcd://a/?timeout=0", "timeout=0"),
        ("etcd://a/?timeout=nan", "timeout=nan"),
        ("etcd://a/?timeout=1&timeout=2", "twice"),
        ("etcd://a/#b", "'#'"),
        ("etcd://a/?ca=/absent.pem", "cannot read ca=/absent.pem"),
        ("etcd://a/?ca=/etc/hostname", "not a PEM file"),
        ("etcd://a/?ca=%00", "cannot read ca="),
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
        ("sqlite://[x", "absolute path"),
    ],
)
async def test_another_url_is_refused_with_what_is_possible(url: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        await open_store(url)
    assert says in caught.value.message
    form = "etcd://HOST:PORT" if url.startswith("etcd") else "sqlite:///ABSOLUTE/PATH"
    assert form in caught.value.message or "PEM" in says or "cannot read" in says


@pytest.mark.parametrize(
    ("url", "endpoints", "prefix"),
    [
        ("etcd://localhost", ("localhost:2379",), "/coil/"),
        ("etcd://a:1,b.example.org:2/", ("a:1", "b.example.org:2"), "/coil/"),
        ("etcd://[fd00::1]:2379,[::1]/x", ("[fd00::1]:2379", "[::1]:2379"), "/x/"),
        ("etcd://10.0.0.1:2379,[::1]:2379/coil", ("10.0.0.1:2379", "[::1]:2379"), "/coil/"),
        ("etcd://u:p%40ss@a,[::1]", ("a:2379", "[::1]:2379"), "/coil/"),
        ("etcd://a/x%40y", ("a:2379",), "/x@y/"),
        ("etcd://u:p%40ss@a,b/one/two/", ("a:2379", "b:2379"), "/one/two/"),
    ],
)
def test_a_url_names_endpoints_and_prefix(
    url: str, endpoints: tuple[str, ...], prefix: str
) -> None:
    address = parse_address(_split(url))
    assert (address.endpoints, address.prefix, address.service) == (endpoints, prefix, None)
    assert "p@ss" not in f"{address} {address!r}"
    assert address.password in {"", "p@ss"}


@pytest.mark.parametrize(
    ("url", "user", "service"),
    [
        ("etcd://@etcd", "", ServiceName("etcd")),
        ("etcd://@etcd.ns:1/x", "", ServiceName("etcd", "ns", 1)),
        ("etcd://u:p%40ss@@etcd.ns/x", "u", ServiceName("etcd", "ns")),
    ],
)
def test_a_url_names_a_service_instead(url: str, user: str, service: ServiceName) -> None:
    address = parse_address(_split(url))
    assert (address.endpoints, address.user, address.service) == ((), user, service)
    assert str(service) in str(address)


async def test_a_service_is_looked_up_in_pods_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ConfigError, match=r"@etcd\.ns can be looked up in a pod only"):
        await open_store("etcd://@etcd.ns/x")


@pytest.mark.parametrize(
    "url",
    ["mysql://root:secret@a", "etcd://root:secret@a/?x=1", "etcd://root:secret/x@a",
     "etcd://root:1/secret@a", "etcd://root:secret?x@a", "etcd://root:secret#x@a",
     "etcd://root:x@secret/y@a", "etcd://ro/ot:secret@a"],
)  # fmt: skip
async def test_a_password_in_a_url_is_not_shown(url: str) -> None:
    assert "secret" not in shown_url(url)
    with pytest.raises(ConfigError) as caught:
        await open_store(url)
    assert "secret" not in caught.value.message


def test_a_url_is_shown_without_its_password() -> None:
    assert shown_url("etcd://u:secret@a:1,b/p?ca=/c") == "etcd://u:***@a:1,b/p?ca=/c"
    assert shown_url("etcd://u:secret@@etcd.ns:1/p") == "etcd://u:***@@etcd.ns:1/p"
    assert shown_url("etcd://u:se@cret@a/p") == "etcd://u:***@a/p"
    for url in ("sqlite:///a@b", "etcd://@etcd.ns/p", "etcd://a/b", "nonsense"):
        assert shown_url(url) == url


@given(text=st.one_of(st.text(max_size=50), st.text(max_size=50).map("etcd://{}".format)))
def test_any_text_is_an_address_or_refused(text: str) -> None:
    try:
        address = parse_address(_split(text))
    except ConfigError:
        return
    assert address.endpoints or address.service
    assert address.prefix.startswith("/")
    assert address.prefix.endswith("/")


async def test_what_cannot_be_opened_leaves_no_thread(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        await open_store(f"sqlite://{tmp_path}")
