"""What the journal can fail with."""

from __future__ import annotations

from coil.domain.errors import CoilError, ConfigError


class JournalError(CoilError):
    """The journal could not be written: nothing may be given out."""


class JournalLocked(ConfigError):
    """Another coild uses this state directory."""
