"""Every key coil has in etcd. docs/schema.md says what each holds and who writes it.

All indexes have the same number of digits, so that keys are in the order of the indexes.
"""

from __future__ import annotations

from dataclasses import dataclass

from coil.domain.block import BlockId
from coil.domain.errors import CoilError
from coil.domain.names import NodeName, PoolName, parse_pool_name

_DIGITS = 19
"""Of MAX_INDEX, 2**63 - 1."""


@dataclass(frozen=True, slots=True)
class Keys:
    """Makes and reads keys below ``prefix``, which begins and ends with a slash."""

    prefix: str

    @property
    def identity(self) -> str:
        """Which store this is, and in which format it is written."""
        return f"{self.prefix}identity"

    @property
    def pools(self) -> str:
        """Prefix of all pools."""
        return f"{self.prefix}pools/"

    @property
    def all_blocks(self) -> str:
        """Prefix of the claims of all pools."""
        return f"{self.prefix}blocks/"

    @property
    def all_owned(self) -> str:
        """Prefix of the copies under their owners' names."""
        return f"{self.prefix}owned/"

    def leader(self, role: str) -> str:
        """Who acts for all in this role: it goes with the leader's lease."""
        return f"{self.prefix}leaders/{role}"

    def pool(self, name: PoolName) -> str:
        """One pool."""
        return f"{self.pools}{name}"

    def blocks(self, pool: PoolName) -> str:
        """Prefix of the claims of a pool."""
        return f"{self.all_blocks}{pool}/"

    def block(self, block: BlockId) -> str:
        """The claim on a block."""
        return self.block_at(block.pool, block.index)

    def block_at(self, pool: PoolName, index: int) -> str:
        """The same; also for the index behind the last, as the end of a span."""
        return f"{self.blocks(pool)}{index:0{_DIGITS}}"

    @property
    def all_ranges(self) -> str:
        """Prefix of the ranges of all pools that belong to racks."""
        return f"{self.prefix}ranges/"

    def ranges(self, pool: PoolName) -> str:
        """Prefix of the ranges of one pool."""
        return f"{self.all_ranges}{pool}/"

    def range(self, pool: PoolName, first: int) -> str:
        """The range that begins with block ``first``."""
        return f"{self.ranges(pool)}{first:0{_DIGITS}}"

    @property
    def nodes(self) -> str:
        """Prefix of all nodes' records."""
        return f"{self.prefix}nodes/"

    def node(self, name: NodeName) -> str:
        """What a node says of itself."""
        return f"{self.nodes}{name}"

    @property
    def lives(self) -> str:
        """Prefix of the signs of life."""
        return f"{self.prefix}alive/"

    def life(self, name: NodeName) -> str:
        """A node's sign of life: it goes with the node's lease."""
        return f"{self.lives}{name}"

    def owned(self, node: NodeName) -> str:
        """Prefix of what one node owns."""
        return f"{self.all_owned}{node}/"

    def owned_block(self, node: NodeName, block: BlockId) -> str:
        """A copy of the claim, where its owner finds it without reading those of others."""
        return f"{self.owned(node)}{block.pool}/{block.index:0{_DIGITS}}"

    def block_id(self, key: str) -> BlockId:
        """Which block a key of claims, copies or ranges is about. Raises ValueError."""
        match key.removeprefix(self.prefix).split("/"):
            case ["blocks" | "ranges", pool, index] | ["owned", _, pool, index]:
                if len(index) == _DIGITS and index.isascii() and index.isdigit():
                    return BlockId(_parse_pool(pool), int(index))
                raise ValueError(f"{index!r} is not an index of {_DIGITS} digits")
        raise ValueError("its name is none of coil's")


def _parse_pool(text: str) -> PoolName:
    try:
        return parse_pool_name(text)
    except CoilError as exc:
        raise ValueError(exc.message) from exc
