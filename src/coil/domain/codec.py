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
    """Inverse of pool_to_json. Raises ValueError, KeyError, TypeError or CoilError."""
    fields = json.loads(text)
    return Pool(
        parse_pool_name(name),
        tuple(parse_subnet(subnet) for subnet in fields["subnets"]),
        int(fields["block_size"]),
        int(fields["cool_down"]),
        bool(fields["cordoned"]),
    )
