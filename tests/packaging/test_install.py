"""make install and uninstall."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

from coil import __version__

ROOT = Path(__file__).resolve().parents[2]
PLACES = {
    "PREFIX": "opt",
    "LINK_DIR": "links",
    "CNI_BIN_DIR": "cni/bin",
    "CNI_ETC_DIR": "cni/net.d",
    "UNIT_DIR": "units",
}


def make(target, base, **more):
    """Everything goes below ``base``, so that the programs can run from where they are."""
    places = {name: str(base / folder) for name, folder in PLACES.items()}
    done = subprocess.run(
        ["make", "-s", target, *(f"{k}={v}" for k, v in {**places, **more}.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "LINK_DIR": str(base / "links")},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_below(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_symlink() or p.is_file()}


def test_what_install_puts_on_a_host_runs_and_uninstall_takes_it_off(tmp_path):
    foreign = tmp_path / "cni" / "net.d" / "99-other.conf"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("{}")
    make("install", tmp_path)
    for program in ("coild", "coilctl"):
        shown = subprocess.run(
            [tmp_path / "opt/bin" / program, "--version"],
            capture_output=True,
            text=True,
            timeout=20,
            env={"PATH": "/usr/bin:/bin"},
        )
        assert shown.stdout.strip() == f"{program}, version {__version__}"
    assert os.access(tmp_path / "cni/bin/coil", os.X_OK)
    conf = json.loads((tmp_path / "cni/net.d/10-coil.conflist").read_text())
    assert conf["plugins"][0] == {"type": "coil"}
    assert f"{tmp_path}/opt/bin/coild" in (tmp_path / "units/coild.service").read_text()
    make("install", tmp_path)  # again: an upgrade
    make("uninstall", tmp_path)
    assert files_below(tmp_path) == {"cni/net.d/99-other.conf"}
    assert foreign.read_text() == "{}"


def test_a_changed_configuration_is_kept(tmp_path):
    make("install", tmp_path)
    conflist = tmp_path / "cni/net.d/10-coil.conflist"
    changed = conflist.read_text().replace('"coil"', '"mine"', 1)
    conflist.write_text(changed)
    said = make("install", tmp_path)
    assert "kept" in said
    assert conflist.read_text() == changed


def test_uninstall_of_nothing_says_so(tmp_path):
    done = subprocess.run(
        ["make", "-s", "uninstall", f"PREFIX={tmp_path}/opt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode != 0
    assert "nothing to remove" in done.stderr
