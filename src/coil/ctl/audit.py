"""coilctl audit: what is wrong between the store and the nodes, as of now."""

from __future__ import annotations

import sys

import click

from coil.ctl.common import EXIT_FAILED, Context, verb, with_store
from coil.ctl.output import ago, show_rows
from coil.domain.audit import Finding, find_all
from coil.store.contract import CONTROLLER, Store


def add_to(group: click.Group) -> None:
    """Make it a command of ``group``."""
    also_reports = click.option(
        "--reports", is_flag=True, help="Also what contradicts the last reports of nodes."
    )
    verb(group, "audit")(also_reports(audit))


def audit(context: Context, *, reports: bool) -> None:
    """Compare what the store says with itself; change nothing.

    With --reports also with what nodes say. That is up to five minutes old, so a block claimed or
    released since is in it; coil-controller tells what lasts. Exit status 1 when something is wrong
    for sure.
    """

    async def read(store: Store) -> tuple[list[Finding], str | None]:
        found = [each for each in find_all(await store.survey()) if reports or not each.report]
        return found, await store.find_leader(CONTROLLER)

    findings, leader = with_store(context, read)
    columns = {"kind": "KIND", "subject": "WHAT", "as_of": "AS OF", "problem": "PROBLEM"}
    rows = [
        {
            "kind": finding.kind.value,
            "subject": finding.subject,
            "as_of": ago(finding.report.seen) if finding.report else "now",
            "problem": finding.message,
        }
        for finding in findings
    ]
    show_rows(rows, context.output, columns, "nothing is wrong")
    if context.output == "table":
        click.echo(f"controller: {leader} leads" if leader else "controller: none leads")
    if any(finding.report is None for finding in findings):
        sys.exit(EXIT_FAILED)
