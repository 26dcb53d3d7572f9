"""What follows from the few numbers of ``coil-lab up``."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from coil.domain.errors import RequestError
from coil.lab.clos.plan import Kind, Plan, Shape, UnknownName, parse_lab_name
from coil.routing.bird import bird_config

FAMILIES = pytest.mark.parametrize("families", [(4,), (6,), (4, 6)])


def plan(**numbers):
    return Plan(Shape(**numbers))


def test_every_tor_has_a_link_to_every_spine_and_every_host_one_to_its_tor():
    made = plan(spines=2, racks=3, nodes_per_rack=4, etcd=3)
    ends = {(link.upper.machine.name, link.lower.machine.name) for link in made.links}
    tors = {f"tor{n}" for n in (1, 2, 3)}
    assert {pair for pair in ends if pair[1] in tors} == {
        (spine, tor) for spine in ("spine1", "spine2") for tor in tors
    }
    hosts = {pair for pair in ends if pair[0] in tors}
    assert hosts == {(f"tor{r}", f"r{r}n{n}") for r in (1, 2, 3) for n in (1, 2, 3, 4)} | {
        ("tor1", "etcd1"), ("tor2", "etcd2"), ("tor3", "etcd3")
    }  # fmt: skip


def test_etcd_members_go_round_the_racks():
    made = plan(racks=2, etcd=5)
    assert [m.rack for m in made.of_kind(Kind.ETCD)] == ["r1", "r2", "r1", "r2", "r1"]


@pytest.mark.parametrize(("racks", "names"), [(1, "r1n1"), (5, "r1n1 r2n1 r3n1")])
def test_a_controller_runs_on_a_node_of_each_of_three_racks_at_most(racks, names):
    assert [m.name for m in plan(racks=racks).controllers] == names.split()


@FAMILIES
def test_no_two_ends_or_loopbacks_have_one_address_and_both_ends_share_a_network(families):
    made = plan(spines=4, racks=10, nodes_per_rack=4, families=families)
    ends = [end for link in made.links for end in link.ends]
    addresses = [a for end in ends for a in end.addresses]
    addresses += [a for machine in made.machines.values() for a in machine.loopbacks]
    assert max(Counter(addresses).values()) == 1
    assert {a.version for a in addresses} == set(families)
    for link in made.links:
        for one, other in zip(link.upper.addresses, link.lower.addresses, strict=True):
            assert int(one) % 2 == 0
            assert int(other) == int(one) + 1


def test_a_rack_is_one_as_and_spines_are_another():
    made = plan(racks=3)
    racks = {m.rack: m.asn for m in made.machines.values() if m.kind is not Kind.SPINE}
    assert len(set(racks.values())) == 3
    for machine in made.machines.values():
        assert machine.asn == racks.get(machine.rack, made.machines["spine1"].asn)
    assert made.machines["spine1"].asn not in racks.values()


@FAMILIES
def test_each_end_of_a_link_names_the_other_as_its_neighbour(families):
    made = plan(families=families)
    for link in made.links:
        for near, far in (link.ends, link.ends[::-1]):
            router = made.router(near.machine)
            found = {n.address: n.asn for n in router.neighbours if n.address in far.addresses}
            assert found == dict.fromkeys(far.addresses, far.machine.asn)


@FAMILIES
def test_every_machine_has_a_configuration_and_a_router_id_of_its_own(families):
    made = plan(families=families)
    routers = [made.router(machine) for machine in made.machines.values()]
    assert len({router.id for router in routers}) == len(routers)
    for router in routers:
        assert str(router.id) in bird_config(router)


def test_interfaces_are_called_after_the_machine_at_the_other_end_and_fit():
    made = plan(racks=100, nodes_per_rack=1)
    for link in made.links:
        assert link.upper.ifname == link.lower.machine.name
        assert max(len(end.ifname) for end in link.ends) <= 15


def test_a_plan_is_the_same_each_time():
    assert plan().links == plan().links
    assert all(one != other for one, other in pairwise(plan().links))


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"spines": 0}, "--spines 0 must be 1 to 16"),
        ({"racks": 101}, "--racks 101 must be 1 to 100"),
        ({"nodes_per_rack": -1}, "--nodes-per-rack -1 must be 1 to 100"),
        ({"etcd": 2}, "--etcd 2 must be odd"),
        ({"cool_down": -1}, "--cool-down -1 must be 0 to 86400 seconds"),
        ({"grace": 130}, "--grace 130 must be more than --cool-down 130"),
        ({"racks": 50, "nodes_per_rack": 50}, "too large"),
    ],
)
def test_an_impossible_topology_is_told_in_a_sentence(numbers, sentence):
    with pytest.raises(RequestError, match=sentence):
        Shape(**numbers)


@pytest.mark.parametrize("name", ["", "-a", "a.b", "A", "a/b", "a" * 22])
def test_a_lab_has_a_name_that_can_be_part_of_a_file_s(name):
    with pytest.raises(RequestError, match="lab name"):
        parse_lab_name(name)


def test_what_is_not_there_is_told_with_what_is():
    made = plan()
    with pytest.raises(UnknownName, match="no node 'r9n9'; it has r1n1, r1n2, r2n1, r2n2"):
        made.get_machine("r9n9", Kind.NODE)
    with pytest.raises(UnknownName, match="no link between r1n1 and tor2; r1n1 has links to tor1"):
        made.get_link("r1n1", "tor2")
    assert made.get_link("tor1", "spine2") == made.get_link("spine2", "tor1")
