"""The house rules that a tool can see: who imports whom, and how long things are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "src" / "coil").rglob("*.py"))
MAX_FUNCTION, MAX_MODULE = 60, 500


def test_layers_hold():
    lint = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=110
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_functions_are_short(path):
    text = path.read_text()
    assert text.count("\n") <= MAX_MODULE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text())
    assert path.name == "py.typed" or ast.get_docstring(tree), "module without a docstring"


def test_functions_of_the_plugin_are_short():
    source = (ROOT / "plugin" / "coil.c").read_text()
    bodies = re.findall(r"^[a-z][^\n]*\)\n\{\n(.*?)^\}", source, re.MULTILINE | re.DOTALL)
    assert len(bodies) > 20
    assert max(body.count("\n") for body in bodies) <= MAX_FUNCTION


def test_netlink_and_namespaces_stay_in_nodenet():
    """import-linter sees modules; these are calls."""
    for path in SOURCES:
        if "nodenet" in path.parts:
            continue
        text = path.read_text()
        assert "AF_NETLINK" not in text, path
        assert "setns(" not in text, path
