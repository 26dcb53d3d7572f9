"""Everything sqlite3 can raise has an error of ours, or is a bug that must show."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from coil.store.errors import StoreCorrupt, StoreError, StoreUnavailable
from coil.store.sqlite.errors import BUGS, is_busy, mapped_sqlite_errors

PATH = Path("/var/lib/coil/store.db")
CLASSES = [
    value
    for value in vars(sqlite3).values()
    if isinstance(value, type) and issubclass(value, sqlite3.Error)
]
# https://www.sqlite.org/rescode.html: all primary result codes that are errors.
CODES = [*range(1, 27)]


def raised(exc: sqlite3.Error) -> Exception:
    try:
        with mapped_sqlite_errors(PATH):
            raise exc
    except Exception as error:
        return error
    raise AssertionError("swallowed")


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_of_sqlite3_is_an_error_of_ours_or_a_bug(cls: type[sqlite3.Error]) -> None:
    # The two roots are never raised by themselves for what a file or moment is to blame for.
    error = raised(cls("some reason"))
    if issubclass(cls, BUGS) or cls is sqlite3.Error:
        assert type(error) is cls
    else:
        assert isinstance(error, StoreError)
        assert error.__cause__ is not None
        assert str(PATH) in str(error)
        assert "some reason" in str(error)


@pytest.mark.parametrize("extension", [0, 1, 5])
@pytest.mark.parametrize("code", CODES)
def test_every_result_code_is_of_the_moment_or_of_the_file(code: int, extension: int) -> None:
    exc = sqlite3.OperationalError("some reason")
    exc.sqlite_errorcode = code | extension << 8
    error = raised(exc)
    assert type(error) in {StoreUnavailable, StoreCorrupt}
    assert is_busy(exc) == (code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SQLITE_BUSY", StoreUnavailable),
        ("SQLITE_LOCKED", StoreUnavailable),
        ("SQLITE_FULL", StoreUnavailable),
        ("SQLITE_IOERR", StoreUnavailable),
        ("SQLITE_READONLY", StoreUnavailable),
        ("SQLITE_CANTOPEN", StoreUnavailable),
        ("SQLITE_PERM", StoreUnavailable),
        ("SQLITE_NOMEM", StoreUnavailable),
        ("SQLITE_CORRUPT", StoreCorrupt),
        ("SQLITE_NOTADB", StoreCorrupt),
        ("SQLITE_CONSTRAINT", StoreCorrupt),
        ("SQLITE_ERROR", StoreCorrupt),
    ],
)
def test_what_may_pass_is_unavailable_and_what_cannot_is_corrupt(
    name: str, expected: type[StoreError]
) -> None:
    exc = sqlite3.DatabaseError("some reason")
    exc.sqlite_errorcode = getattr(sqlite3, name)
    assert type(raised(exc)) is expected


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(KeyError), mapped_sqlite_errors(PATH):
        raise KeyError("a bug")
