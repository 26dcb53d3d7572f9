"""What only etcd has: several members, TLS, users, foreign keys, and what a claim costs."""

from __future__ import annotations

import asyncio
import re
import secrets
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from coil.domain.block import BlockClaim
from coil.domain.errors import CoilError, ConfigError
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import Holder, NodeRecord, NodeStatus
from coil.domain.pool import Pool, parse_subnet
from coil.domain.survey import Survey
from coil.kube.endpoints import ServiceName
from coil.lab.errors import LabError
from coil.lab.etcd import EtcdMember, free_ports, local_etcd
from coil.lab.wait import until
from coil.store.contract import Release, Store
from coil.store.errors import StoreError, StoreUnavailable
from coil.store.etcd import EtcdStore
from coil.store.etcd.address import parse_address
from coil.store.etcd.client import EtcdClient
from coil.store.etcd.wire import get
from coil.store.open import open_store
from store.rigs import EtcdRig, client, make_pool, url_of

A, B = NodeName("node-a"), NodeName("node-b")
NAME = PoolName("default")


def pool(subnet: str = "10.0.0.0/16", bits: int = 4) -> Pool:
    return Pool(NAME, (parse_subnet(subnet),), bits)


def leader_of(members: list[EtcdMember]) -> EtcdMember:
    """Whom all take for the leader: a cluster may elect at any time."""

    def agreed() -> EtcdMember | None:
        words = ("endpoint", "status", "-w", "fields")
        told = [
            dict(re.findall(r'"(MemberID|Leader)" : (\d+)', each.ctl(*words, check=False).stdout))
            for each in members
        ]
        by_id = {each.get("MemberID"): member for each, member in zip(told, members, strict=True)}
        (leader, *others) = {each.get("Leader", "0") for each in told}
        return None if others else by_id.get(leader)

    return until(agreed, "the members agree on a leader")


# Several members


async def test_a_killed_leader_is_survived_by_every_kind_of_call(trio: list[EtcdMember]) -> None:
    store = await open_store(url_of(trio))
    try:
        await make_pool(store, pool())
        watch = store.watch_node_blocks(A)
        assert await anext(watch) == []
        await asyncio.to_thread(lambda: leader_of(trio).kill())
        had = []
        for _ in range(20):
            try:
                had = await store.claim_blocks(A, NAME, 1)
            except StoreUnavailable:  # its outcome is unknown, as the contract says
                continue
            break
        assert had
        async with asyncio.timeout(20):
            async for seen in watch:
                if had[0] in seen:
                    break
        assert set(had) <= set(await store.list_node_blocks(A))
        assert [each.name for each in await store.list_pools()] == [NAME]
    finally:
        await store.close()


async def test_a_silent_member_is_passed_over(trio: list[EtcdMember]) -> None:
    follower = next(member for member in trio if member is not leader_of(trio))
    order = [follower, *(member for member in trio if member is not follower)]
    follower.suspend()
    store = await open_store(url_of(order))
    try:
        await make_pool(store, pool())
        assert await store.claim_blocks(A, NAME, 1)
    finally:
        follower.resume()
        await store.close()


async def test_endpoints_that_nobody_has_cost_no_call(etcd: EtcdMember) -> None:
    store = await open_store(
        f"etcd://127.0.0.1:1,{etcd.endpoint}/x{secrets.token_hex(4)}?timeout=30"
    )
    try:
        await store.create_pool(pool())
        assert await store.get_pool(NAME) == pool()
    finally:
        await store.close()


