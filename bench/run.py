"""make bench: coil beside its peers in the same run. ``python -m bench.run [--only NAME]``.

Absolute times drift with the machine; ratios are what counts. The report goes to bench/results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from bench import cluster, daemon, execs, lab, runtime, traffic
from bench.rig import ROOT, Rig, rig
from rich.console import Console
from rich.table import Table

FIGURES = {
    "start": execs.start,
    "sequential": execs.sequential,
    "removal": execs.removal,
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
ONE_MACHINE = (
    "sequential", "removal", "together", "at-rest", "restart", "endurance", "sandboxes",
)  # fmt: skip
"""The parts in which coild's store may matter."""


def main() -> int:
    """Measure; exit status 1 when a target was missed or a part could not be measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", choices=FIGURES, action="append")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--store", choices=("sqlite", "etcd"), default="sqlite", help="that coild "
                        "of the one machine uses; with etcd only that is measured")  # fmt: skip
    arguments = parser.parse_args()
    report = Report(arguments.store)
    with rig(arguments.store) as made:
        for name in arguments.only or (FIGURES if arguments.store == "sqlite" else ONE_MACHINE):
            print(f"measuring {name}", end=" ", flush=True)
            report.measure(name, made, arguments.rounds)
            print(f"({report.parts[-1].seconds:.0f} s)", flush=True)
            # At once: what comes later may fail.
            report.write(made.figures)
    _show(made.figures)
    for part in report.parts:
        if part.failure:
            print(f"{part.name} could not be measured: {part.failure}")
    print(f"{sum(part.seconds for part in report.parts):.0f} s, written to {report.path}")
    missed = any(figure.met is False for figure in made.figures)
    return 1 if missed or any(part.failure for part in report.parts) else 0


@dataclass
class Part:
    """How a part went."""

    name: str
    seconds: float
    failure: str = ""
    """Why it has no figures, or not all of them."""
    loop: float = 0.0
    """Milliseconds a million turns of a loop took just before: what the machine was worth then."""


class Report:
    """One file for all parts of a run, which names the machine."""

    def __init__(self, store: str) -> None:
        self.store = store
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H%MZ")
        self.path = ROOT / "bench" / "results" / f"{stamp}.json"
        self.parts: list[Part] = []

    def measure(self, name: str, made: Rig, rounds: int) -> None:
        """Have one part add its figures. One that fails keeps no other from being measured."""
        loop = _loop()
        began, failure = time.monotonic(), ""
        try:
            FIGURES[name](made, rounds)
        except (Exception, SystemExit) as exc:  # noqa: BLE001 - the other parts are measured
            failure = f"{type(exc).__name__}: {exc}"
            traceback.print_exc()
        self.parts.append(Part(name, round(time.monotonic() - began, 1), failure, loop))

    def write(self, figures) -> None:
        rows = [
            {"name": f.name, "value": round(f.value, 4), "unit": f.unit, "target": f.target,
             "met": f.met, "note": f.note}
            for f in figures
        ]  # fmt: skip
        parts = [asdict(part) for part in self.parts]
        content = {
            "machine": _machine(), "store": self.store, "parts": parts, "figures": rows
        }  # fmt: skip
        self.path.parent.mkdir(exist_ok=True)
        self.path.write_text(json.dumps(content, indent=2) + "\n")


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


def _loop() -> float:
    """Processor time, in ms, of a million turns of an empty loop: the least of three."""
    taken = []
    for _ in range(3):
        began = time.process_time()
        for _ in range(1_000_000):
            pass
        taken.append(time.process_time() - began)
    return round(1000 * min(taken), 1)


def _machine() -> dict[str, object]:
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")),
        platform.machine(),
    )  # fmt: skip
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
            "python": platform.python_version()}  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
