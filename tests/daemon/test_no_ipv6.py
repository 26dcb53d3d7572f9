"""Hosts without IPv6: switched off at boot (acted out, see no_ipv6.c) or by sysctl."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from coil.lab.node import PROGRAMS
from coil.lab.wait import until
from daemon.conftest import pool_of
from daemon.waiting import SOON

HIDE = 'mount -t tmpfs tmpfs /proc/sys/net/ipv6 && exec env LD_PRELOAD="$0" "$@"'
KEYS = ("all", "default", "lo")


@pytest.fixture(scope="module")
def booted_without(tmp_path_factory):
    """The beginning of a command line that runs a program as on a host with ipv6.disable=1."""
    library = tmp_path_factory.mktemp("no-ipv6") / "no_ipv6.so"
    source = Path(__file__).with_name("no_ipv6.c")
    subprocess.run(
        ["gcc", "-Wall", "-Werror", "-O2", "-fPIC", "-shared", "-o", library, source], check=True
    )
    return ("unshare", "--mount", "--propagation=slave", "sh", "-c", HIDE, library)


def problems(machine):
    return [(p["kind"], p["subject"]) for p in machine.ask("/status")["problems"]]


def serves_ipv4_alone(machine):
    """Pools of IPv4 work in every way; those with IPv6 are refused in a sentence."""
    first, second, third = machine.pods(3)
    told = machine.add("a", first)
    assert told.addresses == ["10.66.0.0"]
    machine.add("b", second)
    first.run("ping", "-c1", "-W5", "10.66.0.1")
    before = machine.routes(116), machine.routes(119)
    machine.host.run("ip", "route", "flush", "table", "116")
    machine.host.run("ip", "route", "flush", "table", "119")
    until(lambda: (machine.routes(116), machine.routes(119)) == before, "repaired", SOON)
    assert machine.cni("CHECK", "a", first, prevResult=told.json).code == 0
    assert machine.cni("STATUS", version="1.1.0").code == 0
    for pool in ("dual", "six"):
        refused = machine.cni("ADD", "c", third, pool=pool)
        assert refused.code == 101
        assert f"pool {pool} has IPv6, which is switched off on this host" in refused.json["msg"]
        assert machine.cni("STATUS", version="1.1.0", pool=pool).code == 50
    assert len(third.ip("link")) == 1
    assert problems(machine) == [("pool", "dual"), ("pool", "six")]
    assert {block["pool"] for block in machine.claims()} == {"default"}
    machine.delete("a", first)
    machine.delete("b", second)
    assert machine.used() == {}
    assert machine.links() == []


def made(machines):
    machine = machines()
    machine.create_pool(pool_of("10.66.0.0/24"))
    machine.create_pool(pool_of("10.67.0.0/24,fd00:67::/120", name="dual"))
    machine.create_pool(pool_of("fd00:68::/120", name="six"))
    return machine


def ipv6_of_doctor(machine, *before):
    words = (*before, PROGRAMS / "coilctl", f"--socket={machine.socket}", "doctor", "-o", "json")
    found = json.loads(machine.host.run(*words, check=False).stdout)
    return next(row["found"] for row in found if row["check"] == "IPv6")


def test_a_host_booted_without_ipv6_serves_ipv4(machines, booted_without):
    machine = made(machines)
    machine.launch(*booted_without, PROGRAMS / "coild")
    until(machine._serves, "coild serves")
    serves_ipv4_alone(machine)
    assert not [rule for rule in machine.host.ip("-6", "rule") if rule["priority"] == 2000]
    assert "switched off at boot" in ipv6_of_doctor(machine, *booted_without)


def test_a_host_whose_ipv6_is_switched_off_serves_ipv4_and_ipv6_once_it_is_on(machines):
    machine = made(machines)
    for key in KEYS:
        machine.host.run("sysctl", "-qw", f"net.ipv6.conf.{key}.disable_ipv6=1")
    machine.start("--period=0.5")
    serves_ipv4_alone(machine)
    assert ipv6_of_doctor(machine) == "switched off (disable_ipv6 of lo, default)"
    for key in KEYS:
        machine.host.run("sysctl", "-qw", f"net.ipv6.conf.{key}.disable_ipv6=0")
    until(lambda: problems(machine) == [], "it is seen", 10)
    first, second = machine.pods(2)
    machine.add("d", first, pool="dual")
    target = machine.add("e", second, pool="dual").addresses[1]
    first.run("ping", "-c1", "-W5", target)


def test_a_block_with_ipv6_from_before_stops_nothing(machine, booted_without):
    """The node had a block of both families; then its host was booted without IPv6."""
    pod, other = machine.pods(2)
    machine.stop()
    machine.create_pool(pool_of("10.68.0.0/24", name="four"))
    machine.host.run("ip", "-6", "route", "flush", "table", "116")
    machine.host.run("ip", "-6", "route", "flush", "table", "119")
    machine.launch(*booted_without, PROGRAMS / "coild")
    until(machine._serves, "coild serves")
    assert machine.cni("ADD", "a", pod).code == 101
    machine.add("a", other, pool="four")
    assert problems(machine) == [("pool", "default")]
    machine.kill()
    machine.start()
    machine.add("b", pod)
