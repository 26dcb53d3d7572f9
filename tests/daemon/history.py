"""What many clients did and saw, and whether one world can explain it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Hold:
    """An attachment's time with an address; times of one clock, in seconds."""

    attachment: str
    address: str
    asked: float
    """The ADD was sent."""
    given: float
    """Its answer was here: from now on the address is certainly held."""
    returned: float = float("inf")
    """The DEL was sent: up to now the address was certainly held."""


def violations(holds: list[Hold], cool_down: float) -> list[str]:
    """What cannot have happened in a world where an address has one holder and then cools."""
    found = []
    by_address = defaultdict(list)
    for hold in holds:
        by_address[hold.address].append(hold)
    for address, held in by_address.items():
        held.sort(key=lambda hold: hold.given)
        for earlier, later in pairwise(held):
            if later.given < earlier.returned:
                found.append(f"{address} held by {earlier.attachment} and {later.attachment}")
            elif later.given < earlier.returned + cool_down:
                found.append(f"{address} given to {later.attachment} before it had cooled")
    return found
