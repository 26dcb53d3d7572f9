"""The tree of errors: the picture at the top of each module is the tree that is."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

from coil.domain import errors as domain_errors
from coil.domain.errors import CoilError
from coil.store import errors as store_errors


def drawn(module: ModuleType) -> dict[str, bool]:
    """Names in the picture, and whether "(transient" follows."""
    lines = (module.__doc__ or "").splitlines()
    entries = [re.match(r"[ |]*(?:\+- )?([A-Z]\w+)(?: +(.*))?$", line) for line in lines]
    return {
        m[1]: (m[2] or "").startswith("(transient") for m in entries if m and hasattr(module, m[1])
    }


def defined(module: ModuleType) -> dict[str, type[CoilError]]:
    return {
        name: value
        for name, value in vars(module).items()
        if isinstance(value, type)
        and issubclass(value, CoilError)
        and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("module", [domain_errors, store_errors])
def test_every_error_is_in_the_picture_with_its_transience(module: ModuleType) -> None:
    assert drawn(module) == {name: cls.transient for name, cls in defined(module).items()}


@pytest.mark.parametrize("cls", [*defined(domain_errors).values(), *defined(store_errors).values()])
def test_an_error_shows_its_message_and_keeps_its_fields(cls: type[CoilError]) -> None:
    error = cls("pool p is odd", pool="p")
    assert str(error) == error.message == "pool p is odd"
    assert error.fields == {"pool": "p"}
