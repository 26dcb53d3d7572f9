"""Journal and store lost together, or the store made anew as another: nothing is given twice.

What is left is the kernel: links that name their attachment, routes that tell its addresses.
"""

from __future__ import annotations

import pytest

from coil.lab.wait import until
from daemon.conftest import DUAL

pytestmark = pytest.mark.sqlite

OTHER = "10.99.0.0/24"


def lose(machine, *patterns, how="deleted"):
    for pattern in patterns:
        for path in machine.directory.glob(pattern):
            if how == "deleted":
                path.unlink()
            else:
                path.write_bytes(b"garbage" * 999)


def problems(machine, kind):
    return {p["subject"]: p["problem"] for p in machine.ask("/status")["problems"]
            if p["kind"] == kind}  # fmt: skip


@pytest.mark.parametrize("how", ["deleted", "garbage"])
def test_with_both_lost_no_address_that_lives_or_cools_is_given(machine, how):
    pods = machine.pods(8)
    lives = machine.add("lives", pods[0])
    gone = [machine.add(f"gone{n}", pods[n]).addresses for n in (1, 2)]
    for n in (1, 2):
        machine.delete(f"gone{n}", pods[n])
    link = machine.links()[0]
    machine.kill()
    lose(machine, "store.db*", "state/journal.db*", how=how)
    machine.start()
    (told,) = problems(machine, "link").items()
    assert told[0] == link
    assert lives.addresses[0] in told[1]
    assert machine.cni("ADD", "new", pods[3]).code != 0
    # Once more without knowing any pool: the kernel still tells.
    machine.kill()
    machine.start()
    machine.create_pool(DUAL)
    until(lambda: machine.used() == {lives.addresses[0]: "lives"}, "it is known again")
    until(lambda: not problems(machine, "link"), "the problem is gone")
    given = [machine.add(f"new{n}", pods[n]).addresses for n in range(3, 8)]
    assert not {a for each in given for a in each} & {
        a for each in (lives.addresses, *gone) for a in each
    }
    assert machine.routes(116)[lives.addresses[0]] == link
    machine.delete("lives", pods[0])
    assert lives.addresses[0] not in machine.used()


def test_blocks_of_before_cool_first_when_both_were_lost(machine):
    pod, other = machine.pods(2)
    gone = machine.add("gone", pod).addresses
    machine.delete("gone", pod)
    machine.kill()
    lose(machine, "store.db*", "state/journal.db*")
    machine.start()
    machine.create_pool(DUAL)
    until(lambda: machine.ask("/status")["pools"], "the pool is known")
    added = machine.add("new", other).addresses
    assert added != gone
    rows = machine.ask("/addresses")
    assert [r["addresses"] for r in rows if r["state"] == "cooling"].count(gone) == 1


def test_a_pool_that_was_remade_as_another_gives_nothing_while_old_pods_live(machine):
    pods = machine.pods(3)
    lives = machine.add("lives", pods[0])
    machine.stop()
    lose(machine, "store.db*")
    machine.ctl("pool", "create", "default", OTHER)
    machine.ctl("pool", "create", "b", "10.66.0.0/24,fd00:66::/120")
    machine.start("--period=0.5")
    until(lambda: problems(machine, "pool").keys() == {"default", "b"}, "it is told")
    for pool in ("default", "b"):
        refused = machine.cni("ADD", "new", pods[1], pool=pool)
        assert refused.code == 5 or "lives" in refused.json["msg"], refused.json
        assert "delete these pods" in refused.json["msg"]
    assert machine.routes(116)[lives.addresses[0]] == machine.links()[0]
    machine.delete("lives", pods[0])
    until(lambda: not problems(machine, "pool"), "nothing is in the way any more")
    assert machine.add("new", pods[1]).addresses[0].startswith("10.99.0.")
    assert machine.add("newer", pods[2], pool="b").addresses[0].startswith("10.66.0.")


def test_a_pool_that_was_remade_as_another_is_taken_when_nobody_has_the_old(machine):
    machine.stop()
    lose(machine, "store.db*")
    machine.ctl("pool", "create", "default", OTHER)
    machine.start()
    assert machine.add("new", machine.pods()).addresses[0].startswith("10.99.0.")
    assert not problems(machine, "pool")
    until(lambda: all(n.startswith("10.99.0.") for n in machine.routes(119)), "the old are gone")
