"""Network namespaces of pods: open, recognise, enter. See setns(2), namespaces(7), ioctl_ns(2).

Only a worker thread made for it enters a namespace, and only to make a socket there (or to write
a sysctl). A thread that cannot return raises NetnsStuck and must not be used again.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Self

from coil.domain.attachment import Netns
from coil.nodenet.errors import KernelRefused, NetnsGone, NetnsInvalid
from coil.nodenet.netlink import NetlinkSocket

_CLONE_NEWNET = 0x40000000
_NS_GET_NSTYPE = 0xB703
_OWN_NETNS = "/proc/thread-self/ns/net"
_KERNEL_PLACES = re.compile(r"(/var)?/run/netns/[^/]+|/proc/[^/]+(/task/[^/]+)?/ns/net")
# os.setns() exists from Python 3.12 only; Debian 12 has 3.11.
_libc = ctypes.CDLL(None, use_errno=True)


class NetnsStuck(BaseException):
    """A thread could not go back to the host's namespace. Not an Exception: nobody may go on."""


class NetnsHandle:
    """An open network namespace, checked to be one and not the host's. Close it after use."""

    def __init__(self, netns: Netns) -> None:
        """Raises NetnsGone when the path is not there or (if an inode is named) another's.

        Raises NetnsInvalid when it leads to something else or to the host's own namespace.
        """
        self.path = netns.path
        self._fd = _open(netns.path)
        try:
            _check_type(self._fd, netns.path)
            self.inode = os.fstat(self._fd).st_ino
            _check_identity(self.inode, netns)
        except BaseException:
            self.close()
            raise

    @property
    def fd(self) -> int:
        """The open file descriptor."""
        return self._fd

    def close(self) -> None:
        """Close; idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Let the calling thread be in this namespace. Worker threads only."""
        home, _inode = _home()
        _setns(self._fd, self.path)
        try:
            yield
        finally:
            try:
                _setns(home, "of the host")
            except KernelRefused as exc:
                raise NetnsStuck from exc

    def open_netlink(self) -> NetlinkSocket:
        """A netlink socket that works in this namespace from any thread."""
        with self.entered():
            return NetlinkSocket()


def is_local(path: str) -> bool:
    """Whether opening ``path`` cannot wait for anybody: it lies where the kernel keeps namespaces.

    A runtime may name any path, also one on a file system that some process serves, or nobody.
    """
    return _KERNEL_PLACES.fullmatch(path) is not None and (
        path.startswith("/proc/") or not Path(path).is_symlink()
    )


def _open(path: str) -> int:
    try:
        # O_NONBLOCK: a FIFO put under that path must not hold the thread.
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as exc:
        raise NetnsGone(f"network namespace {path!r} does not exist") from exc
    except OSError as exc:
        raise NetnsInvalid(f"CNI_NETNS {path!r} cannot be opened: {exc.strerror}") from exc


def _check_type(fd: int, path: str) -> None:
    try:
        kind = fcntl.ioctl(fd, _NS_GET_NSTYPE)
    except OSError as exc:
        if exc.errno not in (errno.ENOTTY, errno.EINVAL, errno.ENOTSUP):
            raise NetnsInvalid(f"CNI_NETNS {path!r} cannot be used: {exc.strerror}") from exc
        # The bind mount's target without its mount: the runtime has taken the namespace away, or
        # the mount does not reach this process.
        if os.fstat(fd).st_size == 0 and _is_plain_file(fd):
            raise NetnsGone(
                f"CNI_NETNS {path!r} is an empty file, not a namespace: the container is gone "
                "(or, in a container, /run/netns is mounted without HostToContainer propagation)"
            ) from exc
        kind = 0
    if kind != _CLONE_NEWNET:
        raise NetnsInvalid(f"CNI_NETNS {path!r} is not a network namespace")


def _check_identity(inode: int, netns: Netns) -> None:
    # First: a path under /proc is some other process's once the pod's has gone, maybe of the host.
    if netns.inode and netns.inode != inode:
        raise NetnsGone(f"network namespace {netns.path!r} is another one than it was")
    if inode == _home()[1]:
        raise NetnsInvalid(
            f"CNI_NETNS {netns.path!r} is the host's own network namespace; a pod needs its own "
            "(a hostNetwork pod needs no CNI plugin)"
        )


@cache
def _home() -> tuple[int, int]:
    """Descriptor and inode of the host's namespace: that of this process, for as long as it runs.

    First asked for by NetnsHandle, before any thread has entered another.
    """
    fd = os.open(_OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    return fd, os.fstat(fd).st_ino


def _is_plain_file(fd: int) -> bool:
    return (os.fstat(fd).st_mode & 0o170000) == 0o100000


def _setns(fd: int, what: str) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        raise KernelRefused(f"enter network namespace {what}", ctypes.get_errno())
