"""What the lab can fail with."""

from __future__ import annotations

from coil.domain.errors import CoilError


class LabError(CoilError):
    """A part of the lab did not come up or did not do what it was told; the message tells all."""
