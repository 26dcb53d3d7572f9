"""coil under podman with its CNI backend."""

from __future__ import annotations

import pytest

from coil.lab.errors import LabError
from coil.lab.image import PAGE
from coil.lab.node import PLUGIN
from coil.lab.podman import podman
from coil.lab.wait import until
from coil.lab.web import SERVER, fetch, ping


def answers(runtime, address, port=80):
    return runtime("exec", "asks", *fetch(address, port), check=False).stdout == PAGE.decode()


@pytest.fixture
def runtime(host, node, tmp_path):
    with podman(host, tmp_path / "podman", PLUGIN) as made:
        conf = node.ctl("conflist", "--cni-bin-dir", f"{tmp_path}/podman/bin").stdout
        made.configure("10-coil.conflist", conf)
        yield made


def rows_of(node):
    return node.ask("/addresses")


def test_containers_of_podman_get_addresses_and_talk(host, node, runtime):
    assert "coil" in runtime("network", "ls").stdout
    runtime.run("web", "coil", *SERVER)
    runtime.run("asks", "coil", "sleep", "1000")
    web = next(row["addresses"] for row in rows_of(node) if row["pod"] == "web")
    for address in web:
        runtime("exec", "asks", *ping(address))
        until(lambda to=address: answers(runtime, to), f"{address} serves")
    runtime("rm", "-f", "-t", "0", "web", "asks")
    assert [row["state"] for row in rows_of(node)] == ["cooling", "cooling"]
    assert host.ip("link", "show", "type", "veth") == []


@pytest.mark.parametrize("wish", [("--ip", "10.65.0.77"), ("--ip6", "fd00:65::77")])
def test_a_wish_for_an_address_is_refused_not_ignored(node, runtime, wish):
    with pytest.raises(LabError, match=f"{wish[1]}: coil chooses addresses"):
        runtime.run("a", "coil", "sleep", "1000", options=wish)
    assert rows_of(node) == []


def test_a_mac_and_a_published_port_are_the_chained_plugins_work(runtime):
    wishes = ("--mac-address", "02:00:00:00:00:0c", "-p", "18080:80")
    runtime.run("web", "coil", *SERVER, options=wishes)
    assert "02:00:00:00:00:0c" in runtime("exec", "web", "ip", "link", "show", "eth0").stdout
    runtime.run("asks", "coil", "sleep", "1000")
    # To the node's own port: 169.254.1.1 is the node for every pod.
    until(lambda: answers(runtime, "169.254.1.1", 18080), "the published port serves")


def test_a_container_in_two_networks_is_reached_at_both_addresses(node, runtime):
    node.ctl("pool", "create", "second", "10.66.0.0/24")
    conf = node.ctl("conflist", "--name", "two", "--pool", "second", "--no-chain").stdout
    runtime.configure("20-two.conflist", conf)
    runtime.run("web", "coil,two", *SERVER)
    runtime.run("asks", "coil", "sleep", "1000")
    web = [row["addresses"] for row in rows_of(node) if row["pod"] == "web"]
    assert sorted(address[0] for address in web) == ["10.65.0.0", "10.66.0.0"]
    for address in ("10.65.0.0", "10.66.0.0"):
        until(lambda to=address: answers(runtime, to), f"{address} serves")
    runtime("network", "disconnect", "two", "web")
    assert [row["addresses"][0] for row in rows_of(node) if row["state"] == "cooling"] == [
        "10.66.0.0"
    ]