def test_a_cluster_whose_ports_were_taken_meanwhile_is_started_with_others(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        taken = other.getsockname()[1]
        found = [[*free_ports(3), taken], free_ports(4)]
        with local_etcd(tmp_path / "etcd", 2, find_ports=lambda _: found.pop(0)) as members:
            assert [member.ctl("endpoint", "health").returncode for member in members] == [0, 0]
        found = [[taken, port] for port in free_ports(4)]
        with (
            pytest.raises(LabError, match="address already in use"),
            local_etcd(tmp_path / "etcd", find_ports=lambda _: found.pop(0)),
        ):
            pass
        assert len(found) == 1
    assert not (tmp_path / "etcd").exists()


# Who may


SNAPSHOTS = ("--snapshot-count=1",)


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[EtcdMember]:
    with local_etcd(tmp_path / "etcd", 1, *SNAPSHOTS) as (member,):
        for words in (
            "user add root:rootpw",
            "user add coil:coilpw",
            "user add other:otherpw",
            "role add coil",
            "role grant-permission coil readwrite /coil/ --prefix",
            "user grant-role coil coil",
            "user grant-role root root",
            "user add reader:readerpw",
            "role add reader",
            "role grant-permission reader read /coil/ --prefix",
            "user grant-role reader reader",
            "auth enable",
        ):
            member.ctl(*words.split())
        yield member


async def test_a_user_with_a_role_can_do_everything_below_the_prefix(guarded: EtcdMember) -> None:
    store = await open_store(f"etcd://coil:coilpw@{guarded.endpoint}?timeout=30")
    try:
        assert await store.identity()
        await store.create_pool(pool())
        (claim,) = await store.claim_blocks(A, NAME, 1, RackName("r1"))
        assert await store.list_node_blocks(A) == [claim]
        assert await store.release_blocks([claim]) == [claim]
        await store.delete_pool(NAME)
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("user", "path", "error", "says"),
    [
        ("coil:wrong@", "", StoreError, "wrong user name or password"),
        ("nobody:x@", "", StoreError, "wrong user name or password"),
        ("", "", StoreError, "wants a user"),
        ("other:otherpw@", "", StoreError, "readwrite"),
        ("coil:coilpw@", "/elsewhere", StoreError, "/elsewhere/"),
    ],
)
async def test_who_may_not_is_told_what_to_do(
    guarded: EtcdMember, user: str, path: str, error: type[CoilError], says: str
) -> None:
    store = await open_store(f"etcd://{user}{guarded.endpoint}{path}?timeout=30")
    try:
        for call in (store.list_pools(), store.create_pool(pool())):
            with pytest.raises(error, match=says):
                await call
    finally:
        await store.close()


async def test_who_may_only_read_can_follow_everything_and_change_nothing(
    guarded: EtcdMember,
) -> None:
    store = await open_store(f"etcd://coil:coilpw@{guarded.endpoint}?timeout=30")
    reader = await open_store(f"etcd://reader:readerpw@{guarded.endpoint}?timeout=30")
    try:
        identity = await store.identity()
        await store.create_pool(pool())
        assert await reader.identity() == identity
        pools, claims, nodes = reader.watch_pools(), reader.watch_claims(), reader.watch_nodes()
        assert [await anext(each) for each in (pools, claims, nodes)] == [[pool()], {}, {}]
        (claim,) = await store.claim_blocks(A, NAME, 1)
        assert await anext(claims) == {claim.id: claim}
        with pytest.raises(StoreError, match="readwrite"):
            await reader.set_cordoned(NAME, cordoned=True)
        assert await store.list_pool_blocks(NAME) == [claim]
    finally:
        await store.close()
        await reader.close()


ROOT = "--user=root:rootpw"


def forget_tokens(guarded: EtcdMember) -> None:
    """Restart it. They are in memory only, but come back with what is younger than a snapshot."""
    for _ in range(3):
        guarded.ctl(ROOT, "put", "x", "y")
    guarded.stop()
    guarded.start([guarded], *SNAPSHOTS)
    health = (ROOT, "endpoint", "health")
    until(lambda: guarded.ctl(*health, check=False).returncode == 0, "etcd serves")


