"""The errors every layer of coil speaks.

CoilError
 +- ConfigError              flags, files, environment of our own programs
 +- RequestError             what a caller of the CNI edge or of the API sent
 |   +- InvalidName
 +- InvalidPool              a pool, subnet or block size that cannot be
 +- SubnetOverlap
 +- PoolExists
 +- PoolNotFound
 +- PoolInUse
 +- PoolCordoned             (transient)
 +- PoolUnfit                this host has not the address families of the pool
 +- OutOfBlocks              (transient: somebody may give a block back)
 +- OutOfAddresses           (transient: a block is being fetched, or addresses are cooling)
 +- AttachmentNotFound
 +- AddressInUse
 +- AddressNotFound
 +- NodeNameTaken
 +- NodeNotFound
 +- NodeAlive
 +- InDoubt                  (transient: the store has to be asked first)
     +- NodeNameInDoubt      (transient: soon it is known whether another has the name)

The adapters add StoreError, JournalError and NodeNetError in their own ``errors.py``.
"""

from __future__ import annotations

from typing import ClassVar


class CoilError(Exception):
    """Root of all expected failures. Anything else that is raised is a bug.

    The message is one sentence, lower case, without a full stop, that names the object and,
    where somebody can do something, says what. ``fields`` go to the log.
    """

    transient: ClassVar[bool] = False
    """Whether the same call may succeed later without anybody changing its input."""

    def __init__(self, message: str, **fields: object) -> None:
        super().__init__(message)
        self.message = message
        self.fields = fields


class ConfigError(CoilError):
    """A flag, variable or file of one of our programs is wrong."""


class RequestError(CoilError):
    """A caller sent something that cannot be served."""


class InvalidName(RequestError):
    """A name that is not what its kind allows."""


class InvalidPool(RequestError):
    """A subnet, block size or cool-down that cannot make a pool."""


class SubnetOverlap(InvalidPool):
    """A subnet shares addresses with one that a pool has already."""


class PoolExists(CoilError):
    """A pool of this name is there already."""


class PoolNotFound(CoilError):
    """No pool has this name."""


class PoolInUse(CoilError):
    """A pool cannot be deleted while nodes own blocks of it."""


class PoolCordoned(CoilError):
    """A pool gives no new addresses until it is uncordoned."""

    transient = True


class PoolUnfit(CoilError):
    """A pool has IPv6, which is switched off on this host."""


class OutOfBlocks(CoilError):
    """Every block of a pool is owned."""

    transient = True


class OutOfAddresses(CoilError):
    """No address is free on this node at this moment."""

    transient = True


class AttachmentNotFound(CoilError):
    """This node knows no such attachment."""


class AddressInUse(CoilError):
    """An address is held by a live attachment."""


class AddressNotFound(CoilError):
    """An address lies in no block of this node."""


class NodeNameTaken(CoilError):
    """Another machine, or another coild of this one, has this node's name."""


class NodeNotFound(CoilError):
    """The store knows no such node."""


class NodeAlive(CoilError):
    """A node that lives cannot be released."""


class InDoubt(CoilError):
    """What is asked for may or may not be: the store has to be asked first.

    A node that stood still for long may have lost its blocks; one that is new knows no pools.
    """

    transient = True


class NodeNameInDoubt(InDoubt):
    """Another boot had this node's name just now: this machine was rebooted, or has a double.

    If it is raised again after ``seconds``, the other one lives.
    """

    def __init__(self, message: str, *, seconds: float = 0.0, **fields: object) -> None:
        super().__init__(message, **fields)
        self.seconds = seconds
