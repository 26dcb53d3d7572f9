"""What the programs of a lab are told."""

from __future__ import annotations

from urllib.parse import urlsplit

from coil.lab.clos.files import Files
from coil.lab.clos.machines import Machines
from coil.lab.clos.plan import Plan, Shape
from coil.store.etcd.address import parse_address


def test_each_member_of_etcd_has_a_second_to_write_something_to_its_disk():
    """A claim is asked for once: the time of the call is shared by the members it might go to."""
    address = parse_address(urlsplit(Machines(Files("a"), Plan(Shape(etcd=3))).store))
    assert len(address.endpoints) == 3
    assert address.timeout / len(address.endpoints) >= 1
