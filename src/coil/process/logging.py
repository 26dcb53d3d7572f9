"""Structured logs on standard error: an event (a constant phrase) and its fields.

What a request causes says so: ``request_id`` is bound by the HTTP server (structlog.contextvars).
"""

from __future__ import annotations

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import EventDict

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "logfmt")
_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40}

FIELDS = frozenset({
    # what the glossary names: an operator searches logs of all programs by these
    "address", "block", "container_id", "ifname", "link", "namespace", "node", "pod", "pool",
    # of a request, a file, a process
    "code", "command", "kept_aside", "path", "request_id", "socket", "store", "version", "worker",
    # what happened and why
    "added", "faults", "kind", "known", "message", "mode", "outcome", "reason", "removed",
    "source", "subject", "why",
    # several, or how many
    "blocks", "ended_attachments", "live_addresses", "networks", "pools",
})  # fmt: skip
"""Every name a field may have, so that one thing has one name; a test holds all calls to it."""


def configure(*, level: str = "info", fmt: str = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for this process; what libraries say by ``logging`` comes along.

    ``fmt``: ``json``, ``logfmt`` (key=value), or ``auto``: logfmt on a terminal, JSON elsewhere.
    Logging never raises, whatever becomes of the stream.
    """
    # Python has no stderr when a program is started with descriptor 2 closed.
    out = _Stream(stream if stream is not None else sys.stderr)
    as_json = fmt == "json" or (fmt == "auto" and not out.is_terminal())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _leave_out_empty,
            structlog.processors.JSONRenderer()
            if as_json
            else structlog.processors.LogfmtRenderer(
                key_order=("timestamp", "level", "event"), bool_as_flag=False
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_NUMBERS[level]),
        logger_factory=lambda *_args: out,
        cache_logger_on_first_use=True,
    )
    _take_in_libraries()


def _leave_out_empty(_logger: object, _method: str, event: EventDict) -> EventDict:
    """An unknown pod name says nothing."""
    return {key: value for key, value in event.items() if value not in ("", None)}


def _take_in_libraries() -> None:
    root = logging.getLogger()
    for handler in [known for known in root.handlers if isinstance(known, _Libraries)]:
        root.removeHandler(handler)
    root.addHandler(_Libraries(logging.WARNING))


class _Libraries(logging.Handler):
    """Hands on what asyncio and others say: else their lines would stand bare between ours."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            structlog.get_logger().log(
                record.levelno,
                "a library says",
                source=record.name,
                message=record.getMessage(),
                exc_info=record.exc_info,
            )
        except Exception:  # noqa: BLE001 - a record whose arguments don't fit its text
            self.handleError(record)


class _Stream:
    """Writes lines; a stream that is closed or full loses them rather than ending the program."""

    def __init__(self, out: TextIO | None) -> None:
        self._out = out

    def is_terminal(self) -> bool:
        try:
            return self._out is not None and self._out.isatty()
        except ValueError:  # closed
            return False

    def msg(self, line: str) -> None:
        if self._out is None:
            return
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = exception = log = msg
