"""coilctl simulate: what it promises of routes, and that its numbers are those of a real run."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from click.testing import CliRunner, Result

from coil.ctl.main import main
from coil.ctl.simulation.charts import FIGURES


def simulate(*words: str) -> Result:
    sizes = ["--nodes", "40", "--racks", "5", "--pods", "1500"]
    subnet = [] if "--subnet" in words else ["--subnet", "10.0.0.0/16"]
    return CliRunner().invoke(main, ["simulate", *sizes, *subnet, *words])


def result(*words: str) -> dict[str, object]:
    done = simulate("--output", "json", *words)
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.mark.parametrize("subnet", ["10.0.0.0/16", "10.0.0.0/16,fd00::/112", "fd00::/64"])
def test_a_spine_has_a_route_for_each_rack_and_hardly_more(subnet: str) -> None:
    found = result("--subnet", subnet)
    summary, samples = found["summary"], found["samples"]
    families = 1 + ("," in subnet)
    assert summary["pods_refused"] == 0
    assert summary["spine_routes"] <= 5 * families * 1.02
    assert summary["spine_routes_without_aggregates"] >= 80 * families
    most = max(samples, key=lambda sample: sample["pods"])
    assert most["pods"] == 1500
    assert most["blocks"] * 32 >= 1500
    assert samples[-1]["pods"] == 375
    assert samples[-1]["blocks"] < most["blocks"]


def test_the_same_seed_is_the_same_run_and_another_is_another() -> None:
    first, again, other = (result("--churn", "0.2", "--seed", seed) for seed in "112")
    assert first == again
    assert first["samples"] != other["samples"]


def test_a_pool_that_is_full_refuses_pods_and_says_how_many() -> None:
    found = result("--subnet", "10.0.0.0/21", "--pods", "2000", "--churn", "0")
    most = max(found["samples"], key=lambda sample: sample["pods"])
    assert most["blocks"] == 64
    assert most["pods"] + found["summary"]["pods_refused"] == 2000
    assert found["summary"]["blocks_outside_ranges"] > 0


def test_curves_are_shown_and_drawn(tmp_path: Path) -> None:
    picture = tmp_path / "curves.svg"
    done = simulate("--churn", "0", "--svg", str(picture))
    assert done.exit_code == 0
    curves = [name for curves in FIGURES.values() for name in curves]
    assert all(name in done.stdout for name in (*FIGURES, *curves))
    drawn = ET.parse(picture).getroot().iter("{http://www.w3.org/2000/svg}path")
    assert sum("stroke" in path.attrib for path in drawn) >= len(curves)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--racks", "41"), "fewer --racks"),
        (("--subnet", "10.0.0.0/27"), "larger --subnet"),
        (("--subnet", "10.0.0.0/24", "--pods", "300"), "larger --subnet"),
        (("--subnet", "10.0.0.1/16"), "10.0.0.0/16"),
        (("--subnet", "10.0.0.0/16", "--subnet", "10.0.1.0/24"), "overlap"),
        (("--nodes", "0"), "0 is not in the range"),
        (("--churn", "-1"), "churn"),
        (("--churn", "nan"), "churn must be a number"),
        (("--svg", "/nowhere/x.svg"), "/nowhere"),
    ],
)
def test_what_cannot_be_is_refused_in_words(words: tuple[str, ...], says: str) -> None:
    done = simulate(*words)
    assert done.exit_code == 2
    assert says in done.output
    assert "Traceback" not in done.output
