"""CNI verbs through the built plugin: what runtimes and conformance suites rely on."""

from __future__ import annotations

import pytest

from coil.cni import versions
from coil.lab.host import host
from coil.lab.wait import until
from daemon.waiting import SOON, changed_while_waiting

pytestmark = pytest.mark.every_store


@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_an_attachment_lives_at_every_version(machine, version):
    pod = machine.pods()
    added = machine.add("c1", pod, version=version)
    assert added.json["cniVersion"] == version
    assert added.addresses == [network.split("/")[0] for network in machine.networks()]
    inside = {
        (entry["local"], entry["prefixlen"])
        for entry in pod.ip("addr", "show", "eth0")[0]["addr_info"]
        if entry["scope"] == "global"
    }
    assert inside == set(zip(added.addresses, (32, 128), strict=True))
    checked = machine.cni("CHECK", "c1", pod, version=version, prevResult=added.json)
    assert checked.code == (1 if version < "0.4.0" else 0)
    again = machine.add("c1", pod, version=version)
    assert again.json == added.json
    machine.delete("c1", pod, version=version)
    machine.delete("c1", pod, version=version)
    machine.delete("c1", version=version)
    assert machine.links() == []
    assert machine.used() == {}
    assert len(pod.ip("link")) == 1


@pytest.mark.parametrize("command", ["STATUS", "GC"])
def test_newer_verbs_exist_since_1_1_0(machine, command):
    more = {"cni.dev/valid-attachments": []}
    assert machine.cni(command, version="1.1.0", **more).code == 0
    assert machine.cni(command, version="1.0.0", **more).code == 1


def test_check_tells_what_is_wrong(machine):
    pod = machine.pods()
    added = machine.add("c1", pod)
    pod.run("ip", "addr", "del", added.addresses[0] + "/32", "dev", "eth0")
    wrong = machine.cni("CHECK", "c1", pod, prevResult=added.json)
    assert wrong.code == 100
    assert added.addresses[0] in wrong.json["msg"]
    machine.delete("c1", pod)
    assert machine.cni("CHECK", "c1", pod, prevResult=added.json).code == 3


@pytest.mark.parametrize("wrong", ["via 10.9.9.9 dev eth0", "dev eth0", ""])
def test_check_tells_a_default_route_that_does_not_lead_to_the_gateway(machine, wrong):
    pod = machine.pods()
    told = machine.add("c1", pod).json
    pod.run("ip", "route", "add", "10.9.9.9", "dev", "eth0")
    pod.run("ip", "route", "del", "default")
    if wrong:
        pod.run("ip", "route", "add", "default", *wrong.split())
    reply = machine.cni("CHECK", "c1", pod, prevResult=told)
    assert reply.code == 100
    assert "169.254.1.1" in reply.json["msg"]


def test_check_demands_the_default_routes_that_later_plugins_have_left(machine):
    pod = machine.pods()
    told = machine.add("c1", pod).json

    def check(*routes):
        return machine.cni("CHECK", "c1", pod, prevResult={**told, "routes": list(routes)})

    four, six = told["routes"]
    pod.run("ip", "route", "del", "default")
    assert check(four, six).code == 100
    assert check(six).code == 0
    assert check({**four, "gw": "10.9.9.9"}, {"dst": "10.9.0.0/16"}, six).code == 0
    pod.run("ip", "-6", "route", "del", "default")
    assert "fe80::1" in check({"dst": "::/0", "gw": "fe80:0::1"}).json["msg"]
    assert check().code == 0
    assert check({"dst": "nonsense", "gw": "10.9.9.9"}).code == 7


