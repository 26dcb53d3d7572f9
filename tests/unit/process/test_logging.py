"""Lines on standard error."""

from __future__ import annotations

import io
import json
import logging as standard
import os
import pty
import subprocess
import sys
from datetime import datetime, timedelta

import pytest
import structlog

from coil.process import logging


@pytest.fixture(autouse=True)
def configuration_ends_with_the_test():
    before = list(standard.getLogger().handlers)
    yield
    standard.getLogger().handlers[:] = before
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def configured(**options):
    out = io.StringIO()
    logging.configure(stream=out, **options)
    return out


def test_json_has_time_level_event_and_fields():
    out = configured(fmt="json")
    structlog.get_logger().info("address allocated", address="10.0.0.1", pod="a b")
    found = json.loads(out.getvalue())
    stamp = datetime.fromisoformat(found.pop("timestamp"))
    assert stamp.utcoffset() == timedelta(0)
    assert found == {
        "level": "info",
        "event": "address allocated",
        "address": "10.0.0.1",
        "pod": "a b",
    }


def test_logfmt_is_one_line_whatever_the_values():
    out = configured(fmt="logfmt")
    structlog.get_logger().warning("odd", reason='a\n"b"=c', path="", code=None, index=0)
    line = out.getvalue()
    assert line.count("\n") == 1
    assert line.rstrip().split(" ", 1)[1] == r'level=warning event=odd reason="a\n\"b\"=c" index=0'


@pytest.mark.parametrize("level", logging.LEVELS)
def test_only_what_is_as_grave_as_the_level_is_written(level):
    out = configured(fmt="json", level=level)
    for method in logging.LEVELS:
        getattr(structlog.get_logger(), method)("something")
    written = [json.loads(line)["level"] for line in out.getvalue().splitlines()]
    assert written == list(logging.LEVELS[logging.LEVELS.index(level) :])


def test_what_a_request_binds_is_in_its_lines_and_gone_afterwards():
    out = configured(fmt="json")
    log = structlog.get_logger()
    with structlog.contextvars.bound_contextvars(request_id="r1"):
        log.info("inside")
    log.info("outside")
    inside, outside = map(json.loads, out.getvalue().splitlines())
    assert inside["request_id"] == "r1"
    assert "request_id" not in outside


def test_an_exception_is_told_in_the_same_line():
    out = configured(fmt="logfmt")
    try:
        raise ZeroDivisionError("for the log")
    except ZeroDivisionError:
        structlog.get_logger().exception("bug")
    assert out.getvalue().count("\n") == 1
    assert "ZeroDivisionError: for the log" in out.getvalue()


def test_libraries_speak_in_the_same_form_however_often_it_is_configured():
    configured(fmt="json")
    out = configured(fmt="json")
    standard.getLogger("asyncio").error("task %s failed", "x")
    standard.getLogger("asyncio").info("not grave enough")
    found = json.loads(out.getvalue())
    assert found["source"] == "asyncio"
    assert found["message"] == "task x failed"
    assert found["level"] == "error"


def test_a_terminal_gets_logfmt_and_a_file_json(tmp_path):
    ours, theirs = pty.openpty()
    with open(theirs, "w") as terminal, open(ours, "rb", buffering=0) as seen:
        logging.configure(stream=terminal)
        structlog.get_logger().info("hello")
        assert b"event=hello" in seen.read(1000)
    with (tmp_path / "log").open("w+") as file:
        logging.configure(stream=file)
        structlog.get_logger().info("hello")
        file.seek(0)
        assert json.loads(file.read())["event"] == "hello"


def test_a_stream_that_was_closed_or_is_full_ends_nothing():
    out = configured(fmt="json")
    out.close()
    structlog.get_logger().error("nobody hears")
    logging.configure(stream=out)
    structlog.get_logger().error("nobody hears")
    with open("/dev/full", "w") as full:
        logging.configure(fmt="json", stream=full)
        structlog.get_logger().error("nobody hears")
        os.dup2(os.open("/dev/null", os.O_WRONLY), full.fileno())  # lets it close in peace


def test_a_program_started_without_standard_error_runs():
    code = (
        "from coil.process import logging; logging.configure(); "
        "import structlog; structlog.get_logger().error('nobody hears'); print('still here')"
    )
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, code],
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
    )
    assert (done.returncode, done.stdout) == (0, "still here\n")


@pytest.mark.parametrize("program", ["coil.daemon.main", "coil.ctl.main", "coil.controller.main"])
def test_no_program_loads_what_only_tables_need(program):
    """A third of the time it takes to start."""
    look = f"import sys, {program}; print('rich' in sys.modules); import rich.table"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_who_has_loaded_rich_keeps_it():
    look = "import sys, rich.table; import coil; print(sys.modules['rich'] is rich)"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"
