"""Structured logs on standard error: an event (a constant phrase) and its fields."""

from __future__ import annotations

import sys
from collections.abc import MutableMapping
from typing import Any, TextIO

import structlog

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("auto", "json", "logfmt")
_NUMBERS = {"debug": 10, "info": 20, "warning": 30, "error": 40}


def configure(*, level: str = "info", fmt: str = "auto", stream: TextIO | None = None) -> None:
    """Set up logging for this process.

    ``fmt``: ``json``, ``logfmt`` (key=value), or ``auto``: logfmt on a terminal, JSON elsewhere.
    """
    out = stream or sys.stderr
    as_json = fmt == "json" or (fmt == "auto" and not out.isatty())
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.processors.LogfmtRenderer(
            key_order=("timestamp", "level", "event"), bool_as_flag=False
        )
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _flatten,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_NUMBERS[level]),
        logger_factory=lambda *_args: _Stream(out),
        cache_logger_on_first_use=True,
    )


def _flatten(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Leave empty fields out: an unknown pod name says nothing."""
    return {key: value for key, value in event.items() if value not in ("", None)}


class _Stream:
    """Writes lines; a stream that is closed or full loses them rather than ending the program."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def msg(self, line: str) -> None:
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except (OSError, ValueError):
            return

    debug = info = warning = error = critical = exception = msg
