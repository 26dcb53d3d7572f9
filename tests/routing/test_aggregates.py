"""coil-aggregates on two ToRs of a rack, with coild on two nodes, etcd, and traffic."""

from __future__ import annotations

import re
import signal
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest

from cluster.conftest import ETCD, Cluster
from coil.lab.etcd import EtcdMember
from coil.lab.host import end
from coil.lab.host import host as new_host
from coil.lab.node import PROGRAMS
from coil.lab.wait import until
from coil.routing.bird import aggregates_config
from daemon.conftest import Machine, pool_of
from routing.fabric import Fabric

POOL = pool_of("10.66.0.0/20,fd00:66::/116", block_bits=1)
WHOLE = {"-4": "10.66.", "-6": "fd00:66:"}
TORS, NODES = ("tor1", "tor2"), ("node1", "node2")
BOTH = list(TORS)


class Rack:
    """A spine, two ToRs that announce aggregates, two nodes with coild and pods."""

    def __init__(self, stack, directory, cluster):
        self._stack = stack
        self._directory = directory
        self.cluster = cluster
        self.fabric = Fabric(stack, directory)
        self.followers = {}
        self.fabric.add("spine", "spine", 65000)
        for number, name in enumerate(TORS):
            tor = self.fabric.add(name, "tor", 65001)
            self.fabric.link(name, "spine")
            cluster.connect(tor, 10 + number)
        self.nodes = {}
        for name in NODES:
            machine = cluster.node(name, pool=None if self.nodes else POOL, rack="r1")
            self.nodes[name] = machine
            self.fabric.add(name, "node", 65001, machine.host)
            for tor in TORS:
                self.fabric.link(name, tor)
        for name in TORS:
            self.follow(name)
            until(self.file(name).exists, "the file that BIRD includes is there")
        for name in self.fabric.members:
            more = {"aggregates": str(self.file(name))} if name in TORS else {}
            # A BIRD that a busy machine lets wait for 0.6 s is silent to BFD; here links go down.
            self.fabric.bird(name, bfd=None, **more)

    def file(self, tor):
        return self._directory / f"{tor}-aggregates.conf"

    def follow(self, tor):
        member = self.fabric.members[tor]
        with (self._directory / f"{tor}.log").open("ab") as log:
            process = member.host.start(
                PROGRAMS / "coil-aggregates", "--rack=r1", f"--store={self.cluster.store}",
                f"--file={self.file(tor)}", f"--bird-socket={self._directory}/{tor}/bird.ctl",
                "--period=0.2", "--settle=1", log=log,
            )  # fmt: skip
        self.followers[tor] = process
        self._stack.callback(end, process)

    def pod(self, node, name):
        """A pod of ``node``; its addresses."""
        netns = self._stack.enter_context(new_host("coil-pod"))
        return self.nodes[node].add(name, netns).addresses

    def seen(self, router="spine"):
        """What a router has of the pool, by family: prefix to next hops."""
        member = self.fabric.members[router]
        return {
            family: {
                prefix: member.hops(prefix)
                for prefix in member.destinations(family)
                if prefix.startswith(start)
            }
            for family, start in WHOLE.items()
        }

    def at_peace(self):
        """Whether the spine has one prefix a family, by both ToRs."""
        return all(
            len(found) == 1 and [*found.values()] == [BOTH] for found in self.seen().values()
        )

    def blocks(self, node):
        """The networks a node owns."""
        rows = self.nodes[node].claims(node)
        return {network for row in rows for network in row["networks"]}

    @contextmanager
    def traffic(self, *addresses):
        """Ping from the spine all the while; afterwards: how many packets were lost."""
        spine = self.fabric.members["spine"].host
        flows = [
            subprocess.Popen(
                spine.inside("ping", "-i", "0.02", "-W", "1", address),
                stdout=subprocess.PIPE,
                text=True,
            )
            for address in addresses
        ]
        lost = {}
        try:
            yield lost
        finally:
            for address, flow in zip(addresses, flows, strict=True):
                flow.send_signal(signal.SIGINT)
                said = flow.communicate(timeout=10)[0]
                sent, received = re.search(r"(\d+) packets.*?(\d+) received", said).groups()
                assert int(sent) > 20
                # On a busy machine a few may be on their way when ping is ended.
                lost[address] = max(0, int(sent) - int(received) - 3)


