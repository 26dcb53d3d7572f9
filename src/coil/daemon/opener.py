"""Opens the network namespaces of pods without letting one that does not answer hold anybody up.

A runtime may name any path, also one on a file system whose server is dead or frozen. To open it
then waits for ever, and nothing ends the thread that does. So such a path is opened in a thread of
its own, which is left behind when it takes too long; all that follows waits for the kernel alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter

from coil.domain.attachment import Netns
from coil.nodenet.errors import NetnsGone, NetnsInvalid, NetnsSilent
from coil.nodenet.netns import NetnsHandle, is_local

_PATIENCE = 3.0
"""Seconds. Any file system that lives opens a file sooner."""
_MOST_LEFT_BEHIND = 64
"""Threads; each waits for a path of its own."""


class NetnsOpener:
    """The only place where a namespace's path is followed. The loop thread only."""

    def __init__(self) -> None:
        self._left_behind: Counter[str] = Counter()
        """Threads by the path they still wait for."""

    async def open(self, netns: Netns) -> NetnsHandle:
        """Open; whoever asks closes. At once where the kernel keeps namespaces.

        Raises NetnsGone, NetnsInvalid, NetnsSilent; the last at once for a path that somebody waits
        for in vain already.
        """
        path = netns.path
        if is_local(path):
            return NetnsHandle(netns)
        if path in self._left_behind:
            raise NetnsSilent(_silence(path))
        if self._left_behind.total() >= _MOST_LEFT_BEHIND:
            raise NetnsSilent(f"too many network namespaces do not answer; {_silence(path)}")
        opened: asyncio.Future[NetnsHandle] = asyncio.get_running_loop().create_future()
        _start(netns, opened)
        try:
            async with asyncio.timeout(_PATIENCE):
                return await asyncio.shield(opened)
        except TimeoutError as exc:
            self._leave(path, opened)
            raise NetnsSilent(_silence(path)) from exc
        except asyncio.CancelledError:
            self._leave(path, opened)
            raise

    async def is_gone(self, netns: Netns) -> bool:
        """Whether the very namespace that ``netns`` names is certainly not there any more."""
        try:
            (await self.open(netns)).close()
        except NetnsGone:
            return True
        except (NetnsInvalid, NetnsSilent):
            return False  # something is in the way of looking; that is no evidence
        return False

    def _leave(self, path: str, opened: asyncio.Future[NetnsHandle]) -> None:
        self._left_behind[path] += 1

        def forget(late: asyncio.Future[NetnsHandle]) -> None:
            self._left_behind -= Counter([path])
            if late.exception() is None:
                late.result().close()

        opened.add_done_callback(forget)


def _start(netns: Netns, opened: asyncio.Future[NetnsHandle]) -> None:
    loop = opened.get_loop()

    def work() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            try:
                handle = NetnsHandle(netns)
            except BaseException as exc:  # noqa: BLE001 - handed to whoever waits
                loop.call_soon_threadsafe(opened.set_exception, exc)
            else:
                loop.call_soon_threadsafe(opened.set_result, handle)

    threading.Thread(target=work, name="netns-opener", daemon=True).start()


def _silence(path: str) -> str:
    return f"network namespace {path!r} does not answer; look at the file system it is on"
