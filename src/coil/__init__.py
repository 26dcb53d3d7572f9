"""coil: a CNI plugin that gives pods real, routable addresses on pure layer-3 networks."""

__version__ = "0.1.0"