@pytest.fixture(scope="module")
def rack(tmp_path_factory):
    """In peace; each test leaves it so."""
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("rack")
        made = Rack(stack, folder, new_cluster(stack, folder))
        made.addresses = {
            name: [address for n in range(4) for address in made.pod(name, f"c{n}")]
            for name in NODES
        }
        until(made.at_peace, "the rack is one prefix a family", 60)
        yield made
        made.fabric.show()
        for tor in TORS:
            print((folder / f"{tor}.log").read_text()[-3000:])
            print(made.file(tor).read_text())
        print(made.seen())


def new_cluster(stack, folder):
    """etcd on a host of its own, and how to make nodes that reach it."""
    host = stack.enter_context(new_host("coil-etcd"))
    host.run("ip", "addr", "add", f"{ETCD}/32", "dev", "lo")
    data = stack.enter_context(tempfile.TemporaryDirectory(prefix="etcd-", dir="/dev/shm"))
    member = EtcdMember("m0", ETCD, Path(data), host)
    stack.callback(member.stop)
    member.start([member])
    member.wait_ready()

    def machine(name, store):
        directory = folder / name
        directory.mkdir()
        made = Machine(stack.enter_context(new_host("coil-host")), directory, None,
                       name=name, store=store)  # fmt: skip
        stack.callback(made.stop)
        return made

    return Cluster(machine, member)


def test_a_rack_is_one_prefix_and_falls_apart_only_where_a_node_is_lost(rack):
    """A node is lost to both ToRs, and comes back: the others' pods do not notice."""
    stay, go = (rack.addresses[name] for name in NODES)
    own = rack.blocks("node1")
    with rack.traffic(stay[0], stay[1]) as lost:
        for tor in TORS:
            rack.fabric.members[tor].host.run("ip", "link", "set", "node2", "down")
        until(lambda: not rack.at_peace(), "the prefix is gone")
        until(lambda: covered(rack, own), "what is left covers what is reached")
        gone = rack.blocks("node2")
        until(lambda: not any(covers(rack, network) for network in gone), "and nothing else")
        for tor in TORS:
            rack.fabric.members[tor].host.run("ip", "link", "set", "node2", "up")
        until(rack.at_peace, "the rack is one prefix again", 60)
    assert lost == {stay[0]: 0, stay[1]: 0}
    spine = rack.fabric.members["spine"]
    assert all(spine.reaches(address) for address in stay)
    # The way back from a node is not what the spine's routes tell of.
    until(lambda: all(spine.reaches(address) for address in go), "the lost node answers")


def covers(rack, network):
    """Whether the spine has a route for this block."""
    family = "-6" if ":" in network else "-4"
    spine = rack.fabric.members["spine"].host
    address = network.split("/")[0]
    return spine.run("ip", family, "route", "get", address, check=False).returncode == 0


def covered(rack, networks):
    return all(covers(rack, network) for network in networks)


def test_a_tor_that_lost_one_node_leaves_it_to_the_other(rack):
    """Traffic to the node takes the other ToR, as do the blocks the two ToRs both have."""
    far = rack.addresses["node2"]
    rack.fabric.members["tor1"].host.run("ip", "link", "set", "node2", "down")
    until(lambda: not rack.at_peace(), "tor1 takes its prefix back")
    until(lambda: told_by(rack, "tor1"), "tor1 tells of what it has")
    until(lambda: all(hops(rack, a) == ["tor2"] for a in far[:2]), "by tor2 only")
    with rack.traffic(*far[:2], *rack.addresses["node1"][:2]) as lost:
        rack.fabric.members["tor1"].host.run("ip", "link", "set", "node2", "up")
        until(rack.at_peace, "the rack is one prefix again", 60)
    assert set(lost.values()) == {0}


