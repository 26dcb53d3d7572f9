"""What asking the API server can fail with.

KubeError
 +- KubeUnavailable    (transient) not reached, timed out, or it is not well
 +- KubeNotFound       (transient: it may be made) there is no such object
 +- KubeForbidden      it does not know us, or we may not
"""

from __future__ import annotations

from coil.domain.errors import CoilError


class KubeError(CoilError):
    """Root of the API server's failures."""


class KubeUnavailable(KubeError):
    """The API server could not be asked."""

    transient = True


class KubeNotFound(KubeError):
    """There is no such object."""

    transient = True


class KubeForbidden(KubeError):
    """The API server refuses this pod's service account."""
