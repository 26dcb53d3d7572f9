"""What coild says of itself to operators, as plain JSON values. docs/api.md describes each."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from coil import __version__
from coil.daemon.inventory import Address, Inventory, OwnedBlock
from coil.domain.attachment import Attachment
from coil.domain.errors import AddressNotFound
from coil.domain.names import NodeName
from coil.nodenet.plan import Tables
from coil.process.problems import Problems

Json = dict[str, object]


@dataclass(frozen=True, slots=True)
class Reporter:
    """Reads the inventory; changes nothing."""

    node: NodeName
    store_url: str
    inventory: Inventory
    problems: Problems
    tables: Tables
    announces: Callable[[OwnedBlock], bool]

    def status(self) -> Json:
        """The node in a few numbers."""
        inventory = self.inventory
        return {
            "node": self.node,
            "version": __version__,
            "store": self.store_url,
            "pools": [
                {
                    "name": pool.name,
                    "families": list(pool.families),
                    "cordoned": pool.cordoned,
                    "blocks": sum(b.pool == pool.name for b in inventory.blocks),
                    "free": inventory.free_count(pool),
                }
                for pool in inventory.pools.values()
            ],
            "attachments": len(inventory.attachments),
            "problems": self.problems.list(),
        }

    def blocks(self) -> list[Json]:
        """Every owned block with the state of its addresses."""
        return [self._block(owned) for owned in self.inventory.blocks.values()]

    def _block(self, owned: OwnedBlock) -> Json:
        cool_down = self.inventory.get_pool(owned.block.pool).cool_down
        cooling = owned.allocator.cooling(self.inventory.clock(), cool_down)
        used = owned.allocator.used
        return {
            "pool": owned.block.pool,
            "index": owned.block.index,
            "networks": [str(network) for network in owned.block.networks],
            "size": owned.block.size,
            "used": len(used),
            "cooling": len(cooling),
            "free": owned.block.size - len(used) - len(cooling),
            "used_offsets": sorted(used),
            "cooling_offsets": sorted(cooling),
            "releasing": owned.releasing,
            "exported": self.announces(owned),
        }

    def addresses(self) -> list[Json]:
        """Addresses in use and cooling ones, in the order of blocks and offsets."""
        rows = [self._held(a) for a in self.inventory.attachments.values()]
        for owned in self.inventory.blocks.values():
            rows += self._cooling(owned)
        return sorted(rows, key=lambda row: (str(row["pool"]), row["index"], row["offset"]))

    def _held(self, attachment: Attachment) -> Json:
        return {
            "addresses": [str(address) for address in attachment.addresses],
            "state": "used",
            "pool": attachment.block.pool,
            "index": attachment.block.index,
            "offset": attachment.offset,
            "container_id": attachment.key.container_id,
            "ifname": attachment.key.ifname,
            "namespace": attachment.pod.namespace,
            "pod": attachment.pod.name,
            "host_ifname": attachment.host_ifname,
            "netns": attachment.netns.path,
            "since": attachment.created_at,
        }

    def _cooling(self, owned: OwnedBlock) -> list[Json]:
        now = self.inventory.clock()
        cool_down = self.inventory.get_pool(owned.block.pool).cool_down
        unix = time.time()
        return [
            {
                "addresses": [str(address) for address in owned.block.addresses(offset)],
                "state": "cooling",
                "pool": owned.block.pool,
                "index": owned.block.index,
                "offset": offset,
                "since": int(unix + until - cool_down - now),
                "until": int(unix + until - now),
            }
            for offset, until in owned.allocator.cooling(now, cool_down).items()
        ]

    def address(self, address: Address) -> Json:
        """What is known of one address."""
        holder = self.inventory.find_holder(address)
        if holder is not None:
            return self._held(holder)
        owned = self.inventory.find_block(address)
        if owned is None:
            return {"addresses": [str(address)], "state": "not of this node"}
        offset = owned.block.find_offset(address)
        for row in self._cooling(owned):
            if row["offset"] == offset:
                return row
        state = "being attached" if offset in owned.allocator.used else "free"
        return {
            "addresses": [str(address)],
            "state": state,
            "pool": owned.block.pool,
            "index": owned.block.index,
            "offset": offset,
        }

    def explain(self, attachment: Attachment, faults: list[str]) -> Json:
        """Why an attachment has its address, by which routes, and whether the kernel agrees."""
        owned = self.inventory.blocks.get(attachment.block)
        return {
            **self._held(attachment),
            "block": self._block(owned) if owned else None,
            "why": self._why(attachment, owned),
            "routes": [
                *(
                    f"{address} dev {attachment.host_ifname} table {self.tables.pod_table}"
                    for address in attachment.addresses
                ),
                *(self._block_routes(owned) if owned else ()),
            ],
            "faults": faults,
        }

    def explain_unheld(self, address: Address) -> Json:
        """What becomes of an address that no attachment holds. Raises AddressNotFound."""
        owned = self.inventory.find_block(address)
        if owned is None:
            raise AddressNotFound(
                f"{address} is in no block of this node; coilctl block list shows whose they are"
            )
        found = self.address(address)
        where = f"block {owned.block.index} of pool {owned.block.pool}"
        return {
            **found,
            "block": self._block(owned),
            "why": f"no container holds it; it is {found['state']}, in {where}",
            "routes": self._block_routes(owned),
        }

    def _block_routes(self, owned: OwnedBlock) -> list[str]:
        table, protocol = self.tables.export_table, self.tables.protocol
        return [
            f"{network} dev lo table {table} proto {protocol}" for network in owned.block.networks
        ]

    @staticmethod
    def _why(attachment: Attachment, owned: OwnedBlock | None) -> str:
        pool, index = attachment.block.pool, attachment.block.index
        if owned is None:
            return (
                f"given from block {index} of pool {pool}, which this node does not own any more; "
                "its route is withdrawn, so recreate the pod"
            )
        if pool == attachment.pod.namespace:
            chosen = "has the name of the pod's namespace"
        else:
            chosen = "is the default" if pool == "default" else "is named by the configuration"
        return (
            f"pool {pool} {chosen}; block {index} is owned by this node; offset "
            f"{attachment.offset} was never used, or free for longest, at that time"
        )