def told_by(rack, tor):
    """The prefixes that the spine has from one ToR only."""
    return {p for found in rack.seen().values() for p, h in found.items() if h == [tor]}


def hops(rack, address):
    """The ways the spine has to an address, by the longest prefix."""
    found = rack.fabric.members["spine"].host.ip("route", "get", "fibmatch", address)[0]
    return sorted(hop["dev"] for hop in found.get("nexthops", [found]))


def test_blocks_of_another_rack_are_let_out_of_the_prefix_around_them(rack):
    """node2 says that it is in another rack now; its blocks lie in the range of the first."""
    mine, foreign = rack.blocks("node1"), rack.blocks("node2")
    restart(rack, "node2", "r2")
    until(
        lambda: by_themselves(rack, foreign), "the foreign blocks are announced by themselves", 30
    )
    assert covered(rack, mine | foreign)
    restart(rack, "node2", "r1")
    until(rack.at_peace, "the rack is one prefix again", 60)


def by_themselves(rack, networks):
    """Whether the spine has just these prefixes for these blocks."""
    found = prefixes(rack)
    others = found - networks
    return networks <= found and not any(covered_by(o, n) for o in others for n in networks)


def restart(rack, node, name):
    rack.nodes[node].stop()
    rack.nodes[node].start("--period=1", f"--rack={name}")


def prefixes(rack):
    """What the spine has of the pool."""
    return {prefix for found in rack.seen().values() for prefix in found}


def covered_by(outer, inner):
    outer, inner = ip_network(outer), ip_network(inner)
    return outer.version == inner.version and inner.subnet_of(outer)


def test_a_restart_of_the_follower_changes_nothing(rack):
    file = rack.file("tor1")
    before, inode = file.read_text(), file.stat().st_ino
    assert "route" in before
    kill(rack, "tor1")
    rack.follow("tor1")
    until(lambda: file.stat().st_ino != inode, "the new one has looked at everything")
    assert file.read_text() == before
    assert rack.at_peace()


def kill(rack, tor):
    rack.followers[tor].kill()
    rack.followers[tor].wait()


def test_without_the_store_a_lost_node_is_still_let_out(rack):
    """By tor2, which saw it before; by tor1 too, whose follower is new and knows no block."""
    mine, gone = rack.blocks("node1"), rack.blocks("node2")
    rack.cluster.member.suspend()
    kill(rack, "tor1")
    rack.follow("tor1")
    with rack.traffic(*rack.addresses["node1"][:2]) as lost:
        for tor in TORS:
            rack.fabric.members[tor].host.run("ip", "link", "set", "node2", "down")
        until(lambda: not any(covers(rack, network) for network in gone), "nobody hides it")
        assert covered(rack, mine)
    assert set(lost.values()) == {0}
    rack.cluster.member.resume()
    for tor in TORS:
        rack.fabric.members[tor].host.run("ip", "link", "set", "node2", "up")
    until(rack.at_peace, "the rack is one prefix again", 60)


def test_what_was_announced_before_a_reboot_is_not_what_bird_starts_with(tmp_path):
    file, network = tmp_path / "a.conf", ip_network("10.66.0.0/24")
    file.write_text(aggregates_config([network], [network]))
    words = (f"--file={file}", f"--bird-socket={tmp_path}/none", "--store=etcd://127.0.0.1:1/x")
    follower = subprocess.Popen([PROGRAMS / "coil-aggregates", "--rack=r1", *words])
    try:
        until(lambda: file.read_text() == aggregates_config([], []), "it announces nothing")
    finally:
        end(follower)
