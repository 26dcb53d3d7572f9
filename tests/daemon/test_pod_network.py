"""What the kernel does with what coil made: reachability, sysctls, MTU, routes."""

from __future__ import annotations

import itertools

import pytest

from coil.lab.wait import until
from daemon.conftest import pool_of

PING = ("ping", "-c1", "-W5")
"""The kernel joins the group by which IPv6 neighbours are solicited in a work queue: what is sent
to a pod within milliseconds of its ADD may be lost there, and is sent again after a second."""
HARD = ("arp_ignore=1", "arp_announce=2", "rp_filter=1")


def tentative(host):
    """Addresses of coil that are not to be used yet; the pod's kernel makes one of its own."""
    found = [entry for link in host.ip("addr") for entry in link.get("addr_info", ())]
    ours = [a for a in found if a["scope"] == "global" or a["local"] == "fe80::1"]
    assert ours
    return [entry for entry in ours if entry.get("tentative")]


def test_all_reach_all_at_once_under_strict_sysctls(machine):
    """IPVS sets arp_ignore and arp_announce; rp_filter=1 is many hosts' default."""
    for setting in HARD:
        machine.host.run("sysctl", "-qw", f"net.ipv4.conf.all.{setting}")
        machine.host.run("sysctl", "-qw", f"net.ipv4.conf.default.{setting}")
    first, second = machine.pods(2)
    a, b = machine.add("a", first), machine.add("b", second)
    # No duplicate address detection: whatever is tentative can't be used for a second or two.
    assert tentative(first) == tentative(second) == []
    assert tentative(machine.host) == []
    for address in b.addresses:
        first.run(*PING, address)
    for address in a.addresses:
        second.run(*PING, address)
        machine.host.run(*PING, address)
    first.run(*PING, "169.254.1.1")
    first.run(*PING, "fe80::1%eth0")


def test_pods_see_the_nodes_own_address_as_source(machine):
    pod = machine.pods()
    address = machine.add("a", pod).addresses[0]
    route = machine.host.ip("route", "get", address)[0]
    assert route["prefsrc"] == "192.0.2.7"


def test_an_address_nobody_has_is_unreachable_and_does_not_loop(machine):
    pod = machine.pods()
    machine.add("a", pod)
    for free in ("10.66.0.30", "fd00:66::1e"):
        answer = pod.run("ping", "-c1", "-W5", free, check=False).stdout
        assert "nreachable" in answer


def test_routes_are_where_operators_look_for_them(machine):
    pod = machine.pods()
    machine.add("a", pod)
    link = machine.links()[0]
    assert machine.routes(116) == {"10.66.0.0": link, "10.66.0.0/27": "unreachable"}
    assert machine.routes(116, "-6")["fd00:66::"] == link
    assert machine.routes(119) == {"10.66.0.0/27": "lo"}
    assert machine.routes(119, "-6") == {"fd00:66::/123": "lo"}
    for family in ("-4", "-6"):
        rules = machine.host.ip(family, "rule")
        assert [r["table"] for r in rules if r["priority"] == 2000] == ["116"]
        for route in machine.host.ip(family, "route", "show", "table", "119"):
            assert route["protocol"] == "30"
    assert machine.routes("main") == {}
    alias = machine.host.ip("-d", "link", "show", link)[0]["ifalias"]
    assert alias == "coil a eth0 default"


def test_the_first_and_the_last_address_of_a_block_work(machine):
    pods = machine.pods(32)
    replies = [machine.add(f"c{n}", pod) for n, pod in enumerate(pods)]
    assert replies[0].addresses[0] == "10.66.0.0"
    assert replies[31].addresses[0] == "10.66.0.31"
    for address in replies[31].addresses:
        pods[0].run(*PING, address)


