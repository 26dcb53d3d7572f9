"""How long a whole data centre takes to come up, and to go."""

from __future__ import annotations

import secrets
import time

from bench.rig import Rig

from coil.lab.clos.lab import Lab
from coil.lab.clos.plan import Shape
from coil.lab.clos.traffic import ping

SHAPE = Shape(spines=2, racks=10, nodes_per_rack=4, etcd=3, families=(4, 6))


def forty_nodes(rig: Rig, _rounds: int) -> None:
    """Up to pods of the first and the last rack that reach each other at once; and down."""
    lab = Lab(f"bench-{secrets.token_hex(3)}")
    try:
        began = time.monotonic()
        lab.up(SHAPE)
        one, other = lab.add_pod("one", "r1n1"), lab.add_pod("other", "r10n4")
        answered = all(ping(one, address).received for address in other.addresses)
        note = "2 spines, 10 racks, 40 nodes, etcd of 3, dual stack"
        rig.add("lab of 40 nodes up", time.monotonic() - began, "s", 90, note=note)
        rig.add("its pods reach each other", int(answered), "", 1, at_least=True)
    finally:
        began = time.monotonic()
        lab.down()
        rig.add("lab of 40 nodes down", time.monotonic() - began, "s")
