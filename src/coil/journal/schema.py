"""Tables of the journal and how records become rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from coil.domain.attachment import Attachment, AttachmentKey, Netns, Pod
from coil.domain.block import BlockClaim, BlockId
from coil.domain.names import (
    NodeName,
    parse_container_id,
    parse_ifname,
    parse_node_name,
    parse_pool_name,
)

APPLICATION_ID = 0x636F696A  # 'coij'
FORMAT = 1

TABLES = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE pools (name TEXT PRIMARY KEY, spec TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE blocks (
    pool TEXT NOT NULL, idx INTEGER NOT NULL, node TEXT NOT NULL, revision INTEGER NOT NULL,
    releasing INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (pool, idx)
) WITHOUT ROWID;
CREATE TABLE attachments (
    container_id TEXT NOT NULL, ifname TEXT NOT NULL,
    pool TEXT NOT NULL, idx INTEGER NOT NULL, offset INTEGER NOT NULL, addresses TEXT NOT NULL,
    netns TEXT NOT NULL, netns_inode INTEGER NOT NULL,
    host_ifname TEXT NOT NULL, mac TEXT NOT NULL, mtu INTEGER NOT NULL,
    created_at INTEGER NOT NULL, network TEXT NOT NULL, pod TEXT NOT NULL,
    PRIMARY KEY (container_id, ifname)
) WITHOUT ROWID;
CREATE UNIQUE INDEX one_holder ON attachments (pool, idx, offset);
CREATE TABLE freed (
    pool TEXT NOT NULL, idx INTEGER NOT NULL, offset INTEGER NOT NULL, freed_at REAL NOT NULL,
    PRIMARY KEY (pool, idx, offset)
) WITHOUT ROWID;
"""

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class JournaledBlock:
    """A block this node was confirmed to own."""

    claim: BlockClaim
    releasing: bool
    """Its release has begun: nothing may be given from it, and the release must be finished."""


def block_from_row(row: Mapping[str, object]) -> JournaledBlock:
    """Read a row of ``blocks``."""
    block_id = BlockId(parse_pool_name(str(row["pool"])), _int(row["idx"]))
    node: NodeName = parse_node_name(str(row["node"]))
    claim = BlockClaim(block_id, node, _int(row["revision"]))
    return JournaledBlock(claim, bool(row["releasing"]))


def attachment_to_row(attachment: Attachment) -> Row:
    """Values in the order of the columns."""
    pod = attachment.pod
    return (
        attachment.key.container_id,
        attachment.key.ifname,
        attachment.block.pool,
        attachment.block.index,
        attachment.offset,
        ",".join(map(str, attachment.addresses)),
        attachment.netns.path,
        attachment.netns.inode,
        attachment.host_ifname,
        attachment.mac,
        attachment.mtu,
        attachment.created_at,
        attachment.network,
        json.dumps([pod.namespace, pod.name, pod.uid]),
    )


def attachment_from_row(row: Mapping[str, object]) -> Attachment:
    """Inverse of attachment_to_row. Raises ValueError, TypeError or CoilError."""
    key = AttachmentKey(
        parse_container_id(str(row["container_id"])), parse_ifname(str(row["ifname"]))
    )
    namespace, name, uid = json.loads(str(row["pod"]))
    return Attachment(
        key=key,
        block=BlockId(parse_pool_name(str(row["pool"])), _int(row["idx"])),
        offset=_int(row["offset"]),
        addresses=tuple(ip_address(text) for text in str(row["addresses"]).split(",")),
        netns=Netns(str(row["netns"]), _int(row["netns_inode"])),
        host_ifname=parse_ifname(str(row["host_ifname"])),
        mac=bytes.fromhex(str(row["mac"]).replace(":", "")).hex(":"),
        mtu=_int(row["mtu"]),
        created_at=_int(row["created_at"]),
        network=str(row["network"]),
        pod=Pod(str(namespace), str(name), str(uid)),
    )


def _int(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is not a number")
    return value
