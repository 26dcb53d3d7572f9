"""Names: arbitrary text is accepted unchanged or refused, and what is accepted is safe."""

from __future__ import annotations

import string
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from coil.domain.errors import InvalidName
from coil.domain.names import (
    MAX_CONTAINER_ID,
    MAX_IFNAME,
    parse_container_id,
    parse_ifname,
    parse_node_name,
    parse_pool_name,
)

LOWER = set(string.ascii_lowercase + string.digits)
ALNUM = set(string.ascii_letters + string.digits)
TEXT = st.one_of(
    st.text(),
    st.text(alphabet="aZ0-._%:/ \n\0é", max_size=20),
    st.text(alphabet="ab0-.", max_size=300),
)


def is_pool_name(text: str) -> bool:
    return 1 <= len(text) <= 63 and set(text) <= LOWER | {"-"} and "-" not in (text[0], text[-1])


def is_node_name(text: str) -> bool:
    parts = text.split(".")
    return len(text) <= 253 and all(
        part and set(part) <= LOWER | {"-"} and "-" not in (part[0], part[-1]) for part in parts
    )


def is_container_id(text: str) -> bool:
    return (
        1 <= len(text) <= MAX_CONTAINER_ID and text[0] in ALNUM and set(text) <= ALNUM | set("_.-")
    )


def is_ifname(text: str) -> bool:
    return (
        1 <= len(text) <= MAX_IFNAME
        and all("!" <= char <= "~" and char not in "/:%" for char in text)
        and text not in (".", "..", "all", "default")
    )


KINDS: list[tuple[Callable[[str], str], Callable[[str], bool]]] = [
    (parse_pool_name, is_pool_name),
    (parse_node_name, is_node_name),
    (parse_container_id, is_container_id),
    (parse_ifname, is_ifname),
]


@pytest.mark.parametrize(("parse", "is_good"), KINDS)
@given(text=TEXT)
@example("")
@example(".")
@example("..")
@example("a\n")
@example("../../etc/passwd")
@example("eth%d")
@example("a" * 10_000)
@example("\ud800")
def test_text_is_taken_unchanged_or_refused_in_one_short_line(
    parse: Callable[[str], str], is_good: Callable[[str], bool], text: str
) -> None:
    if is_good(text):
        assert parse(text) == text
        return
    with pytest.raises(InvalidName) as caught:
        parse(text)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 600


@pytest.mark.parametrize(
    ("parse", "longest"),
    [
        (parse_pool_name, 63),
        (parse_node_name, 253),
        (parse_container_id, MAX_CONTAINER_ID),
        (parse_ifname, MAX_IFNAME),
    ],
)
def test_the_longest_name_is_taken_and_one_more_character_is_not(
    parse: Callable[[str], str], longest: int
) -> None:
    assert parse("a" * longest)
    with pytest.raises(InvalidName):
        parse("a" * (longest + 1))


@pytest.mark.parametrize("name", ["eth0", "lo", "a.b", "-", "veth0@if2", "net1", "~"])
def test_names_the_kernel_takes_are_taken(name: str) -> None:
    assert parse_ifname(name) == name


def test_every_accepted_container_id_is_one_plain_path_component() -> None:
    for text in ("a/..", "/a", "..", ".", "a\0", "-a", "_a"):
        with pytest.raises(InvalidName):
            parse_container_id(text)
