"""make demo: what it shows holds, and nothing of it stays, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager

from coil.lab.clos.files import ROOT
from coil.lab.host import NAMED
from coil.lab.wait import until

DEMO = [sys.executable, "-m", "coil.lab.clos.demo"]


def demos():
    """The labs of all demos that run on this machine."""
    return {path.name for path in ROOT.glob("demo-*")}


def traces(name):
    """What a lab has on the machine while it runs."""
    return [*NAMED.glob(f"coil.{name}.*"), *ROOT.glob(name)]


@contextmanager
def demo():
    """One that has just begun, and the name of its lab."""
    others = demos()
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        (name,) = until(lambda: demos() - others, "it has begun")
        assert traces(name)
        yield process, name


def test_the_demo_keeps_its_promises_and_cleans_up():
    with demo() as (process, name):
        out, _ = process.communicate(timeout=110)
    assert process.returncode == 0, out
    for words in ("r1n1 > tor1 > spine", "only BFD can notice", "leads after", "fay was up after"):
        assert words in out
    assert out.count("packets lost") == 2 * 4
    assert not traces(name)


def test_an_interrupted_demo_cleans_up():
    with demo() as (process, name):
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in out
    assert not traces(name)
