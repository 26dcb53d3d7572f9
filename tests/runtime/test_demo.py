"""make demo-node leaves nothing, however it ends."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from coil.lab.host import NAMED


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_demo_cleans_up(tmp_path, number):
    with subprocess.Popen(
        [sys.executable, "-m", "coil.lab.demo"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    ) as process:  # fmt: skip
        shown = ""
        while "containerd is set up" not in shown:
            line = process.stdout.readline()
            assert line, shown
            shown += line
        name = re.search(r"network namespace (\S+);", shown)[1]
        assert Path(NAMED, name).exists()
        process.send_signal(number)
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 1, rest
    assert "interrupted" in rest
    assert not Path(NAMED, name).exists()
    assert list(tmp_path.iterdir()) == []
