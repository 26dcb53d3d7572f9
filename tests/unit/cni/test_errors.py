"""Every error that can reach a runtime has a code."""

from __future__ import annotations

import importlib
import pkgutil

import pytest

import coil
from coil.cni import errors
from coil.cni.errors import Code
from coil.domain.errors import CoilError, OutOfBlocks, PoolNotFound
from coil.nodenet.errors import KernelRefused, LinkExists, NetnsGone, NetnsInvalid
from coil.store.errors import StoreUnavailable

for found in pkgutil.walk_packages(coil.__path__, "coil."):
    if not found.name.startswith(("coil.lab", "coil.ctl", "coil.daemon.main", "coil.ctl.main")):
        importlib.import_module(found.name)


def subclasses(kind):
    for sub in kind.__subclasses__():
        yield sub
        yield from subclasses(sub)


ALL = sorted(
    (
        k
        for k in set(subclasses(CoilError))
        if not k.__module__.startswith(("coil.ctl", "coil.lab", "coil.speakers"))
    ),
    key=lambda k: k.__qualname__,
)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_is_mapped(kind):
    assert errors.is_mapped(kind)


@pytest.mark.parametrize(
    ("exc", "command", "code"),
    [
        (OutOfBlocks("full"), "ADD", Code.TRY_AGAIN),
        (OutOfBlocks("full"), "STATUS", Code.NOT_AVAILABLE),
        (PoolNotFound("none"), "ADD", Code.NETCONF),
        (PoolNotFound("none"), "STATUS", Code.NOT_AVAILABLE),
        (StoreUnavailable("away"), "ADD", Code.TRY_AGAIN),
        (NetnsGone("gone"), "ADD", Code.UNKNOWN_CONTAINER),
        (NetnsInvalid("file"), "ADD", Code.ENVIRONMENT),
        (LinkExists("eth0"), "ADD", Code.ENVIRONMENT),
        (KernelRefused("do", 1), "ADD", Code.KERNEL),
        (TimeoutError(), "DEL", Code.TRY_AGAIN),
        (ZeroDivisionError(), "ADD", Code.BUG),
    ],
    ids=repr,
)
def test_codes_are_those_of_the_specification(exc, command, code):
    assert errors.code_of(exc, command) == code
    shown = errors.to_json(exc, "1.0.0", command)
    assert shown["code"] == code
    assert shown["msg"]
    assert shown["cniVersion"] == "1.0.0"
