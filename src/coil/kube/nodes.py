"""What the Node objects of the cluster say."""

from __future__ import annotations

from coil.domain.names import NodeName
from coil.kube.client import KubeClient
from coil.kube.errors import KubeUnavailable


async def find_node_label(client: KubeClient, node: NodeName, key: str) -> str:
    """The value of a label of a Node, empty when it has none. Raises KubeError, ConfigError."""
    match await client.get(f"/api/v1/nodes/{node}"):
        case {"kind": "Node", "metadata": {"labels": {**labels}}}:
            return str(labels.get(key, ""))
        case {"kind": "Node"}:
            return ""
    raise KubeUnavailable(f"{client}: what it answers for node {node} is no Node object")
