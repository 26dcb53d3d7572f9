"""coil-lab web: a page on loopback that shows a lab as it is, and breaks and mends it by a click.

``server`` answers browsers, ``board`` is what all of them see, ``watch`` and ``pings`` write on it;
``changes`` tells two states apart, in words. ``page`` is what browsers are given, as it is.
"""
