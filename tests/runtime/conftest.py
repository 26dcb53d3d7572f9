"""A host with coild on it, for the tests with real runtimes."""

from __future__ import annotations

import pytest

from coil.lab.host import host as new_host
from coil.lab.node import node as new_node


@pytest.fixture
def host():
    with new_host("coil-rt") as made:
        yield made


@pytest.fixture
def node(host, tmp_path):
    with new_node(host, tmp_path / "coil", "10.65.0.0/24,fd00:65::/120") as made:
        yield made


@pytest.fixture(autouse=True)
def _show_logs(request, tmp_path):
    """pytest shows what is printed only when a test fails."""
    yield
    for log in (tmp_path / "coil" / "coild.log", tmp_path / "containerd" / "containerd.log"):
        if log.exists():
            print(f"--- end of {log.name}", log.read_text()[-6000:], sep="\n")
