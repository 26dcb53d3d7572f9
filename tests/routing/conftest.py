from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from coil.routing.model import Timers
from routing.fabric import rack_and_spine


@pytest.fixture(scope="module")
def fabric():
    """A spine, two ToRs of one rack and two nodes, all running BIRD; shared by a module's tests."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="coil-fabric-"))
        made = rack_and_spine(stack, Path(folder))
        for name in made.members:
            made.bird(name, timers=Timers(hold=90, keepalive=30))
        yield made
        made.show()