async def test_a_watch_goes_on_when_etcd_has_forgotten_its_token(guarded: EtcdMember) -> None:
    """Nobody else calls: programs that only watch are not to be blind for a period."""
    reader = await open_store(f"etcd://reader:readerpw@{guarded.endpoint}")
    try:
        claims, pools = reader.watch_claims(), reader.watch_pools()
        assert [await anext(claims), await anext(pools)] == [{}, []]
        await asyncio.to_thread(forget_tokens, guarded)
        store = await open_store(f"etcd://coil:coilpw@{guarded.endpoint}")
        await store.create_pool(pool())
        (claim,) = await store.claim_blocks(A, NAME, 1)
        await store.close()
        assert await anext(claims) == {claim.id: claim}
        assert (await anext(pools))[0] == pool()
    finally:
        await reader.close()


async def test_the_version_of_the_server_is_asked_for_once(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store:
        before = prefixed.member.calls("Status")
        for _ in range(3):
            await store.identity()
        assert prefixed.member.calls("Status") == before + 1


async def test_a_watch_that_is_not_permitted_logs_in_no_more_than_once(
    guarded: EtcdMember,
) -> None:
    """A password is a tenth of a second of a core to etcd, and nodes are thousands."""
    reader = await open_store(f"etcd://reader:readerpw@{guarded.endpoint}")
    try:
        claims = reader.watch_claims()
        assert await anext(claims) == {}
        guarded.ctl(ROOT, "role", "revoke-permission", "reader", "/coil/", "--prefix")
        await asyncio.to_thread(forget_tokens, guarded)
        before = guarded.calls("Authenticate")
        waiting = asyncio.ensure_future(anext(claims))
        tried = "the watch was tried four times"
        await asyncio.to_thread(until, lambda: guarded.calls("Watch") >= 4, tried)
        assert guarded.calls("Authenticate") - before == 1
        waiting.cancel()
        await asyncio.wait([waiting])
    finally:
        await reader.close()


async def test_a_password_where_none_is_wanted_is_told(etcd: EtcdMember) -> None:
    store = await open_store(f"etcd://coil:coilpw@{etcd.endpoint}?timeout=30")
    try:
        with pytest.raises(StoreError, match="leave USER:PASSWORD@ out"):
            await store.list_pools()
    finally:
        await store.close()


# TLS


KEY = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes"


class Certificates:
    """A certificate authority, one server and two clients: one of ours, one of somebody else."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for authority in ("ca", "stranger"):
            self._openssl(
                f"req -x509 {KEY} -days 2 -subj /CN={authority} -keyout {authority}.key "
                f"-out {authority}.pem"
            )
        self._sign("server", "ca", "subjectAltName=IP:127.0.0.1,DNS:localhost")
        self._sign("client", "ca", "extendedKeyUsage=clientAuth")
        self._sign("intruder", "stranger", "extendedKeyUsage=clientAuth")
        self._sign("expired", "ca", "extendedKeyUsage=clientAuth", days=-1)
        self._sign("late-server", "ca", "subjectAltName=IP:127.0.0.1", days=-1)
        self._sign("other-server", "ca", "subjectAltName=DNS:etcd.example")
        self._sign("service-server", "ca", "subjectAltName=DNS:etcd.kube-system.svc")
        (folder / "broken.pem").write_text("-----BEGIN CERTIFICATE-----\nAAAA\n")

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def _sign(self, name: str, authority: str, extension: str, *, days: int = 2) -> None:
        (self.folder / f"{name}.ext").write_text(extension)
        self._openssl(f"req {KEY} -subj /CN={name} -keyout {name}.key -out {name}.csr")
        self._openssl(
            f"x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key "
            f"-CAcreateserial -days {days} -extfile {name}.ext -out {name}.pem"
        )

    def _openssl(self, words: str) -> None:
        subprocess.run(
            ["openssl", *words.split()], cwd=self.folder, check=True, capture_output=True
        )


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def secured(certificates: Certificates, tmp_path: Path) -> Iterator[EtcdMember]:
    with served_by(certificates, tmp_path / "etcd", "server") as (member,):
        yield member


@contextmanager
def served_by(
    certificates: Certificates, folder: Path, server: str, count: int = 1
) -> Iterator[list[EtcdMember]]:
    """etcd that shows a certificate and wants one."""
    with local_etcd(
        folder,
        count,
        f"--cert-file={certificates.path(f'{server}.pem')}",
        f"--key-file={certificates.path(f'{server}.key')}",
        f"--trusted-ca-file={certificates.path('ca.pem')}",
        "--client-cert-auth",
        client_options=(
            "--insecure-skip-tls-verify",
            f"--cert={certificates.path('client.pem')}",
            f"--key={certificates.path('client.key')}",
        ),
    ) as members:
        yield members


def query_of(certificates: Certificates, ca: str = "", cert: str = "") -> str:
    words = ["timeout=30"]
    words += [f"ca={certificates.path(ca)}.pem"] if ca else []
    if cert:
        words += [f"cert={certificates.path(cert)}.pem", f"key={certificates.path(cert)}.key"]
    return "&".join(words)


async def test_a_client_with_a_certificate_is_served(
    secured: EtcdMember, certificates: Certificates
) -> None:
    store = await open_store(
        f"etcd://{secured.endpoint}?ca={certificates.path('ca.pem')}"
        f"&cert={certificates.path('client.pem')}&key={certificates.path('client.key')}&timeout=30"
    )
    try:
        await store.create_pool(pool())
        assert await store.get_pool(NAME) == pool()
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "give ca="),
        ({"ca": "ca"}, "give cert= and key="),
        ({"ca": "stranger", "cert": "client"}, "not signed by ca="),
        ({"ca": "ca", "cert": "intruder"}, "its authority signed"),
        ({"ca": "ca", "cert": "expired"}, "has not expired"),
    ],
    ids=["no TLS", "no certificate", "a wrong authority", "a stranger's", "an expired one"],
)
async def test_a_connection_that_is_not_trusted_is_refused_in_words(
    secured: EtcdMember, certificates: Certificates, files: dict[str, str], says: str
) -> None:
    store = await open_store(f"etcd://{secured.endpoint}?{query_of(certificates, **files)}")
    try:
        with pytest.raises(StoreUnavailable, match=f"{re.escape(secured.endpoint)}.*{says}"):
            await store.list_pools()
    finally:
        await store.close()


@pytest.mark.parametrize(
    ("server", "says"), [("late-server", "has expired"), ("other-server", "not for this name")]
)
async def test_a_server_with_a_wrong_certificate_is_told(
    certificates: Certificates, tmp_path: Path, server: str, says: str
) -> None:
    with served_by(certificates, tmp_path / "etcd", server) as (member,):
        store = await open_store(
            f"etcd://{member.endpoint}?{query_of(certificates, 'ca', 'client')}"
        )
        try:
            with pytest.raises(StoreUnavailable, match=says):
                await store.list_pools()
        finally:
            await store.close()


async def test_tls_where_none_is_spoken_is_told(
    etcd: EtcdMember, certificates: Certificates
) -> None:
    store = await open_store(f"etcd://{etcd.endpoint}?{query_of(certificates, 'ca')}")
    try:
        with pytest.raises(StoreUnavailable, match=r"does not speak TLS.*leave ca="):
            await store.list_pools()
    finally:
        await store.close()


async def test_the_certificate_of_a_service_is_for_its_name(
    certificates: Certificates, tmp_path: Path
) -> None:
    service = ServiceName("etcd", "kube-system")
    query = query_of(certificates, "ca", "client")
    with served_by(certificates, tmp_path / "etcd", "service-server") as (member,):
        address = parse_address(urlsplit(f"etcd://{member.endpoint}?{query}"))
        store = EtcdStore(EtcdClient(replace(address, service=service)))
        try:
            assert await store.list_pools() == []
        finally:
            await store.close()


async def test_a_watch_at_a_member_that_hangs_is_ended(
    secured: EtcdMember, certificates: Certificates
) -> None:
    query = query_of(certificates, "ca", "client")
    store = EtcdClient(parse_address(urlsplit(f"etcd://{secured.endpoint}?{query}")))
    try:
        revision = (await store.read(get("x"))).revision
        waiting = asyncio.ensure_future(anext(store.changes("/coil/", revision + 1)))
        await store.read(get("x"))
        secured.suspend()
        with pytest.raises(StoreUnavailable, match="connection was lost"):
            async with asyncio.timeout(50):
                await waiting
    finally:
        await store.close()


async def test_tls_with_several_endpoints_fails_over_in_the_middle_of_a_watch(
    certificates: Certificates, tmp_path: Path
) -> None:
    with served_by(certificates, tmp_path / "trio", "server", 3) as members:
        hosts = ",".join(f"localhost:{member.client_port}" for member in members)
        query = query_of(certificates, "ca", "client")
        store = await open_store(f"etcd://{hosts}/tls?{query}")
        try:
            await make_pool(store, pool())
            watch = store.watch_pools()
            assert await anext(watch) == [pool()]
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.to_thread(members[0].kill)
            async with asyncio.timeout(30):
                while True:
                    try:
                        cordoned = await store.set_cordoned(NAME, cordoned=True)
                    except StoreUnavailable:
                        continue
                    break
            assert await waiting == [cordoned]
        finally:
            await store.close()


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("ca={0}/none.pem", "none.pem: No such file"),
        ("ca={0}/client.key", "holds no certificate"),
        ("ca={0}/broken.pem", "holds no certificate"),
        ("ca={0}/ca.ext", "ca.ext"),
        ("cert={0}/client.pem", "both cert= and key="),
        ("cert={0}/client.pem&key={0}/intruder.key", "not a certificate and its key"),
        ("cert={0}/client.key&key={0}/client.pem", "not a certificate and its key"),
    ],
)
async def test_files_that_tls_cannot_use_are_refused(
    certificates: Certificates, query: str, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        await open_store(f"etcd://a/?{query.format(certificates.folder)}")


# What others wrote: see test_etcd_faults.py, too


async def test_a_claim_deleted_by_hand_is_not_the_nodes_any_more(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool())
        claim, other = await store.claim_blocks(A, NAME, 2)
        prefixed.member.ctl("del", f"{prefixed.prefix}blocks/default/{claim.id.index:019}")
        assert await store.list_node_blocks(A) == [other]
        assert await store.release_blocks([claim]) == []
        listed = prefixed.member.ctl("get", "--prefix", prefixed.prefix, "--keys-only").stdout
        assert f"{claim.id.index:019}" not in listed


# Nodes that are gone


def record(name: NodeName = A, seen: int = 1) -> NodeRecord:
    return NodeRecord(name, Holder("machine", "boot", "place"), "1", None, (), seen)


@asynccontextmanager
async def gone_node(rig: EtcdRig) -> AsyncIterator[tuple[Store, NodeRecord, list[BlockClaim]]]:
    """A node that had two blocks and whose lease has ended."""
    async with client(rig) as store, client(rig) as node:
        await store.create_pool(pool())
        await node.hold_name(record(), 2)
        claims = await node.claim_blocks(A, NAME, 2)
        rig.member.ctl("del", f"{rig.prefix}alive/{A}")
        yield store, record(), claims


async def test_a_node_that_is_gone_loses_its_blocks_and_its_name(prefixed: EtcdRig) -> None:
    async with gone_node(prefixed) as (store, gone, claims):
        for claim in claims:
            assert await store.take_block(claim, gone) is Release.RELEASED
            assert await store.take_block(claim, gone) is Release.NOT_OWNER
        assert await store.take_name(gone)
        assert not await store.take_name(gone)
        assert await store.survey() == Survey(pools=(pool(),))


async def test_what_a_node_lost_to_another_is_not_taken_from_the_other(prefixed: EtcdRig) -> None:
    async with gone_node(prefixed) as (store, gone, claims):
        await store.release_blocks([claims[0]])
        (theirs,) = await store.reclaim_blocks(B, NAME, [claims[0].id.index])
        assert await store.take_block(claims[0], gone) is Release.NOT_OWNER
        assert await store.list_node_blocks(B) == [theirs]


@pytest.mark.parametrize("how", ["lives", "was here since", "another machine"])
async def test_nothing_is_taken_from_a_node_that_came_back(prefixed: EtcdRig, how: str) -> None:
    async with gone_node(prefixed) as (store, gone, claims), client(prefixed) as node:
        if how == "another machine":
            await store.forget_node(A)
            await node.hold_name(replace(gone, holder=Holder("other", "boot", "place")), 60)
        else:
            await node.hold_name(record(seen=2), 60)
        if how == "was here since":
            prefixed.member.ctl("del", f"{prefixed.prefix}alive/{A}")
        for claim in claims:
            assert await store.take_block(claim, gone) is Release.NOT_GONE
        assert not await store.take_name(gone)
        assert await store.list_node_blocks(A) == claims


async def test_a_living_node_that_was_released_by_force_is_known_again(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store, client(prefixed) as node:
        await node.hold_name(record(), 60)
        await store.forget_node(A)
        assert await store.find_node(A) is None
        await node.hold_name(record(seen=2), 60)
        assert await store.find_node(A) == NodeStatus(record(seen=2), alive=True)


async def test_a_survey_tells_what_it_cannot_read_and_reads_the_rest(prefixed: EtcdRig) -> None:
    foreign = ["pools/zz", "nodes/n1", "alive/n2", "blocks/default/x", "owned/n3/default/1"]
    async with client(prefixed) as store:
        await store.create_pool(pool())
        await store.hold_name(record(), 60)
        await store.hold_name(record(NodeName("n2")), 60)
        claims = await store.claim_blocks(A, NAME, 1)
        for key in foreign:
            prefixed.member.ctl("put", prefixed.prefix + key, "what?")
        seen = await store.survey()
        assert sorted(each.key.removeprefix(prefixed.prefix) for each in seen.unreadable) == sorted(
            foreign
        )
        assert all(each.reason for each in seen.unreadable)
        assert (seen.pools, seen.claims) == ((pool(),), tuple(claims))
        assert [(each.record.name, each.alive) for each in seen.nodes] == [("n2", True), (A, True)]


async def test_copies_that_do_not_fit_are_found_and_mended(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store:
        await store.create_pool(pool())
        hidden, stale, sound = await store.claim_blocks(A, NAME, 3)
        keys = [f"{each.id.pool}/{each.id.index:019}" for each in (hidden, stale)]
        prefixed.member.ctl("del", f"{prefixed.prefix}owned/{A}/{keys[0]}")
        prefixed.member.ctl("del", f"{prefixed.prefix}blocks/{keys[1]}")
        seen = await store.survey()
        assert (seen.hidden, seen.stale) == ((hidden,), (stale,))
        for claim in (hidden, stale):
            assert await store.mend_claim(claim)
            assert not await store.mend_claim(claim)
        seen = await store.survey()
        assert (seen.hidden, seen.stale) == ((), ())
        assert set(await store.list_node_blocks(A)) == {hidden, sound}


async def test_a_survey_is_of_one_moment_however_many_pages_it_has(prefixed: EtcdRig) -> None:
    async with client(prefixed) as store, client(prefixed) as other:
        await store.create_pool(pool("10.0.0.0/18", bits=0))
        for begin in range(0, 2500, 500):
            await store.reclaim_blocks(A, NAME, range(begin, begin + 500))

        async def churn() -> None:
            while True:
                (claim,) = await other.reclaim_blocks(B, NAME, [3000])
                await other.release_blocks([claim])

        churning = asyncio.ensure_future(churn())
        for _ in range(5):
            seen = await store.survey()
            assert len(seen.claims) in {2500, 2501}
            assert not seen.hidden
            assert not seen.stale
        churning.cancel()
        await asyncio.wait([churning])
