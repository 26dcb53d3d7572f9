"""What all tests share: workers run them side by side, and each has a folder of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadFileScheduling

# Property tests judge results, not the speed of a shared machine.
settings.register_profile(
    "coil", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("coil")

SHARING = "tests/lab/"
"""Its files share a data centre, so they are one worker's; the first, as they take longest."""


class FileByFile(LoadFileScheduling):
    """A file is one worker's: what is dear to make is made once."""

    def _split_scope(self, nodeid):
        return SHARING if nodeid.startswith(SHARING) else super()._split_scope(nodeid)


def pytest_xdist_make_scheduler(config, log):
    return FileByFile(config, log)


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: not item.nodeid.startswith(SHARING))


@pytest.fixture
def tmp_path():
    """A folder with a short name: the path of a Unix socket has 107 bytes at most (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="coil-t-") as made:
        yield Path(made)
