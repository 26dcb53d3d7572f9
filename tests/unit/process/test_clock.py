"""The clock of cool-downs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

from coil.process import clock


def test_the_clock_counts_seconds_since_the_boot():
    before = clock.boottime()
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    after = clock.boottime()
    assert before - 0.02 <= uptime <= after + 0.02  # /proc/uptime has two decimals


def test_a_boot_has_one_name():
    assert UUID(clock.boot_id()).version == 4
    assert clock.boot_id() == clock.boot_id()


def test_a_stamp_is_utc_and_fits_into_a_file_name():
    stamp = clock.utc_stamp()
    assert stamp.isprintable()
    assert not set(stamp) & set("/: ")
    told = datetime.strptime(stamp, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    assert abs(datetime.now(UTC) - told) < timedelta(seconds=10)
