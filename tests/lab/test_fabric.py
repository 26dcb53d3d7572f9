"""Namespaces and links of a lab, without its programs."""

from __future__ import annotations

import subprocess
import sys

from coil.lab.clos import fabric
from coil.lab.clos.files import Files
from coil.lab.clos.plan import Plan, Shape
from coil.lab.wait import until

SHAPE = Shape(spines=1, racks=1, nodes_per_rack=100, etcd=1)
"""So many that a kill comes before all are made."""
BUILD = """import sys
from coil.lab.clos import fabric
from coil.lab.clos.files import Files
from coil.lab.clos.plan import Plan, Shape
plan = Plan(Shape(spines=1, racks=1, nodes_per_rack=100, etcd=1))
fabric.build(Files(sys.argv[1]), plan, list(plan.machines.values()))
"""


def test_what_a_killed_build_had_begun_is_not_in_the_way_of_the_next(name):
    files, plan = Files(name), Plan(SHAPE)
    with subprocess.Popen([sys.executable, "-c", BUILD, name]) as process:
        until(files.hosts, "it has begun", pause=0)
        process.kill()
    fabric.build(files, plan, list(plan.machines.values()))
    assert set(fabric.link_states(files, plan).values()) == {"up"}
