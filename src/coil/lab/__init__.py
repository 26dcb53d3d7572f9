"""Real parts on one machine, in network namespaces: what the demos and the tests stand on.

``clos`` is the data centre of ``coil-lab``. The only package that may start other programs.
"""
