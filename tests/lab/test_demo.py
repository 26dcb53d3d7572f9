"""make demo: what it shows holds, and nothing of it stays, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from coil.lab.clos.files import ROOT
from coil.lab.host import NAMED
from coil.lab.wait import until
from lab.conftest import in_terminal

DEMO = [sys.executable, "-m", "coil.lab.clos.demo"]


def lab_of(process):
    """The lab of which the process holds the lock: others run demos on this machine, too."""
    for path in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            if path.readlink().parent == ROOT:
                return path.readlink().name
    return None


def traces(name):
    """What a lab has on the machine while it runs."""
    return [*NAMED.glob(f"coil.{name}.*"), *ROOT.glob(name)]


@contextmanager
def demo():
    """One that has just begun, and the name of its lab."""
    with subprocess.Popen(
        DEMO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        yield process, begun(process)


def begun(process):
    """The name of its lab, once it is there."""
    name = until(lambda: lab_of(process), "it has begun")
    assert traces(name)
    return name


def test_the_demo_keeps_its_promises_and_cleans_up():
    with demo() as (process, name):
        out, _ = process.communicate(timeout=110)
    assert process.returncode == 0, out
    for words in ("r1n1 > tor1 > spine", "only BFD can notice", "leads after", "fay was up after"):
        assert words in out
    assert out.count("packets lost") == 2 * 4
    assert not traces(name)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_cleans_up(number):
    with demo() as (process, name):
        process.send_signal(number)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "interrupted" in out
    assert not traces(name)


def test_a_demo_whose_terminal_is_closed_cleans_up():
    with in_terminal(*DEMO) as (process, close):
        name = begun(process)
        close()
        process.wait(60)
    assert not traces(name)
