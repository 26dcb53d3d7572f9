"""The CNI specification as tables, held against the built plugin and a running coild.

https://www.cni.dev/docs/spec/: section 2 (variables and verbs), section 5 (results, errors).
"""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from coil.cni import versions
from coil.lab.node import PLUGIN

SINCE = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}
NEEDED = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
    "VERSION": (),
}
OPTIONAL = ("CNI_ARGS", "CNI_PATH", "CNI_NETNS", "CNI_CONTAINERID", "CNI_IFNAME")
IMPOSSIBLE = {
    "CNI_CONTAINERID": ("", "_x", "-x", ".x", "../x", "a b", "a/b", "a\nb", "\u00e4", "x" * 161),
    "CNI_IFNAME": ("", "x" * 16, "a%d", "a/b", "a:b", "a b", ".", "..", "\u00e9", "lo\n"),
    "CNI_NETNS": ("", "relative", "/etc/passwd", "/tmp", "/proc/self/ns/mnt", "/proc/self/ns/net"),
    "CNI_ARGS": ("FOO", "=x", "A=B;C"),
}


def parts(version):
    return tuple(map(int, version.split(".")))


class Suite:
    """Calls the plugin as a runtime does and looks at all it must hold to."""

    def __init__(self, machine, pod):
        self.machine = machine
        self.variables = {
            "CNI_CONTAINERID": "c1",
            "CNI_NETNS": str(pod.path),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=p",
            "CNI_PATH": "/opt/cni/bin",
        }
        self.broken = []

    def conf(self, version, **more):
        return {**self.machine.netconf(version), "cni.dev/valid-attachments": [], **more}

    def call(self, command, conf, **variables):
        """(code, what was printed); variables that are None are left out."""
        environment = {**self.variables, **variables, "CNI_COMMAND": command}
        stdin = conf if isinstance(conf, bytes) else json.dumps(conf).encode()
        done = subprocess.run(
            self.machine.host.inside(PLUGIN),
            input=stdin,
            capture_output=True,
            timeout=60,
            env={k: v for k, v in environment.items() if v is not None}
            | {"PATH": os.environ["PATH"]},
        )
        assert done.stderr == b""
        found = json.loads(done.stdout) if done.stdout else None
        assert done.returncode in (0, 1)
        if done.returncode:
            assert set(found) <= {"cniVersion", "code", "msg", "details"}
            assert found["msg"]
            assert found["code"] > 0
        return (found["code"] if done.returncode else 0), found

    def expect(self, code, what, command, conf, **variables):
        """Note what does not hold, so that one run shows all of it."""
        got, printed = self.call(command, conf, **variables)
        if got != code:
            self.broken.append((what, command, conf, f"code {got} instead of {code}", printed))
        if command == "ADD" and got == 0:
            assert self.call("DEL", conf, **variables)[0] == 0
        return printed

    def verify(self):
        assert self.broken == []
        assert self.machine.links() == []
        assert self.machine.used() == {}
        log = self.machine.log.read_text()
        assert "bug while" not in log
        assert "Traceback" not in log


@pytest.fixture
def suite(machine):
    made = Suite(machine, machine.pods())
    yield made
    made.verify()


def test_every_verb_at_every_version(suite):
    for version in (*versions.SUPPORTED, "0.1.0", "0.2.0", "1.2.0", "2.0.0", "", "x"):
        spoken = version in versions.SUPPORTED
        for command in NEEDED:
            there = spoken and parts(version) >= parts(SINCE.get(command, "0.3.0"))
            code = 0 if command == "VERSION" or there else 1
            if command == "CHECK" and there:
                code = 3  # no such attachment
            suite.expect(code, "verb", command, suite.conf(version, prevResult={}))


@pytest.mark.parametrize("command", list(NEEDED))
def test_variables_of_each_verb(suite, command):
    conf = suite.conf("1.1.0", prevResult={})
    good = 3 if command == "CHECK" else 0
    for name in OPTIONAL:
        code = 4 if name in NEEDED[command] else good
        suite.expect(code, f"without {name}", command, conf, **{name: None})
    for name, values in IMPOSSIBLE.items() if NEEDED[command] else ():
        looked_at = name in NEEDED[command] or (command == "ADD" and name == "CNI_ARGS")
        for value in values:
            if command == "CHECK" and name == "CNI_NETNS" and value.startswith("/"):
                continue  # the attachment is looked for first
            code = 4 if looked_at else good
            printed = suite.expect(code, f"{name}={value!r}", command, conf, **{name: value})
            if code == 4:
                assert name in printed["msg"]


