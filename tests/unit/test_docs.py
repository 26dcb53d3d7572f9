"""What the documentation names exists: files, headings, options; and no option is left out."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import click
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugin/*.md")])
PROGRAMS = {
    "coild": "daemon",
    "coil-controller": "controller",
    "coil-router": "router",
    "coil-aggregates": "aggregates",
    "coil-gobgp": "gobgp",
    "coilctl": "ctl",
    "coil-lab": "lab.clos",
}
FOR_USERS = [page for page in PAGES if page.stem not in {"testing", "bench"}]
OF_OTHERS = {"--unix-socket", "--now", "--prefix", "--api-hosts"} | {
    "--network", "--ip", "--mac-address",
}  # fmt: skip
"""curl's, systemctl's, etcdctl's, gobgpd's; podman's."""


def anchors(page):
    """As GitHub makes them of headings."""
    for heading in re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def options(command):
    for parameter in command.params:
        yield from (name for name in parameter.opts + parameter.secondary_opts if "--" in name)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            yield from options(inner)


def options_of(program):
    main = import_module(f"coil.{PROGRAMS[program]}.main").main
    return set(options(main)) - {"--help", "--version"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), target
        assert not anchor or anchor in set(anchors(there)), target


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_of_a_program_is_in_its_page(program):
    named = set(re.findall(r"--[a-z][a-z0-9-]+", (ROOT / f"docs/cmd-{program}.md").read_text()))
    assert not options_of(program) - named


@pytest.mark.parametrize("page", FOR_USERS, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_page_names_an_option_that_is_not_there(page):
    everything = set().union(*map(options_of, PROGRAMS)) | OF_OTHERS
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+\b(?!--)", page.read_text()))
    assert not named - everything - {"--help", "--version"}
