"""What runs in a namespace is found by asking the kernel, also while it is being launched."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from coil.lab.clos.programs import LAUNCHER, find_program
from coil.lab.host import end, host


@pytest.fixture
def launching(tmp_path):
    """A launcher that becomes sleep(1) when something is written to the file; its host, too."""
    gate, launcher = tmp_path / "gate", tmp_path / LAUNCHER
    os.mkfifo(gate)
    launcher.write_text(f"#!/bin/sh\nread -r _ < {gate}\nexec sleep 1000\n")
    launcher.chmod(0o755)
    with host("coil-launch") as made, (tmp_path / "log").open("wb") as log:
        process = made.start(launcher, log=log)
        try:
            with gate.open("w") as opened:  # when the launcher reads
                yield made, process, opened
        finally:
            process.kill()
            end(process)


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
