"""coil: a CNI plugin that gives pods real, routable addresses on pure layer-3 networks."""

import importlib
import sys

__version__ = "0.1.0"


def _load_structlog_alone() -> None:
    """Load structlog, which loads rich wherever there is one, without rich.

    It would be for a console that no log of coil's goes to, and is a third of the time coild takes
    to start, and 4 MB of its memory. Whoever draws tables loads rich himself.
    """
    rich = sys.modules.get("rich")
    sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        importlib.import_module("structlog")
    finally:
        del sys.modules["rich"]
        if rich is not None:
            sys.modules["rich"] = rich


_load_structlog_alone()