@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_variables_as_long_as_the_kernel_lets_them_be(suite, command):
    longest = 128 * 1024 - len("CNI_CONTAINERID=") - 1
    odd = "\u00e4" * (longest // 2)  # each byte triples on its way
    conf = suite.conf("1.1.0")
    for name in ("CNI_ARGS", "CNI_PATH"):
        suite.expect(0, f"long {name}", command, conf, **{name: f"A={odd[2:]}"})
    for name in NEEDED[command]:
        suite.expect(4, f"long {name}", command, conf, **{name: "/" + odd[1:]})
    suite.expect(4, "all long", command, conf, **dict.fromkeys(OPTIONAL, odd))


def test_what_the_netconf_may_not_say(suite):
    for more, code in (
        ({"name": None}, 7),
        ({"name": "a b"}, 7),
        ({"name": "-x"}, 7),
        ({"cniVersion": 1}, 7),
        ({"mtu": "9000"}, 7),
        ({"mtu": 67}, 7),
        ({"mtu": True}, 7),
        ({"pool": "../x"}, 7),
        ({"pool": "nowhere"}, 7),
        ({"timeout": 0}, 7),
        ({"socket": "relative"}, 7),
        ({"prevResult": 5}, 7),
        ({"prevResult": {"interfaces": 5}}, 7),
        ({"prevResult": {"ips": {}}}, 7),
        ({"ipam": {"type": "host-local"}}, 2),
        ({"runtimeConfig": {"ips": ["10.66.0.9/32"]}}, 2),
        ({"args": {"cni": {"ips": ["10.66.0.9"]}}}, 2),
        ({"runtimeConfig": {"mac": "02:00:00:00:00:09"}}, 2),
        ({"capabilities": {"portMappings": True}, "x": {"y": [1]}, "dns": {}, "ipam": {}}, 0),
        ({"runtimeConfig": {"portMappings": [{"hostPort": 80}]}}, 0),
        ({"pool": "", "mtu": 0, "timeout": None, "prevResult": None}, 0),
    ):
        suite.expect(code, "netconf", "ADD", {**suite.conf("1.1.0"), **more})
    for more in (
        {"mtu": "9000"},
        {"pool": "nowhere"},
        {"dns": 5},
        {"prevResult": 5},
    ):
        suite.expect(0, "netconf", "DEL", {**suite.conf("1.1.0"), **more})
    for stdin in (b"", b"{", b"[]", b"null", b"{}x", b"\0", b"\xff{}", b'{"a":1,}', b" "):
        for command in ("ADD", "DEL", "STATUS"):
            suite.expect(6, "stdin", command, stdin)
        suite.expect(0 if stdin == b"" else 6, "stdin", "VERSION", stdin)
    for listed, code in (
        (None, 0),
        ([], 0),
        ({}, 7),
        ([1], 7),
        ([{"containerID": "x"}], 7),
        ([{"containerID": "x", "ifname": "eth0", "more": 1}], 0),
    ):
        conf = {**suite.conf("1.1.0"), "cni.dev/valid-attachments": listed}
        suite.expect(code, "list", "GC", conf)


@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_the_result_has_the_form_of_its_version(suite, version):
    code, found = suite.call("ADD", suite.conf(version))
    assert code == 0
    host = {"name": suite.machine.links()[0], "mac": "ee:ee:ee:ee:ee:ee"}
    mac = found["interfaces"][1]["mac"]
    pod = {"name": "eth0", "mac": mac, "sandbox": suite.variables["CNI_NETNS"]}
    mtu = {"mtu": 1500} if version == "1.1.0" else {}
    four = {"address": "10.66.0.0/32", "gateway": "169.254.1.1", "interface": 1}
    six = {"address": "fd00:66::/128", "gateway": "fe80::1", "interface": 1}
    if parts(version) < (1, 0, 0):
        four["version"], six["version"] = "4", "6"
    assert found == {
        "cniVersion": version,
        "interfaces": [{**host, **mtu}, {**pod, **mtu}],
        "ips": [four, six],
        "routes": [
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
            {"dst": "::/0", "gw": "fe80::1"},
        ],
        "dns": {},
    }
    assert suite.call("ADD", suite.conf(version)) == (0, found)
    assert suite.call("DEL", suite.conf(version, prevResult={**found, "ips": []}))[0] == 0
    assert suite.call("DEL", suite.conf(version), CNI_NETNS=None)[0] == 0


def test_del_succeeds_whatever_is_gone(suite):
    conf = suite.conf("1.1.0")
    for variables in (
        {},
        {"CNI_NETNS": None},
        {"CNI_NETNS": ""},
        {"CNI_NETNS": "/nonexistent"},
        {"CNI_NETNS": "relative"},
        {"CNI_NETNS": "/etc/passwd"},
        {"CNI_ARGS": "nonsense"},
        {"CNI_PATH": None},
    ):
        suite.expect(0, "unknown", "DEL", conf, **variables)
        assert suite.call("ADD", conf)[0] == 0
        suite.expect(0, "known", "DEL", conf, **variables)
        suite.verify()


def test_gc_without_a_list_removes_nothing(suite):
    """cnitool's gc sends none."""
    conf = suite.conf("1.1.0")
    assert suite.call("ADD", conf)[0] == 0
    del conf["cni.dev/valid-attachments"]
    assert suite.call("GC", conf) == (0, None)
    assert len(suite.machine.links()) == 1
    assert suite.call("GC", suite.conf("1.1.0")) == (0, None)
