"""conflist and doctor on machines with other runtimes and plugins than this one's."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from coil.ctl.machine import parse_containerd
from coil.ctl.main import main

OLD = ["0.4.0", "1.0.0"]
NEW = [*OLD, "1.1.0"]
CONTAINERD_1 = "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3"
CONTAINERD_2 = "containerd github.com/containerd/containerd/v2 v2.2.9 "


class Machine:
    """Programs of a PATH of its own, and the folders of a runtime."""

    def __init__(self, directory):
        self.programs = directory / "path"
        self.plugins = directory / "plugins"
        self.conf = directory / "net.d" / "10-coil.conflist"
        for folder in (self.programs, self.plugins, self.conf.parent):
            folder.mkdir()

    def has_containerd(self, version):
        name, key = (
            ("io.containerd.cri.v1.runtime", f"bin_dirs = ['{self.plugins}', '/nowhere']")
            if "v2" in version
            else ("io.containerd.grpc.v1.cri", f'bin_dir = "{self.plugins}"')
        )
        config = self.programs / "config.toml"
        config.write_text(f"[plugins.'{name}'.cni]\n{key}\nconf_dir = '{self.conf.parent}'")
        says = f'[ "$1" = config ] && exec /bin/cat {config}; echo "{version}"'
        self._program(self.programs / "containerd", says)

    def has_plugin(self, name, versions):
        says = json.dumps({"cniVersion": "1.0.0", "supportedVersions": versions})
        self._program(self.plugins / name, f"[ $CNI_COMMAND = VERSION ] && echo '{says}'")

    def _program(self, path, script):
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def ctl(self, *words):
        environment = {"PATH": str(self.programs), "COIL_STORE": f"sqlite://{self.programs}/s"}
        return CliRunner().invoke(main, list(words), env=environment)

    def conflist(self, *words):
        done = self.ctl("conflist", *words)
        assert done.exit_code == 0
        return json.loads(done.stdout), done.stderr

    def verdict(self, check="configuration"):
        found = json.loads(self.ctl("doctor", "-o", "json").stdout)
        return next(row for row in found if row["check"] == check)


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def types(conf):
    return [plugin["type"] for plugin in conf["plugins"]]


@pytest.mark.parametrize(
    ("runtime", "plugins", "version"),
    [
        (CONTAINERD_1, NEW, "1.0.0"),
        (CONTAINERD_2, NEW, "1.1.0"),
        (CONTAINERD_2, OLD, "1.0.0"),
        (CONTAINERD_2, ["0.3.1", "0.4.0"], "0.4.0"),
        (CONTAINERD_2, [], "1.1.0"),
    ],
)
def test_a_conflist_has_the_version_that_runtime_and_chained_plugins_take(
    machine, runtime, plugins, version
):
    machine.has_containerd(runtime)
    machine.has_plugin("portmap", plugins)
    conf, told = machine.conflist()
    assert (conf["cniVersion"], types(conf)) == (version, ["coil", "portmap"])
    held_back = plugins and runtime == CONTAINERD_2 and plugins != NEW
    assert (f"{machine.plugins}/portmap" in told) == bool(held_back)


def test_plugins_that_are_not_chained_hold_nothing_back(machine):
    machine.has_containerd(CONTAINERD_2)
    machine.has_plugin("portmap", OLD)
    conf, told = machine.conflist("--no-chain")
    assert (conf["cniVersion"], types(conf), told) == ("1.1.0", ["coil"], "")


def test_only_plugins_that_the_runtime_would_find_are_chained(machine, tmp_path):
    machine.has_containerd(CONTAINERD_2)
    machine.has_plugin("tuning", NEW)
    assert types(machine.conflist()[0]) == ["coil", "tuning"]
    assert types(machine.conflist("--cni-bin-dir", str(tmp_path))[0]) == ["coil"]


@pytest.mark.parametrize(
    ("version", "more", "plugins", "says"),
    [
        ("1.1.0", [], {"coil": NEW, "portmap": NEW}, ""),
        ("1.0.0", [], {"coil": NEW, "portmap": OLD}, ""),
        ("1.1.0", [], {"coil": NEW, "portmap": OLD}, "portmap does not take cniVersion 1.1.0"),
        ("1.0.0", ["1.1.0"], {"coil": NEW, "portmap": OLD}, "does not take cniVersion 1.1.0"),
        ("1.0.0", ["1.2.0"], {"coil": NEW, "portmap": OLD}, ""),
        ("1.2.0", [], {"coil": NEW, "portmap": NEW}, "the runtime here takes cniVersion 1.1.0"),
        ("1.1.0", [], {"coil": NEW}, "no plugin portmap in"),
    ],
)
def test_doctor_says_which_plugin_would_fail_every_pod(machine, version, more, plugins, says):
    machine.has_containerd(CONTAINERD_2)
    for name, spoken in plugins.items():
        machine.has_plugin(name, spoken)
    chain = [{"type": "coil"}, {"type": "portmap"}]
    conf = {"cniVersion": version, "cniVersions": more, "name": "n", "plugins": chain}
    machine.conf.write_text(json.dumps(conf))
    found = machine.verdict()
    assert found["verdict"] == ("fail" if says else "ok")
    assert says in found["found"]


def test_doctor_says_how_the_plugin_comes_where_the_runtime_looks(machine):
    machine.has_containerd(CONTAINERD_1)
    advice = f"put it into {machine.plugins} (make install CNI_BIN_DIR={machine.plugins})"
    assert machine.verdict("plugin coil")["advice"] == advice
    machine.has_plugin("coil", NEW)
    assert machine.verdict("plugin coil")["verdict"] == "ok"


@pytest.mark.parametrize(
    "text",
    ["", "[]", "5", '{"plugins": null}', '{"plugins": [5]}', '{"plugins": [{"type": "x/y"}]}'],
)
def test_doctor_refuses_a_configuration_that_is_none(machine, text):
    machine.has_containerd(CONTAINERD_2)
    machine.conf.write_text(text)
    assert machine.verdict()["verdict"] == "fail"


OF_1_6 = """
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "/x/net.d"
"""
OF_2_2 = """
[plugins.'io.containerd.cri.v1.runtime'.cni]
bin_dir = ''
bin_dirs = ['/a', '/b']
conf_dir = '/x'
[plugins.'io.containerd.grpc.v1.cri']
disable_tcp_service = true
"""


@pytest.mark.parametrize(
    ("config", "plugins", "configurations"),
    [
        (OF_1_6, ["/usr/lib/cni"], "/x/net.d"),
        (OF_2_2, ["/a", "/b"], "/x"),
        *(
            (text, ["/opt/cni/bin"], "/etc/cni/net.d")
            for text in (
                "[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = []",
                '[plugins]\n[plugins."io.containerd.grpc.v1.cri"]',
                'plugins = ["cni"]',
                "plugins = 5",
                "no TOML",
                "",
            )
        ),
    ],
)
def test_the_configuration_of_containerd_is_read_whatever_its_version(
    config, plugins, configurations
):
    found = parse_containerd(config)
    assert [str(path) for path in found.plugins] == plugins
    assert str(found.configurations) == configurations
