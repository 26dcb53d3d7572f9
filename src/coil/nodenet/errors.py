"""What the kernel's side can fail with.

NodeNetError
 +- NetnsGone         the namespace is not there (any more)
 +- NetnsInvalid      the path is not a network namespace a pod can have
 +- NetnsSilent       (transient) the path's file system does not answer
 +- LinkExists        the pod has an interface of that name, which is not ours
 +- DumpInterrupted   (transient) the kernel's tables changed during each of several dumps
 +- KernelRefused     an operation failed; ``errno`` tells
"""

from __future__ import annotations

import os

from coil.domain.errors import CoilError, RequestError


class NodeNetError(CoilError):
    """Root of the kernel side's failures."""


class NetnsGone(NodeNetError):
    """There is no namespace behind the path: the container is gone."""


class NetnsInvalid(NodeNetError, RequestError):
    """The path leads to something that is not a pod's network namespace."""


class NetnsSilent(NodeNetError):
    """The path could not be opened in time: whoever serves its file system is dead or frozen."""

    transient = True


class LinkExists(NodeNetError, RequestError):
    """An interface of that name is in the pod's namespace and belongs to somebody else."""


class DumpInterrupted(NodeNetError):
    """Tables changed under every attempt to read them (NLM_F_DUMP_INTR)."""

    transient = True


class KernelRefused(NodeNetError):
    """The kernel refused an operation."""

    def __init__(self, operation: str, errno: int, reason: str = "") -> None:
        detail = f" ({reason})" if reason else ""
        super().__init__(f"kernel refused to {operation}: {os.strerror(errno)}{detail}")
        self.errno = errno
