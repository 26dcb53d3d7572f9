"""How pools, claims and nodes are written down, in every store and in the journal. Pure."""

from __future__ import annotations

import json
from ipaddress import ip_address

from coil.domain.block import MAX_INDEX, BlockClaim, BlockId
from coil.domain.names import parse_node_name, parse_pool_name, parse_rack_name
from coil.domain.node import BlockReport, Holder, NodeRecord
from coil.domain.pool import Pool, parse_subnet


def pool_to_json(pool: Pool) -> str:
    """Everything but the name, which is the record's key."""
    return json.dumps(
        {
            "subnets": [str(subnet) for subnet in pool.subnets],
            "block_size": pool.block_size_log2,
            "cool_down": pool.cool_down,
            "cordoned": pool.cordoned,
        }
    )


def pool_from_json(name: str, text: str) -> Pool:
    """Inverse of pool_to_json. Raises ValueError or CoilError for what that never wrote."""
    match read_json(text):
        case {
            "subnets": [*subnets],
            "block_size": int(block_size),
            "cool_down": int(cool_down),
            "cordoned": bool(cordoned),
        } if all(isinstance(subnet, str) for subnet in subnets):
            parsed = tuple(parse_subnet(subnet) for subnet in subnets)
            return Pool(parse_pool_name(name), parsed, block_size, cool_down, cordoned)
    raise ValueError("a field is missing or of a wrong type")


def claim_to_json(claim: BlockClaim) -> str:
    """Everything but the block, which is the record's key. Always the same text for a claim."""
    return json.dumps({"node": claim.node, "revision": claim.revision})


def claim_from_json(block: BlockId, text: str) -> BlockClaim:
    """Inverse of claim_to_json. Raises ValueError or CoilError for what that never wrote."""
    match read_json(text):
        case {"node": str(node), "revision": int(revision)} if 0 <= revision <= MAX_INDEX:
            return BlockClaim(block, parse_node_name(node), revision)
    raise ValueError("a field is missing or of a wrong type")


def node_to_json(record: NodeRecord) -> str:
    """Everything but the name, which is the record's key."""
    blocks = record.blocks
    return json.dumps(
        {
            "holder": _holder_fields(record.holder),
            "version": record.version,
            "rack": record.rack or "",
            "addresses": [str(address) for address in record.addresses],
            "seen": record.seen,
            "blocks": None
            if blocks is None
            else [[each.id.pool, each.id.index, each.used] for each in blocks],
        }
    )


def node_from_json(name: str, text: str) -> NodeRecord:
    """Inverse of node_to_json. Raises ValueError or CoilError for what that never wrote."""
    match read_json(text):
        case {
            "holder": holder,
            "version": str(version),
            "rack": str(rack),
            "addresses": [*addresses],
            "seen": int(seen),
            **rest,
        }:
            return NodeRecord(
                parse_node_name(name),
                _to_holder(holder),
                version,
                parse_rack_name(rack) if rack else None,
                tuple(ip_address(str(address)) for address in addresses),
                seen,
                _to_reports(rest.get("blocks")),
            )
    raise ValueError("a field is missing or of a wrong type")


def _to_reports(fields: object) -> tuple[BlockReport, ...] | None:
    match fields:
        case None:
            return None
        case [*reports]:
            return tuple(_to_report(report) for report in reports)
    raise ValueError("blocks is not a list")


def _to_report(fields: object) -> BlockReport:
    match fields:
        case [str(pool), int(index), int(used)]:
            return BlockReport(BlockId(parse_pool_name(pool), index), used)
    raise ValueError("a block is not [pool, index, used]")


def holder_to_json(holder: Holder) -> str:
    """A holder alone."""
    return json.dumps(_holder_fields(holder))


def holder_from_json(text: str) -> Holder:
    """Inverse of holder_to_json. Raises ValueError."""
    return _to_holder(read_json(text))


def _holder_fields(holder: Holder) -> dict[str, str]:
    return {"machine": holder.machine, "boot": holder.boot, "place": holder.place}


def _to_holder(fields: object) -> Holder:
    match fields:
        case {"machine": str(machine), "boot": str(boot), "place": str(place)}:
            return Holder(machine, boot, place)
    raise ValueError("a field is missing or of a wrong type")


def read_json(text: str) -> object:
    """What the text says. Raises ValueError, also where it would exhaust the stack."""
    try:
        found: object = json.loads(text)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    return found
