"""Attachments: what tells them apart and how they are shown."""

from __future__ import annotations

from coil.domain.attachment import AttachmentKey, Pod
from coil.domain.names import ContainerId, IfName


def key(container_id: str, ifname: str) -> AttachmentKey:
    return AttachmentKey(ContainerId(container_id), IfName(ifname))


def test_container_and_interface_together_are_the_key() -> None:
    keys = {key("a", "eth0"), key("a", "eth0"), key("a", "eth1"), key("b", "eth0")}
    assert sorted(map(str, keys)) == ["a/eth0", "a/eth1", "b/eth0"]


def test_keys_are_ordered_by_container_then_interface() -> None:
    assert sorted([key("b", "a"), key("a", "z"), key("a", "b")]) == [
        key("a", "b"),
        key("a", "z"),
        key("b", "a"),
    ]


def test_a_pod_is_shown_by_namespace_and_name_or_not_at_all() -> None:
    assert str(Pod("ns", "web-0", "uid")) == "ns/web-0"
    assert str(Pod("ns")) == str(Pod()) == ""
