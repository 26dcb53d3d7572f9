"""Real parts on one machine, in network namespaces: what the demo and the tests stand on.

Later also the data centre of ``coil-lab``. The only package that may start other programs.
"""
