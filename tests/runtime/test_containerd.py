"""coil under containerd and runc: sandboxes as the kubelet makes them."""

from __future__ import annotations

import contextlib
import json
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coil.lab.containerd import IMAGE, containerd
from coil.lab.cri import conflist
from coil.lab.node import PLUGIN
from coil.lab.wait import until


@pytest.fixture
def runtime(host, node, tmp_path):
    with containerd(host, tmp_path / "containerd", PLUGIN) as running:
        conf = node.ctl("conflist", "--cni-bin-dir", str(running.bin_dir)).stdout
        running.configure("10-coil.conflist", conf)
        yield running


def addresses_in_use(node):
    rows = json.loads(node.ctl("address", "list", "-o", "json").stdout)
    return [row for row in rows if row["state"] == "used"]


def pod_links(host):
    return [link["ifname"] for link in host.ip("link", "show", "type", "veth")]


def reaches(runtime, container, address):
    ping, shown = ("ping6", f"[{address}]") if ":" in address else ("ping", address)
    assert runtime.cri.exec(container, ping, "-c", "1", "-W", "2", address)[0] == 0
    code, page = runtime.cri.exec(
        container, "timeout", "3", "wget", "-q", "-O", "-", f"http://{shown}/"
    )
    assert (code, page) == (0, "coil says hello\n")


def test_the_conflist_is_the_one_this_containerd_understands(node):
    conf = json.loads(node.ctl("conflist", "--cni-bin-dir", "/usr/lib/cni").stdout)
    assert conf["cniVersion"] == "1.0.0"  # containerd 1.6 carries a libcni that knows no 1.1.0
    assert [plugin["type"] for plugin in conf["plugins"]] == [
        "coil",
        "tuning",
        "bandwidth",
        "portmap",
    ]


def test_pods_get_both_addresses_from_one_block_and_reach_each_other(host, node, runtime):
    with ThreadPoolExecutor(4) as threads:
        pods = list(threads.map(runtime.cri.run_pod, ["a", "b", "c", "d"]))
    containers = [runtime.cri.run_container(p, IMAGE, "httpd", "-f", "-h", "/www") for p in pods]
    offsets = set()
    for pod in pods:
        v4, v6 = pod.addresses
        assert v4.startswith("10.65.0.")
        assert v6.startswith("fd00:65::")
        offsets.add(v4)
    assert len(offsets) == 4
    blocks = json.loads(node.ctl("block", "list", "-o", "json").stdout)
    assert len(blocks) == 1
    for pod in pods[1:]:
        for address in pod.addresses:
            reaches(runtime, containers[0], address)
    for pod in pods:
        runtime.cri.remove_pod(pod.id)
    assert addresses_in_use(node) == []
    assert pod_links(host) == []
    routes = host.ip("route", "show", "table", "116")
    assert [route["type"] for route in routes] == ["unreachable"]


def test_a_host_port_and_a_bandwidth_limit_of_the_chained_plugins_work(host, node, runtime):
    pod = runtime.cri.run_pod(
        "web",
        ports={18080: 80},
        annotations={"kubernetes.io/ingress-bandwidth": "10M"},
    )
    runtime.cri.run_container(pod, IMAGE, "httpd", "-f", "-h", "/www")
    other = runtime.cri.run_container(runtime.cri.run_pod("asks"), IMAGE, "sleep", "1000")
    # From another pod to the node's own port: 169.254.1.1 is the node for every pod.
    code, page = runtime.cri.exec(
        other, "timeout", "3", "wget", "-q", "-O", "-", "http://169.254.1.1:18080/"
    )
    assert (code, page) == (0, "coil says hello\n")
    qdiscs = host.run("tc", "qdisc", "show").stdout
    assert "tbf" in qdiscs


def test_no_pod_fails_while_coild_is_killed_and_restarted(node, runtime):
    stop = threading.Event()

    def trouble():
        while not stop.wait(0.3):
            node.kill()
            node.start()

    thread = threading.Thread(target=trouble)
    thread.start()
    try:
        with ThreadPoolExecutor(10) as threads:
            pods = list(threads.map(runtime.cri.run_pod, [f"p{n}" for n in range(20)]))
            list(threads.map(lambda pod: runtime.cri.remove_pod(pod.id), pods))
    finally:
        stop.set()
        thread.join()
    assert len({pod.addresses[0] for pod in pods}) == 20
    assert addresses_in_use(node) == []


def test_a_late_second_del_without_namespace_leaves_the_next_pod_alone(host, node, runtime):
    first = runtime.cri.run_pod("first")
    netconf = conflist("coil", [])
    runtime.cri.stop_pod(first.id)
    second = runtime.cri.run_pod("second")
    late = {
        "CNI_COMMAND": "DEL",
        "CNI_CONTAINERID": first.id,
        "CNI_IFNAME": "eth0",
        "CNI_PATH": "/nowhere",
    }
    body = {**json.loads(netconf), "type": "coil", "socket": str(node.socket)}
    done = subprocess.run(
        host.inside(PLUGIN), input=json.dumps(body), env=late, text=True, timeout=20
    )
    assert done.returncode == 0
    assert [row["addresses"][0] for row in addresses_in_use(node)] == [second.addresses[0]]


def test_a_pod_whose_namespace_vanished_is_collected_without_a_del(host, tmp_path, node):
    node.stop()
    node.start("--period=0.3")
    with contextlib.ExitStack() as stack:
        stack.callback(host.run, "ip", "netns", "delete", f"{host.name}-x", check=False)
        host.run("ip", "netns", "add", f"{host.name}-x")
        variables = {
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "lost",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/run/netns/{host.name}-x",
            "CNI_PATH": "/nowhere",
        }
        body = {"cniVersion": "1.0.0", "name": "coil", "type": "coil", "socket": str(node.socket)}
        subprocess.run(
            host.inside(PLUGIN), input=json.dumps(body), env=variables, text=True, check=True
        )
        assert len(addresses_in_use(node)) == 1
        host.run("ip", "netns", "delete", f"{host.name}-x")
        until(lambda: not addresses_in_use(node), "the collector frees the address")
