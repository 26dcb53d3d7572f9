"""make bench: coil beside its peers in the same run. ``python -m bench.run [--only NAME]``.

Absolute times drift with the machine; ratios are what counts. The report goes to bench/results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from bench import cluster, daemon, execs, lab, runtime, traffic
from bench.rig import ROOT, rig
from rich.console import Console
from rich.table import Table

FIGURES = {
    "start": execs.start,
    "sequential": execs.sequential,
    "together": execs.together,
    "at-rest": daemon.at_rest,
    "restart": daemon.restart,
    "endurance": daemon.endurance,
    "traffic": traffic.throughput,
    "sandboxes": runtime.sandboxes,
    "first-claims": cluster.first_claims,
    "many-nodes": cluster.many_nodes,
    "churn": cluster.churn,
    "independence": cluster.independence,
    "lab": lab.forty_nodes,
}


def main() -> int:
    """Measure; exit status 1 when a target was missed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=FIGURES, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with rig() as made:
        for name in arguments.only or FIGURES:
            print(f"measuring {name}", flush=True)
            FIGURES[name](made, arguments.rounds)
    _show(made.figures)
    if not arguments.only:
        _write(made.figures)
    return 1 if any(figure.met is False for figure in made.figures) else 0


def _show(figures) -> None:
    table = Table("figure", "value", "target", "", "note")
    for figure in figures:
        sign = ">=" if figure.at_least else "<="
        target = "" if figure.target is None else f"{sign} {figure.target:g} {figure.unit}"
        verdict = {True: "[green]met[/]", False: "[red]missed[/]", None: ""}[figure.met]
        table.add_row(
            figure.name, f"{figure.value:.3g} {figure.unit}", target, verdict, figure.note
        )
    Console(width=110).print(table)


def _machine() -> dict[str, object]:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
            "python": platform.python_version()}  # fmt: skip


def _write(figures) -> None:
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%MZ")
    path = ROOT / "bench" / "results" / f"{stamp}.json"
    path.parent.mkdir(exist_ok=True)
    rows = [
        {"name": f.name, "value": round(f.value, 4), "unit": f.unit, "target": f.target,
         "met": f.met, "note": f.note}
        for f in figures
    ]  # fmt: skip
    path.write_text(json.dumps({"machine": _machine(), "figures": rows}, indent=2) + "\n")
    print(f"written to {path.relative_to(ROOT)}")


if __name__ == "__main__":
    sys.exit(main())