def test_the_mtu_is_that_of_the_uplink_or_the_one_asked_for(machine):
    machine.host.run("ip", "link", "add", "up0", "mtu", "1400", "type", "veth", "peer", "name", "z")
    machine.host.run("ip", "link", "set", "up0", "up")
    machine.host.run("ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
    machine.host.run("ip", "route", "add", "default", "via", "192.0.2.2")
    machine.stop()
    machine.start()
    first, second = machine.pods(2)
    machine.add("a", first)
    machine.add("b", second, mtu=9000)
    assert first.ip("link", "show", "eth0")[0]["mtu"] == 1400
    assert second.ip("link", "show", "eth0")[0]["mtu"] == 9000
    small = machine.cni("ADD", "c", machine.pods(), mtu=1000)
    assert small.code == 7
    assert "1280" in small.json["msg"]


def test_ipv6_works_where_the_runtime_switched_it_off(machine):
    first, second = machine.pods(2)
    for pod in (first, second):
        pod.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
        pod.run("sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1")
    machine.add("a", first)
    target = machine.add("b", second).addresses[1]
    first.run(*PING, target)


@pytest.mark.parametrize(("subnet", "count"), [("10.67.0.0/24", 1), ("fd00:67::/120", 1)])
def test_a_pool_of_one_family_gives_one_address(machine, subnet, count):
    machine.create_pool(pool_of(subnet, name="single"))
    until(lambda: "single" in str(machine.ask("/status")["pools"]), "pool is known")
    first, second = machine.pods(2)
    machine.add("a", first, pool="single")
    target = machine.add("b", second, pool="single").addresses
    assert len(target) == count
    first.run(*PING, target[0])


def test_calico_names_are_given_and_a_restarted_pod_does_not_collide(machine):
    machine.stop()
    machine.start("--calico-names")
    args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=nginx"
    old, new = machine.pods(2)
    machine.add("old", old, args=args)
    name = machine.links()[0]
    assert name == "veth48be6dd1d24"[:4] + name[4:]
    machine.add("new", new, args=args)
    links = machine.links()
    assert name in links
    assert len(links) == 2
    alias = machine.host.ip("-d", "link", "show", name)[0]["ifalias"]
    assert alias.startswith("coil new ")
    old.run(*PING, "10.66.0.1")
    new.run(*PING, "10.66.0.0")
    machine.delete("old")
    assert machine.links() == [name]


def test_a_calico_name_stays_with_the_first_interface_of_its_sandbox(machine):
    machine.stop()
    machine.start("--calico-names")
    args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=nginx"
    old, new = machine.pods(2)
    first = machine.add("old", old, args=args).json["interfaces"][0]["name"]
    second = machine.add("old", old, ifname="net1", args=args).json["interfaces"][0]["name"]
    assert first.startswith("veth")
    assert second.startswith("coil")
    assert sorted(machine.links()) == sorted([first, second])
    assert machine.host.ip("-d", "link", "show", first)[0]["ifalias"].startswith("coil old eth0 ")
    machine.add("new", new, args=args)
    machine.add("new", new, ifname="net1", args=args)
    assert machine.host.ip("-d", "link", "show", first)[0]["ifalias"].startswith("coil new eth0 ")
    old.run(*PING, "169.254.1.1")
    new.run(*PING, "169.254.1.1")


def test_a_del_of_the_old_sandbox_beside_the_add_of_the_new_one_leaves_the_new_one(machine):
    machine.stop()
    machine.start("--calico-names")
    args = "K8S_POD_NAMESPACE=default;K8S_POD_NAME=nginx"
    pods = machine.pods(9)
    machine.add("c0", pods[0], args=args)
    (name,) = machine.links()
    for n, (old, new) in enumerate(itertools.pairwise(pods)):
        both = [
            machine.spawn("DEL", f"c{n}", old),
            machine.spawn("ADD", f"c{n + 1}", new, args=args),
        ]
        for process in both if n % 2 else both[::-1]:
            process.communicate(timeout=20)
            assert process.returncode == 0
        assert machine.links() == [name]
        assert list(machine.used().values()) == [f"c{n + 1}"]
        new.run(*PING, "169.254.1.1")
    machine.kill()
    machine.start("--calico-names")
    assert list(machine.used().values()) == [f"c{len(pods) - 1}"]


def test_the_first_packet_of_a_pod_is_answered_at_once(machine):
    """A link whose carrier the kernel has not acted on yet drops the answer to the pod's ARP."""
    target = machine.add("target", machine.pods()).addresses[0]
    slow = []
    for number, pod in enumerate(machine.pods(60)):
        machine.add(f"c{number}", pod)
        told = pod.run("ping", "-c1", "-W5", target).stdout
        if float(told.rsplit("/", 1)[0].rsplit("/", 1)[1]) > 900:  # ARP asks again after a second
            slow.append(told)
    assert slow == []
