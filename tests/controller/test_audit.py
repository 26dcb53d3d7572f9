"""What is wrong between store and nodes is told by the controller and by coilctl, or mended."""

from __future__ import annotations

import json

from coil.lab.wait import until
from controller.test_gone import POOL, lose_lease


def audit(machine, *options):
    done = machine.ctl("audit", "-o", "json", *options, check=False)
    return done.returncode, sorted((row["kind"], row["as_of"]) for row in json.loads(done.stdout))


def nodes(machine):
    return {row["name"]: row for row in machine.listing("node", "list")}


def put_claim(member, pool, index, node):
    value = json.dumps({"node": node, "revision": 7})
    for key in (f"blocks/{pool}", f"owned/{node}/{pool}"):
        member.ctl("put", f"/t/{key}/{index:019}", value)


def report(member, name, **changes):
    """Write the record of a node that does not run."""
    record = json.loads(member.ctl("get", "--print-value-only", f"/t/nodes/{name}").stdout)
    member.ctl("put", f"/t/nodes/{name}", json.dumps(record | changes))


def test_copies_are_mended_and_contradictions_are_told_when_they_last(cluster, controller, pods):
    member = cluster.member
    one, two = cluster.node(pool=POOL), cluster.node()
    one.add("c1", pods())  # so that it never has its block to spare, whatever it claims meanwhile
    said = one.ctl("audit").stdout
    assert "nothing is wrong" in said
    assert "leads" in said
    (mine,) = one.listing("node", "show", "n0")["blocks"]
    copy = f"/t/owned/n0/default/{mine['index']:019}"
    member.ctl("del", copy)
    member.ctl("put", "/t/owned/n1/default/0000000000000000099", '{"node": "n1", "revision": 7}')
    until(lambda: len(controller.events("claim mended")) == 2, "both are mended")
    assert member.ctl("get", "--print-value-only", copy).stdout.strip()
    until(lambda: audit(one) == (0, []), "nothing is wrong any more")
    put_claim(member, "ghost", 3, "n0")
    until(lambda: controller.problems("outside"), "a block of no pool is told")
    assert [kind for kind, _ in audit(one)[1]] == ["outside"]
    assert {kind for kind, _ in audit(one, "--reports")[1]} == {"leak", "outside"}
    assert not controller.problems("leak")
    two.stop()
    theirs = ["default", mine["index"], 2]
    for seen in (1, 2):
        assert not controller.problems("conflict")
        report(member, "n1", seen=seen, blocks=[theirs])
        passed = controller.passes()
        until(lambda before=passed: controller.passes() > before + 1, "it has looked")
    (problem,) = controller.problems("conflict").values()
    assert f"n1 holds block default/{mine['index']}" in problem
    assert "n0" in problem
    reports = one.listing("node", "show", "n1")
    assert [row["index"] for row in reports["reported_only"]] == [mine["index"]]


def test_an_operator_sees_nodes_as_they_are_and_releases_those_that_are_gone(cluster, pods):
    one, two = cluster.node(pool=POOL, rack="r1"), cluster.node()
    two.add("c1", pods())
    two.stop()
    two.start("--period=1")  # reports what it has now
    until(lambda: nodes(one)["n1"]["used"] == 1, "it has reported")
    assert (nodes(one)["n0"]["age"], nodes(one)["n0"]["rack"]) == ("now", "r1")
    shown = one.listing("node", "show", "n1")
    assert [(row["pool"], row["used"]) for row in shown["blocks"]] == [("default", 1)]
    assert shown["reported_only"] == []
    two.stop()
    lose_lease(cluster, two)
    report(cluster.member, "n1", seen=shown["seen"] - 600)
    (row,) = [row for row in one.listing("node", "list") if not row["alive"]]
    assert row["age"] == "10 min ago"
    assert "NODE" in one.ctl("node", "list").stdout
    assert "blocks that are free now: 1" in one.ctl("node", "release", "n1", "--yes").stdout
    absent = one.ctl("node", "show", "n1", check=False)
    assert (absent.returncode, "knows no node n1" in absent.stderr) == (1, True)
    put_claim(cluster.member, "default", 50, "n7")
    status, found = audit(one)
    assert (status, found) == (1, [("orphan", "now")])
    refused = one.ctl("node", "release", "n7", "--yes", check=False)
    assert (refused.returncode, "has no record" in refused.stderr) == (1, True)
    done = one.listing("node", "release", "n7", "--yes", "--force")
    assert done == {"name": "n7", "released_blocks": 1}
    assert audit(one) == (0, [])
