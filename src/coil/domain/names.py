"""The names coil accepts, and the only functions that make them out of foreign text.

Container ids and interface names come from outside and end in paths, netlink attributes and
log lines; nothing may use one that has not passed through here.
"""

from __future__ import annotations

import re
from typing import NewType

from coil.domain.errors import InvalidName

PoolName = NewType("PoolName", str)
NodeName = NewType("NodeName", str)
RackName = NewType("RackName", str)
ContainerId = NewType("ContainerId", str)
IfName = NewType("IfName", str)

MAX_CONTAINER_ID = 160
"""Characters. A link's alias (255 bytes in the kernel, IFALIASZ) must hold the id, an ifname and
a pool name; runtimes use 64."""
MAX_IFNAME = 15
"""Bytes: IFNAMSIZ less the NUL (linux/if.h)."""

_POOL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_NODE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_NODE = 253
_RACK = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
# CNI specification, section 2, CNI_CONTAINERID.
_CONTAINER_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]*")
# dev_valid_name() of the kernel refuses '/', ':' and white space; '%' would make the kernel number
# the link (dev_alloc_name), so that it could not be found again.
_IFNAME = re.compile(r"[!-~]+")
_IFNAME_FORBIDDEN = frozenset("/:%")
# "all" and "default" are directories in /proc/sys/net: the kernel refuses links of these names
# (sysctl_dev_name_is_allowed).
_IFNAMES_TAKEN = frozenset({".", "..", "all", "default"})


def parse_pool_name(text: str) -> PoolName:
    """Return ``text`` as a pool name: an RFC 1123 label, as Kubernetes namespaces are.

    Raises InvalidName.
    """
    if not _POOL.fullmatch(text):
        raise InvalidName(
            f"pool name {_shown(text)} must be 1 to 63 lower-case letters, digits or '-', "
            "beginning and ending with a letter or digit"
        )
    return PoolName(text)


def parse_node_name(text: str) -> NodeName:
    """Return ``text`` as a node name: an RFC 1123 subdomain. Raises InvalidName."""
    if len(text) > _MAX_NODE or not _NODE.fullmatch(text):
        raise InvalidName(
            f"node name {_shown(text)} must be 1 to 253 lower-case letters, digits, '-' or '.', "
            "each part between dots beginning and ending with a letter or digit"
        )
    return NodeName(text)


def parse_rack_name(text: str) -> RackName:
    """Return ``text`` as a rack's name: what Kubernetes takes as a label's value.

    Raises InvalidName.
    """
    if not _RACK.fullmatch(text):
        raise InvalidName(
            f"rack name {_shown(text)} must be 1 to 63 letters, digits, '-', '_' or '.', beginning "
            "and ending with a letter or digit"
        )
    return RackName(text)


def parse_container_id(text: str) -> ContainerId:
    """Return ``text`` as a container id as the CNI specification allows it. Raises InvalidName."""
    if not _CONTAINER_ID.fullmatch(text):
        raise InvalidName(
            f"container id {_shown(text)} must begin with a letter or digit, followed by "
            "letters, digits, '_', '.' or '-'"
        )
    if len(text) > MAX_CONTAINER_ID:
        raise InvalidName(
            f"container id of {len(text)} characters is longer than {MAX_CONTAINER_ID}"
        )
    return ContainerId(text)


def parse_ifname(text: str) -> IfName:
    """Return ``text`` as a name the kernel takes for a link as it is. Raises InvalidName."""
    if len(text) > MAX_IFNAME:
        raise InvalidName(f"interface name {_shown(text)} is longer than {MAX_IFNAME} characters")
    if not _IFNAME.fullmatch(text) or _IFNAME_FORBIDDEN & set(text) or text in _IFNAMES_TAKEN:
        raise InvalidName(
            f"interface name {_shown(text)} must be printable ASCII without blanks, "
            "'/', ':' or '%', and not '.', '..', 'all' or 'default'"
        )
    return IfName(text)


def _shown(text: str) -> str:
    """Foreign text as it can stand in a message: quoted, escaped, bounded."""
    return repr(text if len(text) <= 80 else text[:77] + "...")
