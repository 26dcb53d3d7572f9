"""coil under containerd and runc: sandboxes as the kubelet makes them."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from coil.lab.containerd import IMAGE, Containerd, containerd
from coil.lab.cri import conflist
from coil.lab.host import cable
from coil.lab.host import host as new_host
from coil.lab.image import PAGE
from coil.lab.node import PLUGIN, Node
from coil.lab.wait import until
from coil.lab.web import fetch, ping, serve

SUBNETS = "10.65.0.0/24,fd00:65::/120"


@pytest.fixture
def runtime(host, node, tmp_path):
    with containerd(host, tmp_path / "containerd", PLUGIN) as running:
        configure(node, running)
        yield running


def configure(node, runtime):
    conf = node.ctl("conflist", "--cni-bin-dir", str(runtime.bin_dir)).stdout
    runtime.configure("10-coil.conflist", conf)


def addresses_in_use(node):
    return [row for row in node.ask("/addresses") if row["state"] == "used"]


def pod_links(host):
    return [link["ifname"] for link in host.ip("link", "show", "type", "veth")]


def reaches(runtime, container, address):
    assert runtime.cri.exec(container, *ping(address))[0] == 0
    assert runtime.cri.exec(container, *fetch(address)) == (0, PAGE.decode())


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
    containers = [serve(runtime.cri, pod) for pod in pods]
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
    for family in ("-4", "-6"):
        routes = host.ip(family, "route", "show", "table", "116")
        assert [route["type"] for route in routes] == ["unreachable"]


def test_a_host_port_and_a_bandwidth_limit_of_the_chained_plugins_work(host, node, runtime):
    pod = runtime.cri.run_pod(
        "web",
        ports={18080: 80},
        annotations={"kubernetes.io/ingress-bandwidth": "10M"},
    )
    serve(runtime.cri, pod)
    other = runtime.cri.run_container(runtime.cri.run_pod("asks"), IMAGE, "sleep", "1000")
    # From another pod to the node's own port: 169.254.1.1 is the node for every pod.
    assert runtime.cri.exec(other, *fetch("169.254.1.1", 18080)) == (0, PAGE.decode())
    qdiscs = host.run("tc", "qdisc", "show").stdout
    assert "tbf" in qdiscs


def test_another_machine_reaches_pods_at_their_own_addresses(host, runtime):
    pod = runtime.cri.run_pod("web", ports={18080: 80})
    serve(runtime.cri, pod)
    with new_host("coil-far") as far:
        cable(host, far, "198.51.100.0/30", "2001:db8:1::/126")
        for subnet, gateway in zip(
            SUBNETS.split(","), ("198.51.100.1", "2001:db8:1::1"), strict=True
        ):
            far.run("ip", "route", "add", subnet, "via", gateway)
        v4, v6 = pod.addresses
        for place in (v4, f"[{v6}]", "198.51.100.1:18080"):
            page = far.run("curl", "-sS", "--max-time", "5", f"http://{place}/").stdout
            assert page == PAGE.decode()


def test_after_a_power_cut_old_sandboxes_go_and_no_address_is_given_again(tmp_path):
    with contextlib.ExitStack() as machine:
        node, runtime = powered_on(machine, tmp_path)
        node.ctl("pool", "create", "default", SUBNETS)
        node.start()
        runtime.start()
        configure(node, runtime)
        old = [runtime.cri.run_pod(name) for name in ("a", "b", "c")]
        node.kill()
        runtime.power_off()
    for path in (node.directory / "state", node.socket):  # what is on tmpfs
        path.unlink() if path.is_socket() else shutil.rmtree(path)
    with contextlib.ExitStack() as machine:
        node, runtime = powered_on(machine, tmp_path)
        node.start()
        runtime.start()
        assert set(runtime.cri.pod_ids()) == {pod.id for pod in old}
        new = runtime.cri.run_pod("new")
        assert new.addresses[0] not in {pod.addresses[0] for pod in old}
        for pod in old:
            runtime.cri.remove_pod(pod.id)
        assert runtime.cri.pod_ids() == [new.id]
        assert [row["addresses"][0] for row in addresses_in_use(node)] == [new.addresses[0]]
        runtime.cri.remove_pod(new.id)
        assert addresses_in_use(node) == []


def powered_on(stack, directory):
    """A machine with coild and containerd, not started, on the disk of the one before."""
    host = stack.enter_context(new_host("coil-rt"))
    (directory / "coil").mkdir(exist_ok=True)
    node = Node(host, directory / "coil")
    stack.callback(node.stop)
    runtime = Containerd(host, directory / "containerd", PLUGIN)
    stack.callback(runtime.stop)
    return node, runtime


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
    runtime.cri.stop_pod(first.id)  # as the kubelet does when it collects the sandbox
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
