"""The MTU pods get: set, or that of the uplink, looked at again every so often."""

from __future__ import annotations

import structlog

from coil.daemon.workers import Workers
from coil.domain.errors import CoilError
from coil.nodenet.observe import uplink_mtu
from coil.process.beat import Beat

_log = structlog.get_logger()


class UplinkMtu:
    """Pods that are there keep the MTU they were given; an ADD does not pay for a look at links."""

    def __init__(self, workers: Workers, fixed: int, beat: Beat) -> None:
        """``fixed``: bytes, or 0 to detect."""
        self._workers = workers
        self._beat = beat
        self._fixed = fixed
        self._detected = 1500

    def get(self) -> int:
        """Bytes."""
        return self._fixed or self._detected

    async def refresh(self) -> None:
        """Look now; what was seen last stays where the kernel cannot be read."""
        try:
            self._detected = await self._workers.run(uplink_mtu)
        except CoilError as exc:
            _log.warning("cannot look at the uplink", reason=exc.message)

    async def run(self) -> None:
        """Look every period, for ever."""
        while True:
            await self._beat.wait()
            await self.refresh()
