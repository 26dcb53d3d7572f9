"""Versions: each stated so that two builds are the same build."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path

import pytest

from coil import __version__

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PIN = re.compile(r"([A-Za-z0-9._-]+)==([^\s#]+)")


def pins(lines):
    """Canonical names and versions; a line that pins nothing is an error."""
    found = {}
    for line in lines:
        if line.strip() and not line.startswith(("#", "-r ")):
            match = PIN.fullmatch(line.strip())
            assert match, line
            found[canonical(match[1])] = match[2]
    return found


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


RUNTIME = pins((ROOT / "requirements.txt").read_text().splitlines())
DEV = pins((ROOT / "requirements-dev.txt").read_text().splitlines())


@pytest.mark.parametrize(
    ("stated", "pinned"),
    [
        (PROJECT["project"]["dependencies"], RUNTIME),
        (PROJECT["build-system"]["requires"], DEV),
    ],
    ids=["runtime", "build"],
)
def test_what_the_project_says_it_needs_is_what_is_pinned(stated, pinned):
    assert pins(stated).items() <= pinned.items()


def test_everything_that_is_installed_is_pinned():
    installed = {canonical(found.name): found.version for found in distributions()}
    for not_ours in ("coil", "pip"):
        installed.pop(not_ours, None)
    assert installed == {**RUNTIME, **DEV}


def test_runtime_and_tools_are_apart():
    assert not RUNTIME.keys() & DEV.keys()


def test_the_version_is_the_same_everywhere():
    assert PROJECT["project"]["version"] == __version__
