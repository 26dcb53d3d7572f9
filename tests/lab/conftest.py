"""One small lab for the tests of this folder, and the program to drive it."""

from __future__ import annotations

import os
import secrets
import subprocess
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from coil.lab.clos.files import Files
from coil.lab.clos.lab import Lab
from coil.lab.clos.observe import observe
from coil.lab.clos.plan import Shape
from coil.lab.clos.programs import programs_of
from coil.lab.node import PROGRAMS
from coil.lab.wait import until

COIL_LAB = PROGRAMS / "coil-lab"
COOL_DOWN, GRACE = 2, 3
"""Seconds. A node without power loses its blocks while a test looks on; any other keeps them."""


def run_lab(*words, name, seconds=110, **options):
    """Run coil-lab to its end."""
    argv = [COIL_LAB, *map(str, words)]
    place = argv.index("--") if "--" in argv else len(argv)
    argv[place:place] = ["--name", name]
    return subprocess.run(argv, capture_output=True, text=True, timeout=seconds, **options)


@contextmanager
def in_terminal(*argv):
    """A program in a terminal of its own, and what closes that."""
    ours, its = os.openpty()
    with (
        subprocess.Popen(["setsid", "--ctty", *argv], stdin=its, stdout=its, stderr=its) as process,
        ExitStack() as stack,
    ):
        os.close(its)
        stack.callback(os.close, ours)
        yield process, stack.close


def nothing_is_left(name):
    files = Files(name)
    return not files.directory.exists() and not files.hosts()


@contextmanager
def lab_name():
    """A name that no other lab of this machine has; whatever is left of it goes at the end."""
    name = f"t-{secrets.token_hex(4)}"
    files = Files(name)
    try:
        yield name
    finally:
        hosts = files.hosts()
        Lab(name).down()
        assert not any(programs_of(hosts).values())
        assert nothing_is_left(name)


@pytest.fixture
def name():
    with lab_name() as made:
        yield made


@pytest.fixture(scope="package")
def shared():
    """A lab of 2 spines, 2 racks, 2 nodes each, dual stack; tests leave it whole."""
    with lab_name() as made:
        lab = Lab(made)
        lab.up(Shape(families=(4, 6), cool_down=COOL_DOWN, grace=GRACE))
        yield lab
        for log in Path(lab.files.directory).glob("*/coild.log"):
            print(f"--- {log}", log.read_text()[-1500:])


@pytest.fixture
def lab(shared):
    """The shared lab, whole and without pods before and after."""
    yield shared
    if observe(shared)["failed"]:
        shared.up(shared.plan.shape)
    for pod in shared.files.pods():
        shared.delete_pod(pod.name)
    shared.machines.wait_sessions()
    until(lambda: not ill(shared), lambda: f"{ill(shared)} are well and announce a block", 60)


def ill(lab):
    """The nodes that have problems, or no block that others could know of."""
    return [
        row["name"]
        for row in observe(lab)["nodes"]
        if row["problems"] or not any(block["exported"] for block in row["blocks"])
    ]


@pytest.fixture
def pair(lab):
    """A pod in either rack."""
    return lab.add_pod("a", "r1n1"), lab.add_pod("b", "r2n2")


@pytest.fixture
def command(lab):
    """Run coil-lab on the shared lab; it must succeed unless ``status`` says otherwise."""

    def run(*words, status=0):
        done = run_lab(*words, name=lab.name)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stderr.strip() if status else done.stdout

    return run
