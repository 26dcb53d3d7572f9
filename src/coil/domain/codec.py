"""How a pool is written down, the same in every store and in the journal. Pure."""

from __future__ import annotations

import json

from coil.domain.names import parse_pool_name
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
    try:
        fields = json.loads(text)
    except RecursionError as exc:
        raise ValueError("it is nested too deeply") from exc
    match fields:
        case {
            "subnets": [*subnets],
            "block_size": int(block_size),
            "cool_down": int(cool_down),
            "cordoned": bool(cordoned),
        } if all(isinstance(subnet, str) for subnet in subnets):
            parsed = tuple(parse_subnet(subnet) for subnet in subnets)
            return Pool(parse_pool_name(name), parsed, block_size, cool_down, cordoned)
    raise ValueError("a field is missing or of a wrong type")
