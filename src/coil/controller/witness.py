"""Who can say whether a node lives when the store has not heard of it."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Protocol

from coil.controller.ping import find_answering
from coil.domain.gone import Word, own_addresses, words_of_answers
from coil.domain.names import NodeName
from coil.domain.node import NodeRecord, NodeStatus

_CONTROLS = 8
"""Nodes that live and are asked beside the suspects: enough to tell a lost packet from a lost
network, few enough to be no load."""


class Witness(Protocol):
    """Evidence from outside of the store: the network; later, Kubernetes."""

    async def ask(
        self, suspects: Sequence[NodeRecord], nodes: Sequence[NodeStatus]
    ) -> Mapping[NodeName, Word]:
        """A word on each suspect; raises nothing. ``nodes``: all that have a record.

        AGAINST only from a witness that knows, at this moment, of nodes that live that they do.
        """


class NetworkWitness:
    """Whether a node answers on its addresses, at all, to anything."""

    async def ask(
        self, suspects: Sequence[NodeRecord], nodes: Sequence[NodeStatus]
    ) -> Mapping[NodeName, Word]:
        """See Witness."""
        addresses = own_addresses(found.record for found in nodes)
        alive = [found.record.name for found in nodes if found.alive]
        controls = random.sample(alive, min(_CONTROLS, len(alive)))
        names = [record.name for record in suspects]
        asked = {address for name in (*names, *controls) for address in addresses[name]}
        return words_of_answers(names, controls, addresses, await find_answering(asked))
