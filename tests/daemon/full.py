"""A disk of a daemon's own that can be full."""

from __future__ import annotations

import contextlib
import subprocess


@contextlib.contextmanager
def tiny_state(machine):
    """The machine's state directory is a file system of 512 KiB, until coild is stopped."""
    state = machine.directory / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", state], check=True)
    try:
        yield
    finally:
        machine.stop()
        subprocess.run(["umount", "-l", state], check=True)


def fill(machine):
    """Use up all space; returns how to give it back."""
    filler = machine.directory / "state" / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return filler.unlink
