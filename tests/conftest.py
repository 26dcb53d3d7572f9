"""What all tests share: workers run them side by side, and each has a folder of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
LONGEST = "lab"
"""Its files share a data centre, so they are one worker's; the first, so that none waits for it."""


@pytest.hookimpl(tryfirst=True)  # xdist looks at the groups when it is called
def pytest_collection_modifyitems(items):
    """A file is one worker's (--dist loadgroup): its fixtures are made once."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(group(item)))
    items.sort(key=lambda item: group(item) != LONGEST)


def group(item):
    path = item.path.relative_to(TESTS)
    return LONGEST if path.parts[0] == LONGEST else str(path)


@pytest.fixture
def tmp_path():
    """A folder with a short name: the path of a Unix socket has 107 bytes at most (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="coil-t-") as made:
        yield Path(made)
