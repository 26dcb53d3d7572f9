"""The clock cool-downs are measured by, and which boot it belongs to."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path


def boottime() -> float:
    """Seconds since the machine booted, suspends included (CLOCK_BOOTTIME, clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot_id() -> str:
    """A name of this boot of the machine (random(4), /proc/sys/kernel/random/boot_id)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def utc_stamp() -> str:
    """Now, as part of a file's name: for people, never to compute with."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")  # noqa: TID251 - the one place
