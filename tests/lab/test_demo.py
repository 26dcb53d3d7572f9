"""make demo: what it shows holds, and nothing of it stays, however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from coil.lab.clos.files import ROOT
from coil.lab.host import NAMED
from coil.lab.wait import until

DEMO = [sys.executable, "-m", "coil.lab.clos.demo"]


def traces():
    """What a demo has on the machine while it runs."""
    return {*NAMED.glob("coil.demo-*"), *ROOT.glob("demo-*")}


@pytest.fixture
def before():
    """What demos of others have, to be told from ours."""
    return traces()


def test_the_demo_keeps_its_promises_and_cleans_up(before):
    done = subprocess.run(DEMO, capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
    for words in ("r1n1 > tor1 > spine", "only BFD can notice", "leads after", "fay was up after"):
        assert words in done.stdout
    assert done.stdout.count("packets lost") == 2 * 4
    assert not traces() - before


def test_an_interrupted_demo_cleans_up(before):
    with subprocess.Popen(DEMO, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        until(lambda: traces() - before, "it has begun", 30)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"interrupted" in out
    assert not traces() - before
