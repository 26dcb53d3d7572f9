"""What coild tells in numbers."""

from __future__ import annotations

import re
from pathlib import Path

import coil.daemon
from coil.daemon.metrics import _KINDS

_SOURCE = Path(coil.daemon.__file__).parent


def test_each_kind_of_problem_is_counted():
    texts = [path.read_text() for path in _SOURCE.glob("*.py")]
    put = {
        kind for text in texts for kind in re.findall(r'problems\.(?:put|replace)\("(.+?)"', text)
    }
    assert put == set(_KINDS)
