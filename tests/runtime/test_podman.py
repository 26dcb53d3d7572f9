"""coil under podman with its CNI backend."""

from __future__ import annotations

import json

from coil.lab.image import PAGE
from coil.lab.node import PLUGIN
from coil.lab.podman import podman
from coil.lab.wait import until
from coil.lab.web import SERVER, fetch, ping


def answers(runtime, address):
    return runtime("exec", "asks", *fetch(address), check=False).stdout == PAGE.decode()


def test_containers_of_podman_get_addresses_and_talk(host, node, tmp_path):
    with podman(host, tmp_path / "podman", PLUGIN) as runtime:
        conf = node.ctl("conflist", "--cni-bin-dir", f"{tmp_path}/podman/bin").stdout
        runtime.configure("10-coil.conflist", conf)
        assert "coil" in runtime("network", "ls").stdout
        runtime.run("web", "coil", *SERVER)
        runtime.run("asks", "coil", "sleep", "1000")
        rows = json.loads(node.ctl("address", "list", "-o", "json").stdout)
        web = next(row["addresses"] for row in rows if row["pod"] == "web")
        for address in web:
            runtime("exec", "asks", *ping(address))
            until(lambda to=address: answers(runtime, to), f"{address} serves")
        runtime("rm", "-f", "-t", "0", "web", "asks")
    rows = json.loads(node.ctl("address", "list", "-o", "json").stdout)
    assert [row["state"] for row in rows] == ["cooling", "cooling"]
    assert host.ip("link", "show", "type", "veth") == []
