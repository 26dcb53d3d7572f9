"""Draws samples: a line of blocks for each figure in the terminal, and a page of curves as SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from coil.ctl.simulation.plan import Sample
from coil.domain.errors import ConfigError

_STEPS = " ▁▂▃▄▅▆▇█"
_WIDTH = 40

Figure = Callable[[Sample], float]
FIGURES: Mapping[str, Mapping[str, Figure]] = {
    "routes at a spine": {
        "without aggregates": lambda sample: sample.routes.spine_plain,
        "with aggregates": lambda sample: sample.routes.spine,
    },
    "routes at a ToR": {
        "without aggregates": lambda sample: sample.routes.spine_plain,
        "with aggregates": lambda sample: sample.routes.tor,
    },
    "routes at a node": {
        "without aggregates": lambda sample: sample.routes.spine_plain,
        "with aggregates": lambda sample: sample.routes.node,
    },
    "pods and blocks": {
        "pods": lambda sample: sample.pods,
        "blocks": lambda sample: sample.blocks,
    },
    "use in %": {
        "addresses of owned blocks": lambda sample: 100 * sample.block_use,
        "blocks of the pool": lambda sample: 100 * sample.pool_use,
    },
    "fragmentation": {
        "blocks outside of their rack's ranges": lambda sample: sample.routes.outside,
        "most prefixes of a rack": lambda sample: sample.routes.rack,
    },
    "conflicts": {
        "claims others were quicker than": lambda sample: sample.conflicts,
    },
}
"""Charts by title, and the curves in each."""


def show(samples: Sequence[Sample]) -> None:
    """Print each curve over time, with its last and its highest value."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("FIGURE")
    for heading in ("", "END", "MOST"):
        table.add_column(heading, justify="right" if heading else "left")
    # A phase begins as the one before it ended.
    table.add_column(f"{samples[0].second} TO {samples[-1].second} SECONDS", no_wrap=True)
    for title, curves in FIGURES.items():
        for number, (name, figure) in enumerate(curves.items()):
            values = [figure(sample) for sample in samples]
            cells = (f"{values[-1]:,.0f}", f"{max(values):,.0f}", _line(samples, values))
            table.add_row("" if number else title, name, *cells)
        table.add_section()
    console = Console()
    Console(width=max(console.width, 120)).print(table)


def write_svg(samples: Sequence[Sample], path: Path) -> None:
    """Draw all charts into one file. Raises ConfigError when it cannot be written."""
    import leather

    grid = leather.Grid()
    for title, curves in FIGURES.items():
        chart = leather.Chart(title)
        chart.add_x_axis(name="minutes")
        for name, figure in curves.items():
            chart.add_line([(s.second / 60, figure(s)) for s in samples], name=name)
        grid.add_one(chart)
    try:
        path.write_text(grid.to_svg(width=1200, height=1500))
    except OSError as exc:
        raise ConfigError(f"cannot write {path}: {exc.strerror}") from exc


def _line(samples: Sequence[Sample], values: Sequence[float]) -> str:
    """One character for each part of the time: the highest of what was there."""
    top, end = max(values) or 1, samples[-1].second or 1
    cells = [0.0] * _WIDTH
    for sample, following, value in zip(samples, (*samples[1:], samples[-1]), values, strict=True):
        begin = sample.second * _WIDTH // end
        for cell in range(begin, max(begin + 1, following.second * _WIDTH // end)):
            if cell < _WIDTH:
                cells[cell] = max(cells[cell], value)
    return "".join(_STEPS[round(cell / top * (len(_STEPS) - 1))] for cell in cells)
