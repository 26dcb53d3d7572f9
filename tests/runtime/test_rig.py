"""The rig itself, with Debian's ptp as the network: what fails here is not coil's doing."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coil.lab.containerd import containerd
from coil.lab.errors import LabError
from coil.lab.host import cable
from coil.lab.host import host as new_host
from coil.lab.image import PAGE
from coil.lab.podman import podman
from coil.lab.wait import until
from coil.lab.web import SERVER, fetch, ping, serve
from runtime.rigs import alive, pids_of, ptp, traces


def veths(host):
    return [link["ifname"] for link in host.ip("link", "show", "type", "veth")]


def test_a_host_goes_also_when_what_runs_on_it_fails():
    made = []

    def fail():
        with new_host() as host:
            made.append(host.path)
            assert "UP" in host.ip("link", "show", "lo")[0]["flags"]
            host.run("sh", "-c", "echo why; exit 7")

    with pytest.raises(LabError, match="exit status 7: why"):
        fail()
    assert not made[0].exists()


def test_hosts_with_a_cable_reach_each_other_at_once():
    with new_host() as one, new_host() as other:
        cable(one, other, "198.51.100.0/30", "2001:db8:1::/126")
        for address in ("198.51.100.2", "2001:db8:1::2"):
            one.run("ping", "-c1", "-W2", address)


def test_pods_of_containerd_reach_each_other(host, tmp_path):
    with containerd(host, tmp_path / "containerd") as runtime:
        assert not runtime.cri.network_ready()
        runtime.configure("10-peer.conflist", ptp(tmp_path))
        assert runtime.cri.network_ready()
        first, second = (runtime.cri.run_pod(name) for name in ("a", "b"))
        container = serve(runtime.cri, first)
        serve(runtime.cri, second)
        assert runtime.cri.exec(container, *ping(second.addresses[0]))[0] == 0
        assert runtime.cri.exec(container, *fetch(second.addresses[0])) == (0, PAGE.decode())
        assert runtime.cri.exec(container, *fetch("10.67.0.250"))[0] != 0


def test_twenty_sandboxes_at_once(host, tmp_path):
    with containerd(host, tmp_path / "containerd") as runtime:
        runtime.configure("10-peer.conflist", ptp(tmp_path))
        with ThreadPoolExecutor(20) as threads:
            pods = list(threads.map(runtime.cri.run_pod, [f"p{n}" for n in range(20)]))
            assert len({pod.addresses for pod in pods}) == 20
            assert len(veths(host)) == 20
            list(threads.map(lambda pod: runtime.cri.remove_pod(pod.id), pods))
        assert runtime.cri.pod_ids() == []
        assert veths(host) == []


def test_a_configuration_that_is_replaced_is_in_force_at_once(host, tmp_path):
    with containerd(host, tmp_path / "containerd") as runtime:
        for third in (67, 68, 69):
            conf = ptp(tmp_path / str(third)).replace("10.67.", f"10.{third}.")
            runtime.configure("10-peer.conflist", conf)
            pod = runtime.cri.run_pod("a")
            assert pod.addresses[0].startswith(f"10.{third}.")
            runtime.cri.remove_pod(pod.id)


def in_peace(runtime):
    pass


def killed(runtime):
    runtime._process.kill()
    runtime._process.wait()


def without_plugins(runtime):
    for plugin in Path(runtime.directory, "bin").iterdir():
        plugin.unlink()


@pytest.mark.parametrize("trouble", [in_peace, killed, without_plugins])
def test_containerd_leaves_nothing(host, tmp_path, trouble):
    with containerd(host, tmp_path / "containerd") as runtime:
        runtime.configure("10-peer.conflist", ptp(tmp_path))
        pods = [runtime.cri.run_pod(name) for name in ("a", "b")]
        ids = [pod.id for pod in pods] + [serve(runtime.cri, pod) for pod in pods]
        notes = runtime.directory.glob("state/*/k8s.io/*/address")
        sockets = {Path(note.read_text().removeprefix("unix://")) for note in notes}
        assert len(sockets) == 2
        processes = pids_of(host)
        assert len(processes) >= 4  # pause and server of each; shims, where containerd puts them
        assert list(traces(host, runtime.directory, ids))
        trouble(runtime)
    assert list(traces(host, runtime.directory, ids)) == []
    assert alive(processes) == set()
    assert [socket for socket in sockets if socket.exists()] == []
    until(lambda: not veths(host), "links of dead namespaces go")


def test_containerd_that_does_not_come_up_says_why(host, tmp_path):
    directory = tmp_path / "containerd"
    directory.mkdir()
    (directory / "state").write_text("in the way")
    with pytest.raises(LabError, match="not a directory"), containerd(host, directory):
        pass
    assert list(traces(host, directory, [])) == []


def test_containers_of_podman_reach_each_other(host, tmp_path):
    with podman(host, tmp_path / "podman") as runtime:
        runtime.configure("10-peer.conflist", ptp(tmp_path))
        runtime.run("web", "peer", *SERVER)
        own = Path(runtime.runroot, "tmp")
        assert {"alive", "locks"} <= {path.name for path in own.iterdir()}
        runtime.run("asks", "peer", "sleep", "1000")
        web = json.loads(runtime("inspect", "web").stdout)[0]
        address = web["NetworkSettings"]["Networks"]["peer"]["IPAddress"]
        runtime("exec", "asks", *ping(address))
        until(
            lambda: runtime("exec", "asks", *fetch(address), check=False).stdout == PAGE.decode(),
            "the page comes",
        )
        runtime("rm", "-f", "-t", "0", "web", "asks")
        assert veths(host) == []


def confused(runtime):
    Path(runtime.directory, "root/libpod/bolt_state.db").write_bytes(b"no database")


@pytest.mark.parametrize("trouble", [in_peace, without_plugins, confused])
def test_podman_leaves_nothing(host, tmp_path, trouble):
    with podman(host, tmp_path / "podman") as runtime:
        runtime.configure("10-peer.conflist", ptp(tmp_path))
        ids = [runtime.run(name, "peer", "sleep", "1000") for name in ("a", "b")]
        inspected = json.loads(runtime("inspect", *ids).stdout)
        namespaces = [Path(entry["NetworkSettings"]["SandboxKey"]) for entry in inspected]
        assert all(path.exists() for path in namespaces)
        assert list(traces(host, runtime.directory, ids))
        processes = pids_of(host)
        assert len(processes) == 4  # two containers, each with its conmon
        trouble(runtime)
    for directory in (runtime.directory, Path(runtime.runroot)):
        assert list(traces(host, directory, ids)) == []
    assert alive(processes) == set()
    assert not any(path.exists() for path in namespaces)
    assert not Path(runtime.runroot).exists()
    until(lambda: not veths(host), "links of dead namespaces go")
