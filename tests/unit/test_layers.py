"""The house rules that a tool can see: who imports whom, and how long things are."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from coil.process.logging import FIELDS, LEVELS

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
def test_events_are_constant_phrases_and_their_fields_have_known_names(path):
    """A name that is missing belongs into FIELDS, unless one there says the same."""
    for call in log_calls(ast.parse(path.read_text())):
        where = f"line {call.lineno}"
        assert isinstance(call.args[0], ast.Constant), where
        assert {k.arg for k in call.keywords} - {None, "exc_info"} <= FIELDS, where


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_event_is_documented(path):
    """Operators search for events and alert on them: docs/logging.md says what each means."""
    documented = (ROOT / "docs" / "logging.md").read_text()
    for call in log_calls(ast.parse(path.read_text())):
        assert f"`{call.args[0].value}`" in documented, f"line {call.lineno}"


def log_calls(tree):
    """Calls of a logger's methods; loggers are called log or _log everywhere."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Attribute(value=ast.Name(id="log" | "_log"), attr=attr)) if (
                attr in {*LEVELS, "exception", "critical"}
            ):
                yield node


def test_every_logger_is_called_by_the_name_these_rules_look_for():
    made = re.compile(r"^\s*(\S+) = structlog\.get_logger\(", re.MULTILINE)
    names = {name for path in SOURCES for name in made.findall(path.read_text())}
    assert names == {"_log"}


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
