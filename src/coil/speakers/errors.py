"""What can go wrong between us and a routing daemon.

CoilError
 +- SpeakerError
     +- SpeakerUnavailable    (transient) nobody answers
     +- SpeakerRefused        it answered that it will not
"""

from __future__ import annotations

from coil.domain.errors import CoilError


class SpeakerError(CoilError):
    """Root of what is said about a routing daemon."""


class SpeakerUnavailable(SpeakerError):
    """No routing daemon answers where one was looked for."""

    transient = True


class SpeakerRefused(SpeakerError):
    """The daemon answered with an error; its words are in the message."""
