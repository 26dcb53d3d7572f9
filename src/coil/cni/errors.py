"""CNI error codes: one table from what can fail to what the runtime is told.

Codes 1 to 99 are the specification's. Ours: 100 an attachment is not as it should be (CHECK),
101 the kernel refused, 102 the journal or store failed for good.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar

from coil.domain import errors as domain
from coil.domain.errors import CoilError, RequestError


class Code(IntEnum):
    """Error codes of results."""

    INCOMPATIBLE_VERSION = 1
    UNSUPPORTED_FIELD = 2
    UNKNOWN_CONTAINER = 3
    ENVIRONMENT = 4
    IO = 5
    DECODE = 6
    NETCONF = 7
    TRY_AGAIN = 11
    NOT_AVAILABLE = 50
    LIMITED = 51
    UNHEALTHY = 100
    KERNEL = 101
    STATE = 102
    BUG = 999


class CniError(RequestError):
    """What is wrong with a request, found at the edge."""

    code: ClassVar[Code]


class IncompatibleVersion(CniError):
    """The netconf asks for a version, or a verb of one, that is not spoken."""

    code = Code.INCOMPATIBLE_VERSION


class UnsupportedField(CniError):
    """The netconf asks for something that exists and that coil does not do."""

    code = Code.UNSUPPORTED_FIELD


class BadEnvironment(CniError):
    """A CNI_ variable is missing or malformed; the message names it."""

    code = Code.ENVIRONMENT


class Undecodable(CniError):
    """Standard input is not JSON."""

    code = Code.DECODE


class BadNetconf(CniError):
    """The network configuration has an impossible value; the message names the key."""

    code = Code.NETCONF


class Unhealthy(CoilError):
    """CHECK found an attachment that is not as it should be."""


class NotAvailable(CoilError):
    """STATUS: this node cannot take pods now."""

    transient = True


class Limited(CoilError):
    """STATUS: pods cannot be taken, and those that are here may be affected too."""


_CODES: dict[str, Code] = {
    "NetnsGone": Code.UNKNOWN_CONTAINER,
    "AttachmentNotFound": Code.UNKNOWN_CONTAINER,
    "AddressNotFound": Code.UNKNOWN_CONTAINER,
    "NetnsInvalid": Code.ENVIRONMENT,
    "LinkExists": Code.ENVIRONMENT,
    "InvalidName": Code.ENVIRONMENT,
    "InvalidPool": Code.NETCONF,
    "PoolNotFound": Code.NETCONF,
    "RequestError": Code.NETCONF,
    "Unhealthy": Code.UNHEALTHY,
    "NotAvailable": Code.NOT_AVAILABLE,
    "Limited": Code.LIMITED,
    "NodeNetError": Code.KERNEL,
    "PoolUnfit": Code.KERNEL,
    "JournalError": Code.IO,
    "StoreError": Code.STATE,
    "KubeError": Code.STATE,  # asked by stores only
    "PoolExists": Code.STATE,
    "PoolInUse": Code.STATE,
    "AddressInUse": Code.STATE,
    "NodeNameTaken": Code.STATE,
    "NodeNotFound": Code.STATE,
    "NodeAlive": Code.STATE,
    "ConfigError": Code.STATE,
}
"""By the name of the class or its nearest base: the adapters' errors live above this layer."""


def code_of(exc: BaseException, command: str) -> Code:
    """The code for a failure of ``command``; 999 for what nobody foresaw."""
    if isinstance(exc, CniError):
        return exc.code
    if _may_pass(exc):
        return Code.NOT_AVAILABLE if command == "STATUS" else Code.TRY_AGAIN
    if command == "STATUS" and isinstance(exc, domain.PoolNotFound | domain.PoolUnfit):
        return Code.NOT_AVAILABLE
    names = (kind.__name__ for kind in type(exc).__mro__)
    return next((_CODES[name] for name in names if name in _CODES), Code.BUG)


def _may_pass(exc: BaseException) -> bool:
    return isinstance(exc, TimeoutError) or (isinstance(exc, CoilError) and exc.transient)


def is_mapped(kind: type[CoilError]) -> bool:
    """Whether the table knows a class or a base of it (for the test that it does)."""
    if issubclass(kind, CniError) or kind.transient or kind is CoilError:
        return True
    return any(base.__name__ in _CODES for base in kind.__mro__)


def to_json(exc: BaseException, version: str, command: str) -> dict[str, object]:
    """The error object a runtime gets."""
    code = code_of(exc, command)
    message = exc.message if isinstance(exc, CoilError) else _foreign(exc, code)
    result: dict[str, object] = {"cniVersion": version, "code": int(code), "msg": message}
    if isinstance(exc, CoilError) and "details" in exc.fields:
        result["details"] = str(exc.fields["details"])
    return result


def _foreign(exc: BaseException, code: Code) -> str:
    if code is Code.TRY_AGAIN:
        return "coild did not finish in the time the netconf gives (timeout)"
    return f"internal error in coild ({type(exc).__name__}); see its log"
