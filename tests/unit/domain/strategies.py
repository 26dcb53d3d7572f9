"""Generators of domain objects for property tests."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from hypothesis import strategies as st

from coil.domain.block import BlockId
from coil.domain.names import NodeName, PoolName, RackName
from coil.domain.node import BlockReport, Holder, NodeRecord
from coil.domain.pool import MAX_BLOCK_SIZE_LOG2, MAX_COOL_DOWN, Pool, Subnet

FAMILIES = [(4,), (6,), (4, 6)]


def subnet_in_slot(slot: int, host_bits: int, families: tuple[int, ...]) -> Subnet:
    """A subnet of 2**host_bits addresses (at most 2**16) that lies apart from all other slots'."""
    return Subnet(
        IPv4Network((f"10.{slot}.0.0", 32 - host_bits)) if 4 in families else None,
        IPv6Network((f"fd00:{slot:x}::", 128 - host_bits)) if 6 in families else None,
    )


@st.composite
def pools(draw: st.DrawFn, *, max_host_bits: int = 16) -> Pool:
    """Pools of one to four subnets of unequal size, in no order of addresses."""
    families = draw(st.sampled_from(FAMILIES))
    block_size_log2 = draw(st.integers(0, min(MAX_BLOCK_SIZE_LOG2, max_host_bits)))
    slots = draw(st.lists(st.integers(0, 255), min_size=1, max_size=4, unique=True))
    sizes = st.integers(block_size_log2, max_host_bits)
    return Pool(
        PoolName("p"),
        tuple(subnet_in_slot(slot, draw(sizes), families) for slot in slots),
        block_size_log2,
        draw(st.integers(0, MAX_COOL_DOWN)),
        draw(st.booleans()),
    )


REPORTS = st.builds(
    BlockReport, st.builds(BlockId, st.sampled_from(["p", "q"]), st.integers(0, 99)), st.integers(0)
)


@st.composite
def records(draw: st.DrawFn, name: str = "n") -> NodeRecord:
    """What a node may say of itself."""
    return NodeRecord(
        NodeName(name),
        draw(st.builds(Holder, st.text(), st.text(), st.text())),
        draw(st.text()),
        draw(st.none() | st.sampled_from([RackName("r1"), RackName("r2")])),
        tuple(draw(st.lists(st.ip_addresses(), max_size=3))),
        draw(st.integers(0)),
        draw(st.none() | st.lists(REPORTS, max_size=3).map(tuple)),
    )
