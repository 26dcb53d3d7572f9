"""Property tests judge results, not the speed of a shared machine."""

from hypothesis import settings

settings.register_profile("coil", deadline=None, print_blob=True)
settings.load_profile("coil")