BROKEN = {
    "rule of priority 2000": ("ip", "rule", "del", "priority", "2000"),
    "does not forward IPv6": ("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0"),
    "block route NETWORK is missing": ("ip", "route", "flush", "table", "119"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_check_tells_what_is_wrong_outside_of_the_pods_own_link(machine, fault):
    pod = machine.pods()
    told = machine.add("c1", pod).json
    sentence = fault.replace("NETWORK", machine.networks()[0])

    def is_told():
        """Repair takes a moment; a CHECK that was there first sees what it will mend."""
        reply = changed_while_waiting(
            machine,
            lambda: machine.host.run(*BROKEN[fault], check=False),
            "CHECK",
            "c1",
            pod,
            prevResult=told,
        )
        return reply.code == 100 and sentence in reply.json["msg"]

    until(is_told, "CHECK tells")
    until(lambda: machine.cni("CHECK", "c1", pod, prevResult=told).code == 0, "repaired", SOON)


def test_check_compares_with_the_previous_result(machine):
    pod = machine.pods()
    added = machine.add("c1", pod)
    other = {**added.json, "ips": [{"address": "198.51.100.9/32", "interface": 1}]}
    assert machine.cni("CHECK", "c1", pod, prevResult=other).code == 100


def test_a_late_del_releases_only_its_own(machine):
    first, second = machine.pods(2)
    machine.add("c1", first)
    machine.delete("c1", first)
    machine.add("c2", second)
    machine.delete("c1")
    assert list(machine.used().values()) == ["c2"]


def test_a_pod_can_have_two_interfaces_that_both_answer(machine):
    pod, other = machine.pods(2)
    first = machine.add("c1", pod)
    second = machine.add("c1", pod, ifname="net1")
    machine.add("c2", other)
    for address in (*first.addresses, *second.addresses):
        other.run("ping", "-c1", "-W5", address)
    machine.delete("c1", pod)
    other.run("ping", "-c1", "-W5", second.addresses[0])


@pytest.mark.parametrize("renamed", [False, True], ids=["as it was", "renamed"])
def test_a_further_interface_leaves_nothing_in_a_pod_that_lives_on(machine, renamed):
    pod = machine.pods()
    machine.add("c1", pod)
    before = [pod.ip(family, "rule") for family in ("-4", "-6")]
    first = machine.links()
    machine.add("c1", pod, ifname="net1")
    assert [pod.ip(family, "rule") for family in ("-4", "-6")] != before
    if renamed:
        (link,) = set(machine.links()) - set(first)
        machine.host.ip("link", "set", link, "name", "somebody")
    machine.delete("c1", ifname="net1")
    assert [pod.ip(family, "rule") for family in ("-4", "-6")] == before
    assert machine.links() == first


def test_an_interface_of_another_network_is_no_repeat(machine):
    pod = machine.pods()
    told = machine.add("c1", pod)
    refused = machine.cni("ADD", "c1", pod, name="another-network")
    assert refused.code == 4
    assert "CNI_IFNAME" in refused.json["msg"]
    assert machine.add("c1", pod, name="another-network", ifname="net1").addresses != told.addresses
    assert machine.cni("CHECK", "c1", pod, prevResult=told.json).code == 0


def test_a_del_of_another_network_leaves_the_pod_its_interface(machine):
    """As runtimes send it after an ADD that was refused."""
    pod = machine.pods()
    told = machine.add("c1", pod)
    assert machine.cni("ADD", "c1", pod, name="another-network").code == 4
    machine.delete("c1", pod, name="another-network")
    assert machine.cni("CHECK", "c1", pod, prevResult=told.json).code == 0
    wrong = machine.cni("CHECK", "c1", pod, name="another-network", prevResult=told.json)
    assert wrong.code == 3
    assert list(machine.used().values()) == ["c1"]
    machine.delete("c1", pod)
    assert machine.used() == {}


def test_a_pod_whose_network_was_renamed_is_collected_once_its_namespace_is_gone(machine):
    machine.stop()
    machine.start("--period=0.2")
    with host("coil-brief") as pod:
        machine.add("c1", pod)
        machine.delete("c1", pod, name="renamed")
        assert list(machine.used().values()) == ["c1"]
    until(lambda: machine.used() == {}, "the address is given back", SOON)
    assert machine.links() == []


def test_a_pod_whose_path_has_come_to_lead_to_the_host_is_collected(machine, tmp_path):
    """As /proc/PID/ns/net does, when a process of the host gets that number."""
    machine.stop()
    machine.start("--period=0.2")
    path = tmp_path / "netns"
    with host("coil-brief") as pod:
        path.symlink_to(pod.path)
        machine.add("c1", path)
        path.unlink()
        path.symlink_to(machine.host.path)
    until(lambda: machine.used() == {}, "the address is given back", SOON)


def test_an_interface_of_somebody_else_is_left_alone(machine):
    pod = machine.pods()
    pod.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
    refused = machine.cni("ADD", "c1", pod)
    assert refused.code == 4
    assert "CNI_IFNAME" in refused.json["msg"]
    assert len(pod.ip("link")) == 3
    assert machine.used() == {}
    assert machine.links() == []


def test_an_add_again_follows_its_container_into_another_namespace(machine):
    pod, other, peer = machine.pods(3)
    told = machine.add("c1", pod)
    machine.add("c2", peer)
    assert machine.add("c1", other).addresses == told.addresses
    assert len(pod.ip("link")) == 1
    peer.run("ping", "-c1", "-W5", told.addresses[0])
    for _ in range(2):
        assert netns_of(machine, "c1") == str(other.path)
        machine.kill()
        machine.start()


def netns_of(machine, container):
    rows = machine.ask("/addresses")
    return next(row["netns"] for row in rows if row["container_id"] == container)


def test_an_add_again_takes_its_link_out_of_the_group_where_a_killed_del_left_it(machine):
    pod = machine.pods()
    machine.add("c1", pod)
    (link,) = machine.links()
    leaving = str(0x636F696C)
    machine.host.ip("link", "set", link, "group", leaving)
    machine.add("c1", pod)
    (found,) = machine.host.ip("link", "show", "dev", link)
    assert found["group"] != leaving, "the next DELs would remove it with theirs"


def test_an_add_again_that_fails_leaves_all_as_it_was(machine):
    pod, other = machine.pods(2)
    told = machine.add("c1", pod).json
    other.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "x")
    assert machine.cni("ADD", "c1", other).code == 4
    for _ in range(2):
        assert netns_of(machine, "c1") == str(pod.path)
        assert machine.cni("CHECK", "c1", pod, prevResult=told).code == 0
        machine.kill()
        machine.start()


def test_a_del_whose_time_is_over_is_finished_all_the_same(machine):
    pod = machine.pods()
    machine.add("c1", pod)
    machine.cni("DEL", "c1", pod, timeout=0.001)  # a removal takes longer
    until(lambda: machine.used() == {}, "the address is given back")
    assert machine.links() == []


def test_a_previous_result_is_built_on(machine):
    pod = machine.pods()
    previous = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "other0", "sandbox": str(pod.path)}],
        "ips": [{"address": "192.0.2.1/24", "interface": 0}],
    }
    added = machine.add("c1", pod, prevResult=previous)
    assert [i["name"] for i in added.json["interfaces"]][0] == "other0"
    assert added.json["ips"][1]["interface"] == 2


