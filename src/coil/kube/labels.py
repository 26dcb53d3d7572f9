"""The keys of labels.

https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
"""

from __future__ import annotations

import re

from coil.domain.errors import ConfigError

_PREFIX = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = re.compile(rf"({_PREFIX}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?")


def parse_label_key(text: str) -> str:
    """Return ``text`` as the key of a label. Raises ConfigError."""
    if not _LABEL.fullmatch(text):
        raise ConfigError(
            f"{text!r} is not the key of a Kubernetes label, like topology.kubernetes.io/rack"
        )
    return text
