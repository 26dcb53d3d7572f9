"""Who answers, by echo and by TCP, in both families: between two hosts with a cable."""

from __future__ import annotations

import json
import sys

import pytest

from coil.lab.host import cable
from coil.lab.host import host as new_host

ASK = """
import asyncio, ipaddress, json, sys
from coil.controller.ping import find_answering
asked = [ipaddress.ip_address(text) for text in sys.argv[1:]]
print(json.dumps(sorted(map(str, asyncio.run(find_answering(asked))))))
"""
WITHOUT_RAW = ("setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw")
THERE = ["10.9.0.2", "fd00:9::2"]


@pytest.fixture
def ask():
    with new_host("coil-ask") as asker, new_host("coil-asked") as asked:
        cable(asker, asked, "10.9.0.0/24", "fd00:9::/64")

        def call(*addresses, prefix=()):
            done = asker.run(*prefix, sys.executable, "-c", ASK, *addresses)
            return json.loads(done.stdout)

        call.asked = asked
        yield call


def test_only_who_is_there_answers(ask):
    absent = ["10.9.0.3", "fd00:9::3", "192.0.2.1", "2001:db8::1"]  # the last two without a route
    assert ask(*THERE, *absent) == sorted(THERE)
    assert ask() == []
    assert ask("127.0.0.1", "::1") == ["127.0.0.1", "::1"]


@pytest.mark.parametrize("prefix", [(), WITHOUT_RAW], ids=["echo is ignored", "no raw sockets"])
def test_a_refused_connection_is_an_answer(ask, prefix):
    if not prefix:
        for path in ("ipv4.icmp_echo_ignore_all", "ipv6.icmp.echo_ignore_all"):
            ask.asked.run("sysctl", "-qw", f"net.{path}=1")
    assert ask(*THERE, "10.9.0.3", prefix=prefix) == sorted(THERE)


def test_who_drops_everything_but_echo_answers(ask):
    rules = "add table inet t; add chain inet t c { type filter hook input priority 0; }; "
    ask.asked.run("nft", rules + "add rule inet t c meta l4proto tcp drop")
    assert ask(*THERE) == sorted(THERE)


def test_many_are_asked_at_once(ask):
    many = [f"10.9.0.{number}" for number in range(10, 250)]
    for address in many:
        ask.asked.run("ip", "addr", "add", f"{address}/32", "dev", "lo")
    assert ask(*many, "10.9.0.9") == sorted(many)
