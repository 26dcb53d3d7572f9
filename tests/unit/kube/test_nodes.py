"""Labels of Node objects: their keys, and what an object says."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

from coil.domain.errors import ConfigError
from coil.domain.names import NodeName
from coil.kube.errors import KubeUnavailable
from coil.kube.labels import parse_label_key
from coil.kube.nodes import find_node_label

RACK = "topology.kubernetes.io/rack"


@dataclass
class Server:
    """What an API server answers to one GET."""

    answer: object
    asked: str = ""

    async def get(self, path):
        self.asked = path
        return json.loads(json.dumps(self.answer))


def find(answer):
    server = Server(answer)
    found = asyncio.run(find_node_label(server, NodeName("n0"), RACK))
    assert server.asked == "/api/v1/nodes/n0"
    return found


@pytest.mark.parametrize(
    ("metadata", "value"),
    [
        ({"name": "n0", "labels": {RACK: "r1", "other": "x"}}, "r1"),
        ({"name": "n0", "labels": {RACK: ""}}, ""),
        ({"name": "n0", "labels": {"other": "x"}}, ""),
        ({"name": "n0", "labels": None}, ""),
        ({"name": "n0"}, ""),
    ],
)
def test_a_label_is_found_or_empty(metadata, value):
    assert find({"kind": "Node", "metadata": metadata}) == value


@pytest.mark.parametrize("answer", [{"kind": "Status"}, {}, [], None, "Node"])
def test_what_is_no_node_is_refused(answer):
    with pytest.raises(KubeUnavailable, match="n0 is no Node object"):
        find(answer)


@pytest.mark.parametrize("key", [RACK, "rack", "a/b", "example.com/Rack_1.x", "a" * 63])
def test_keys_of_labels(key):
    assert parse_label_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "/", "a/", "/a", "a/b/c", "A.com/x", "-a", "a-", "a b", "a" * 64, "ä", "a\n"]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ConfigError, match="is not the key of a Kubernetes label"):
        parse_label_key(key)
