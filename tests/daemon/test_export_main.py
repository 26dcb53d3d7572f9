"""Blocks in the main table (``--export-table 254``), as FRR needs them; the rest is others'."""

from __future__ import annotations

from coil.lab.wait import until
from daemon.conftest import pool_of

BLOCK = {"-4": "10.66.0.0/27", "-6": "fd00:66::/123"}
FOREIGN = (
    "10.99.0.0/24 dev lo proto static",
    "10.98.0.0/24 dev lo proto bird metric 32",
    "fd00:99::/64 dev lo proto static metric 5",
    # Of the block itself, as a routing daemon hears of it from others.
    "10.66.0.0/27 dev lo proto bgp metric 20",
    "fd00:66::/123 dev lo proto bgp metric 2048",
    "unreachable 10.97.0.0/24 proto bgp",
)


def foreign(machine):
    """All routes of main that are neither coild's nor the kernel's own for addresses."""
    return {
        family: [
            route
            for route in machine.host.ip(family, "route", "show")
            if route["protocol"] not in ("30", "kernel")
        ]
        for family in BLOCK
    }


def exported(machine):
    return {
        family: [
            route["dst"]
            for route in machine.host.ip(family, "route", "show", "proto", "30")
            if route["dev"] == "lo"
        ]
        for family in BLOCK
    }


def test_only_our_own_routes_are_made_mended_and_removed(machines):
    machine = machines()
    for route in FOREIGN:
        machine.host.run("ip", "route", "add", *route.split())
    before = foreign(machine)
    assert sum(map(len, before.values())) >= len(FOREIGN)
    machine.create_pool(pool_of("10.66.0.0/24,fd00:66::/120", cool_down=0))
    machine.start("--export-table=254")
    pod = machine.pods()
    machine.add("c1", pod)
    whole = {family: [block] for family, block in BLOCK.items()}
    until(lambda: exported(machine) == whole, "the block is exported")
    assert foreign(machine) == before
    for family, block in BLOCK.items():
        machine.host.run("ip", family, "route", "del", block, "dev", "lo", "proto", "30")
        until(lambda: exported(machine) == whole, "it is mended")
    assert foreign(machine) == before
    machine.kill()
    machine.start("--export-table=254")
    pod.run("ping", "-c1", "-W5", "169.254.1.1")
    machine.delete("c1", pod)
    machine.ctl("pool", "cordon", "default")
    until(lambda: not any(exported(machine).values()), "the block is given back")
    assert foreign(machine) == before