def test_the_netconfs_dns_is_in_the_result_in_place_of_an_earlier_plugins(machine):
    a, b = machine.pods(2)
    dns = {"nameservers": ["192.0.2.53"], "domain": "example", "search": ["a", "b"], "options": []}
    told = {key: value for key, value in dns.items() if value}
    assert machine.add("c1", a, dns={**dns, "x": 1}).json["dns"] == told
    before = {"dns": {"nameservers": ["192.0.2.54"], "options": ["ndots:2"]}}
    assert machine.add("c1", a, dns=dns, prevResult=before).json["dns"] == told
    assert machine.add("c2", b, dns={}, prevResult=before).json["dns"] == before["dns"]
    assert machine.cni("ADD", "c3", machine.pods(), dns={"nameservers": "192.0.2.53"}).code == 7
    machine.delete("c1", a, dns={"nameservers": "192.0.2.53"})


def test_gc_removes_what_the_runtime_does_not_list_of_this_network_only(machine):
    a, b, c = machine.pods(3)
    machine.add("keep", a)
    machine.add("lost", b)
    machine.add("other", c, name="another-network")
    keep = [{"containerID": "keep", "ifname": "eth0"}]
    reply = machine.cni("GC", version="1.1.0", **{"cni.dev/valid-attachments": keep})
    assert reply.code == 0
    assert sorted(machine.used().values()) == ["keep", "other"]


@pytest.mark.parametrize("mode", ["off", "dry-run"])
def test_gc_can_be_held_back(machine, mode):
    pod = machine.pods()
    machine.stop()
    machine.start(f"--gc={mode}")
    machine.add("lost", pod)
    machine.cni("GC", version="1.1.0", **{"cni.dev/valid-attachments": []})
    assert list(machine.used().values()) == ["lost"]
    assert "would collect" in machine.log.read_text()


def test_status_tells_when_no_address_can_be_had(machine):
    assert machine.cni("STATUS", version="1.1.0").code == 0
    machine.ctl("pool", "cordon", "default")
    until(lambda: machine.cni("STATUS", version="1.1.0").code == 50, "STATUS sees the cordon")
    assert machine.cni("STATUS", version="1.1.0", pool="nowhere").code == 50


@pytest.mark.parametrize(
    ("netns", "code"),
    [("/nonexistent", 3), ("/etc/passwd", 4), ("/proc/self/ns/mnt", 4), ("/tmp", 4)],
)
def test_what_is_no_namespace_is_refused_and_leaves_nothing(machine, netns, code):
    assert machine.cni("ADD", "c1", netns).code == code
    assert machine.used() == {}
    assert machine.links() == []
    machine.add("c2", machine.pods())


def test_the_hosts_own_namespace_is_refused(machine):
    refused = machine.cni("ADD", "c1", machine.host)
    assert refused.code == 4
    assert machine.links() == []
