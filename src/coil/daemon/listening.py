"""Keeps coild where the plugin looks for it: the file of a socket can be deleted by anybody."""

from __future__ import annotations

from pathlib import Path

import structlog

from coil.process.beat import Beat
from coil.process.http import ListenError, Server
from coil.process.problems import Problems

_log = structlog.get_logger()


async def keep_listening(server: Server, path: Path, beat: Beat, problems: Problems) -> None:
    """Have the socket made anew, for ever, when it is not there; never where another serves."""
    while True:
        await beat.wait()
        try:
            if server.listen_again(path):
                _log.warning("socket was gone; it is made anew", socket=str(path))
        except ListenError as exc:
            problems.put("socket", str(exc))
        else:
            problems.clear("socket")
