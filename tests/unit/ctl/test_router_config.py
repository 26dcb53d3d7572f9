"""coilctl router-config: options in, text out; what the text is worth tests/routing shows."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from click.testing import CliRunner

from coil.ctl.main import main
from coil.routing.bird import bird_config
from coil.routing.frr import frr_config
from coil.routing.gobgp import gobgp_config
from coil.routing.model import Bfd, Neighbour, Role, Router, Timers

GOOD = ["--asn=65001", "--name=r1", "--loopback=10.0.0.1", "--neighbour=10.9.0.0,65001,tor1"]
ROUTER = Router(
    "r1",
    Role.NODE,
    65001,
    (ip_address("10.0.0.1"),),
    (Neighbour(ip_address("10.9.0.0"), 65001, "tor1"),),
)


def run(*words):
    return CliRunner().invoke(main, ["router-config", *words])


def test_what_is_printed_is_what_the_tests_of_the_daemons_run():
    assert run("bird", *GOOD).output == bird_config(ROUTER)
    assert run("frr", *GOOD).output == frr_config(ROUTER)
    assert run("gobgp", "--bfd", *GOOD).output == gobgp_config(ROUTER)


def test_bfd_is_on_where_every_version_has_it():
    without = replace(ROUTER, bfd=None)
    assert run("gobgp", *GOOD).output == gobgp_config(without)
    assert run("bird", "--no-bfd", *GOOD).output == bird_config(without)


def test_every_option_arrives():
    done = run(
        "bird", "--role=tor", "--name=t", "--asn=65001", "--router-id=1.2.3.4",
        "--loopback=fd00::1", "--neighbour=fd00:9::,65001", "--neighbour=fd00:9::2,65000,s1",
        "--bfd-interval=100", "--bfd-multiplier=5", "--hold=30", "--aggregates=/run/a.conf",
    )  # fmt: skip
    expected = Router(
        "t",
        Role.TOR,
        65001,
        (ip_address("fd00::1"),),
        (Neighbour(ip_address("fd00:9::"), 65001), Neighbour(ip_address("fd00:9::2"), 65000, "s1")),
        router_id=ip_address("1.2.3.4"),
        bfd=Bfd(100, 5),
        timers=Timers(keepalive=10, hold=30),
        aggregates="/run/a.conf",
    )
    assert done.output == bird_config(expected)
    assert "bfd" not in run("bird", *GOOD, "--no-bfd").output
    assert "kernel table 5;" in run("bird", *GOOD, "--export-table=5", "--protocol=77").output


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "bird"),
        (["quagga", *GOOD], "quagga"),
        (["bird", "--loopback=10.0.0.1", "--neighbour=10.9.0.0,65001"], "--asn"),
        (["bird", "--asn=65001", "--loopback=10.0.0.1"], "--neighbour"),
        (["bird", *GOOD, "--loopback=10.0.0.300"], "10.0.0.1 or fd00::1"),
        (["bird", *GOOD, "--loopback=10.0.0.2"], "2 IPv4 loopbacks"),
        (["bird", *GOOD, "--loopback=fd00::1%eth0"], "interface"),
        (["bird", *GOOD, "--neighbour=10.9.0.2"], "ADDRESS,ASN"),
        (["bird", *GOOD, "--neighbour=10.9.0.2,x"], "ADDRESS,ASN"),
        (["bird", *GOOD, "--neighbour=10.9.0.2,65002"], "shares the AS of its rack"),
        (["bird", *GOOD, "--neighbour=10.9.0.2,65001,a b"], "name 'a b'"),
        (["bird", *GOOD, "--router-id=fd00::1"], "--router-id"),
        (["bird", *GOOD, "--asn=4294967296"], "AS number"),
        (["bird", *GOOD, "--hold=1"], "hold time"),
        (["bird", *GOOD, "--export-table=254"], "another --export-table"),
        (["bird", *GOOD, "--aggregates=/run/x"], "only a ToR"),
        (["frr", *GOOD, "--loopback=fd00::1"], "--export-table 254"),
        (["frr", *GOOD, "--export-table=1000"], "tables 1 to 252"),
        (["frr", "--role=tor", *GOOD, "--aggregates=/run/x"], "BIRD only"),
    ],
)
def test_a_wrong_option_gets_one_sentence_and_status_2(words, says):
    done = run(*words)
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output
    assert "protocol bgp" not in done.output
