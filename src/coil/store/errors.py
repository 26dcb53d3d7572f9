"""What a store can fail with, beside the domain's errors.

StoreAbsent             (of ConfigError) there is none yet, and this opener must make none
StoreError
 +- StoreUnavailable    (transient) not reached, timed out; a write may or may not have happened
 +- StoreConflict       (transient) lost against others more often than is reasonable
 +- StoreCorrupt        holds something that coil did not write or cannot read
"""

from __future__ import annotations

from coil.domain.errors import CoilError, ConfigError


class StoreAbsent(ConfigError):
    """There is no store in that place, and none was to be made."""


class StoreError(CoilError):
    """Root of the store's failures."""


class StoreUnavailable(StoreError):
    """The store could not be asked. After a write its outcome is unknown until read again."""

    transient = True


class StoreConflict(StoreError):
    """Concurrent writers won every attempt."""

    transient = True


class StoreCorrupt(StoreError):
    """A record or file that cannot be understood; the message names it and says what to do."""
