"""What runs in a namespace is found by asking the kernel, also while it is being launched."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager

import pytest

from coil.lab.clos.observe import observe
from coil.lab.clos.programs import LAUNCHER, find_program
from coil.lab.host import end, host


@contextmanager
def launching_in(made, tmp_path, program):
    """A launcher that becomes ``program`` when something is written to the file."""
    gate, launcher = tmp_path / "gate", tmp_path / LAUNCHER
    os.mkfifo(gate)
    launcher.write_text(f"#!/bin/sh\nread -r _ < {gate}\nexec {program} 1000\n")
    launcher.chmod(0o755)
    with (tmp_path / "log").open("wb") as log:
        process = made.start(launcher, log=log)
        try:
            with gate.open("w") as opened:  # when the launcher reads
                yield process, opened
        finally:
            process.kill()
            end(process)


@pytest.fixture
def launching(tmp_path):
    with host("coil-launch") as made, launching_in(made, tmp_path, "sleep") as (process, opened):
        yield made, process, opened


@pytest.mark.parametrize("name", ["sleep", "another"])
def test_what_is_being_launched_is_waited_for_and_taken_for_nothing_else(launching, name):
    """Else coil-controller is never started where coild has not been executed yet."""
    made, process, opened = launching
    with ThreadPoolExecutor(1) as threads:
        asked = threads.submit(find_program, made, name)
        assert wait([asked], 0.5).not_done
        print(file=opened, flush=True)
        found = asked.result()
    assert (found and found.pid) == (process.pid if name == "sleep" else None)


@pytest.mark.parametrize(
    ("look", "left"),
    [
        (observe, "running"),
        (lambda lab: lab.faults.fail_bird("tor1"), "stopped"),
    ],
)
def test_who_looks_and_who_stops_waits_for_what_is_launched(lab, tmp_path, look, left):
    """Else what was healed just now is shown as failed, and what is to fail runs afterwards."""
    bird = tmp_path / "bird"
    shutil.copy(shutil.which("sleep"), bird)
    lab.faults.fail_bird("tor1")
    with (
        launching_in(lab.files.host("tor1"), tmp_path, bird) as (_process, opened),
        ThreadPoolExecutor(1) as threads,
    ):
        asked = threads.submit(look, lab)
        assert wait([asked], 0.5).not_done
        print(file=opened, flush=True)
        seen = asked.result() or observe(lab)
        assert {row["name"]: row["bird"] for row in seen["routers"]}["tor1"] == left
