from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from routing.fabric import rack_and_spine


@pytest.fixture(scope="module")
def fabric():
    """A spine, two ToRs of one rack, two nodes; a module's tests share it and run its daemons."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="coil-fabric-")))
        folder.chmod(0o755)  # FRR's daemons run as a user of their own
        made = rack_and_spine(stack, folder)
        yield made
        made.show()
