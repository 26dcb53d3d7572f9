"""docs/tutorial.md: every command of it works, and shows what the document shows.

They are run by a bash on a terminal, on a machine with no network and no lab: namespaces of their
own for links, processes and /run, which are gone with the shell whatever happened. A command that
does not show it yet is repeated, as a reader would who was told to wait.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from pathlib import Path

import pytest

from lab.tutorial import FENCE, Reader, steps

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = (ROOT / "docs/tutorial.md").read_text()
NAMESPACES = (
    "unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"
)  # fmt: skip
MACHINE = "mount -t tmpfs run /run && ip link set lo up && exec bash --norc --noprofile"
COLUMNS = 100
PATIENCE = 20
MARK = "exit-status"


class Shell:
    """A bash that is fed line by line, and its terminal."""

    def __init__(self):
        self._terminal, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, COLUMNS, 0, 0))
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("COIL_", "MAKE", "MFLAGS"))
        }
        self._process = subprocess.Popen(
            [*NAMESPACES, "sh", "-c", MACHINE],
            stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, text=True, cwd=ROOT,
            env={**kept, "TERM": "xterm", "LANG": "C.UTF-8"},
        )  # fmt: skip
        os.close(theirs)

    def run(self, command, seconds=60):
        """What a command prints until it ends, and how it ends."""
        self._process.stdin.write(f"{command}\nprintf '\\n{MARK} %d\\n' $?\n")
        self._process.stdin.flush()
        text, deadline = "", time.monotonic() + seconds
        while not (found := re.search(rf"\r\n{MARK} (\d+)\r\n", text)):
            assert time.monotonic() < deadline, f"{command}: still running; {text}"
            text += self.read(deadline - time.monotonic())
        return text[: found.start()], int(found[1])

    def read(self, seconds):
        """What is printed next, within so many seconds."""
        ready, _, _ = select.select([self._terminal], [], [], max(0, seconds))
        return os.read(self._terminal, 65536).decode(errors="replace") if ready else ""

    def end(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        os.close(self._terminal)


@pytest.fixture
def shell():
    made = Shell()
    yield made
    made.end()


def follow(reader, shell, step):
    """Do one step, until it shows what it should; None, or what is wrong."""
    command = reader.command(step)
    text, status = shell.run(command)
    deadline = time.monotonic() + PATIENCE
    while True:
        missing = reader.find_difference(step.shown, text)
        if not status and not missing:
            return None
        if time.monotonic() > deadline:
            return f"line {step.line}: {command}\nexit status {status}\n{text}\nshown: {missing}"
        if command.endswith("&"):
            text += shell.read(1)
        else:
            text, status = shell.run(command)


@pytest.mark.timeout(400)
def test_all_that_the_tutorial_shows_is_so(shell):
    reader = Reader()
    for step in steps(TUTORIAL):
        assert (problem := follow(reader, shell, step)) is None, problem


def test_nothing_in_the_tutorial_is_left_unrun():
    assert {fence[1] for fence in FENCE.finditer(TUTORIAL)} == {"console"}
    assert len(steps(TUTORIAL)) > 30


@pytest.mark.parametrize(
    ("shown", "output", "same"),
    [
        (["a on n: 10.64.1.2"], "a on n: 10.64.9.9\n", True),
        (["a on n: 10.64.1.2", "b on n: 10.64.1.2"], "a on n: 10.64.9.9\nb on n: 10.64.9.9", True),
        (["a on n: 10.64.1.2", "b on n: 10.64.1.2"], "a on n: 10.64.9.9\nb on n: 10.64.9.8", False),
        (["10.64.1.2 10.64.1.2"], "10.64.9.9 10.64.9.8", False),
        (["a on n: 10.64.1.2", "b on n: 10.64.1.3"], "a on n: 10.64.9.9\nb on n: 10.64.9.9", False),
        (["10.64.1.0/27"], "10.64.9.0/26", False),
        (["10.64.0.0/16 fd00:64::/112"], "10.64.0.0/16 fd00:64::/112", True),
        (["10.64.0.0/16"], "10.64.1.0/16", False),
        (["via 172.31.0.1"], "via 172.31.0.3", False),
        (["table 119"], "table 118", False),
        (["dev lo metric 1024", "default 1028"], "dev lo metric 1024\ndefault 1024", True),
        (["first", "...", "last"], "first\nmore\nlast", True),
        (["first", "...", "last"], "first\nmore", False),
        (["..."], "", True),
        ([], "a word", False),
        (["1 of 5 answered, 0.1 ms"], "1 of 5 answered, 12.345 ms", True),
        (["1 of 5 answered"], "2 of 5 answered", False),
        (["╭── a ──╮"], "\x1b[32m╭─ a ─╮\x1b[0m", True),
        (["block 1029 of default/1029"], "block 7 of default/7", True),
    ],
)  # fmt: skip
def test_what_is_shown_is_compared(shown, output, same):
    assert (Reader().find_difference(shown, output) is None) is same
