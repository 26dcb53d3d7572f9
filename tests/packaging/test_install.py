"""make install and uninstall."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from coil import __version__

# An installation is some thousand files, and the packages may come over a slow line.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = {
    "PREFIX": "opt/coil",
    "LINK_DIR": "links",
    "CNI_BIN_DIR": "cni/bin",
    "CNI_ETC_DIR": "cni/net.d",
    "UNIT_DIR": "units",
}


PROGRAMS = (
    "coild", "coil-controller", "coil-router", "coil-aggregates", "coil-gobgp", "coilctl",
)  # fmt: skip


def run(*command, **more):
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280, **more)


def make(target, *, environment=None, **variables):
    words = (f"{name}={value}" for name, value in variables.items())
    done = run("make", "-s", target, *words, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def places(tmp_path):
    """Everything goes below one folder, so that the programs can run from where they are."""
    return {name: tmp_path / folder for name, folder in FOLDERS.items()}


def everything_below(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


def installed_programs_say_their_version(places, *links):
    programs = (places["PREFIX"] / "bin" / name for name in PROGRAMS)
    for program in (*programs, *links):
        done = run(program, "--version", env={"PATH": "/usr/bin:/bin"})
        assert done.stdout == f"{program.name}, version {__version__}\n", done.stderr


def test_what_install_puts_on_a_host_runs_and_uninstall_takes_all_of_it_off(tmp_path, places):
    foreign = places["CNI_ETC_DIR"] / "99-other.conf"
    foreign.parent.mkdir(parents=True)
    foreign.write_text("{}")
    before = everything_below(tmp_path)
    make("install", **places)
    installed_programs_say_their_version(places, places["LINK_DIR"] / "coilctl")
    answer = run(places["CNI_BIN_DIR"] / "coil", input="{}", env={"CNI_COMMAND": "VERSION"})
    assert "1.0.0" in json.loads(answer.stdout)["supportedVersions"]
    conf = json.loads((places["CNI_ETC_DIR"] / "10-coil.conflist").read_text())
    assert conf["plugins"][0] == {"type": "coil"}
    for program in PROGRAMS[:-1]:
        unit = (places["UNIT_DIR"] / f"{program}.service").read_text()
        assert f"ExecStart={places['PREFIX']}/bin/{program}\n" in unit
        assert "@" not in unit
        assert "\nRestartPreventExitStatus=78\n" in unit
    make("install", **places)  # again: an upgrade
    installed_programs_say_their_version(places)
    make("uninstall", PREFIX=places["PREFIX"])
    assert everything_below(tmp_path) == before
    assert foreign.read_text() == "{}"


def test_what_is_installed_runs_without_the_checkout(places):
    make("install", **places)
    hide = 'mount -t tmpfs none "$0" && test ! -e "$0/src" && exec "$1" --help'
    for program in PROGRAMS:
        path = places["PREFIX"] / "bin" / program
        done = run("unshare", "--mount", "sh", "-c", hide, ROOT, path)
        assert (done.returncode, done.stderr) == (0, "")
        assert f"Usage: {program} " in done.stdout
    completed_by_bash_is_a_noun_of_coilctl(places["PREFIX"] / "bin")


def completed_by_bash_is_a_noun_of_coilctl(programs):
    words = (
        "source <(coilctl completion bash); COMP_WORDS=(coilctl po); COMP_CWORD=1; "
        '_coilctl_completion coilctl; echo "${COMPREPLY[@]}"'
    )
    done = run("bash", "-c", words, env={"PATH": f"{programs}:/usr/bin:/bin"})
    assert (done.stdout, done.stderr) == ("pool\n", "")


def test_staging_puts_all_below_destdir_for_programs_that_will_be_elsewhere(tmp_path):
    stage = tmp_path / "not/there"
    make("install", DESTDIR=stage)
    assert everything_below(stage) >= {
        "opt/coil/bin/coild",
        "opt/coil/bin/coil",
        "opt/cni/bin/coil",
        "etc/cni/net.d/10-coil.conflist",
        "etc/systemd/system/coild.service",
        "usr/local/bin/coilctl",
    }
    link = stage / "usr/local/bin/coilctl"
    assert os.readlink(link) == "/opt/coil/bin/coilctl"
    for text in (stage / "opt/coil/bin/coild", stage / "etc/systemd/system/coild.service"):
        assert "/opt/coil/" in text.read_text()
        assert str(stage) not in text.read_text()
    make("uninstall", DESTDIR=stage)
    assert everything_below(stage) == set()


def test_staging_asks_nothing_of_this_machine_but_looks_for_plugins_in_the_stage(tmp_path):
    asked, programs = tmp_path / "asked", tmp_path / "path"
    programs.mkdir()
    for runtime in ("containerd", "podman"):
        (programs / runtime).write_text(f"#!/bin/sh\necho $0 $* >>{asked}\necho v2.2.9\n")
        (programs / runtime).chmod(0o755)
    here, stage = tmp_path / "cni", tmp_path / "stage"
    for folder, plugin in ((here, "tuning"), (Path(f"{stage}{here}"), "portmap")):
        folder.mkdir(parents=True)
        (folder / plugin).write_text(f"#!/bin/sh\necho $0 >>{asked}\n")
        (folder / plugin).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    make("install", DESTDIR=stage, CNI_BIN_DIR=here, environment={**os.environ, "PATH": path})
    conf = json.loads((stage / "etc/cni/net.d/10-coil.conflist").read_text())
    assert conf["cniVersion"] == "1.0.0"
    assert [plugin["type"] for plugin in conf["plugins"]] == ["coil", "portmap"]
    assert not asked.exists(), asked.read_text()


def test_a_prefix_that_others_use_keeps_their_things_and_a_coilctl_that_runs(tmp_path, places):
    """As PREFIX=/usr/local has it: programs lie where the link would be."""
    places = {**places, "PREFIX": tmp_path / "usr", "LINK_DIR": tmp_path / "usr/bin"}
    theirs = places["PREFIX"] / "share/doc/theirs"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("theirs")
    before = everything_below(tmp_path)
    programs = places["PREFIX"] / "bin"
    programs.mkdir()
    (programs / "coilctl.new").symlink_to(programs / "coilctl")  # of an install that was cut short
    make("install", **places)
    installed_programs_say_their_version(places)
    assert {p.name for p in (places["PREFIX"] / "share").iterdir()} == {"coil", "doc"}
    assert list(theirs.parent.iterdir()) == [theirs]
    unit = (places["UNIT_DIR"] / "coild.service").read_text()
    assert Path(unit.split("Documentation=file:")[1].split()[0]).exists()
    make("uninstall", PREFIX=places["PREFIX"])
    assert everything_below(tmp_path) == before | {"usr/bin"}


def as_older_versions_put_it(places):
    """What lies in share/coil now lay loose in share."""
    share = places["PREFIX"] / "share"
    manifest = share / "coil/manifest"
    lines = manifest.read_text().replace(f"{share}/coil/", f"{share}/").splitlines()
    manifest.write_text("".join(f"{line}\n" for line in dict.fromkeys(lines)))
    for path in (share / "coil").iterdir():
        path.rename(share / path.name)
    (share / "coil").rmdir()


def test_an_installation_of_an_older_version_is_upgraded_and_removed_whole(tmp_path, places):
    before = everything_below(tmp_path)
    make("install", **places)
    new = everything_below(tmp_path)
    as_older_versions_put_it(places)
    make("uninstall", PREFIX=places["PREFIX"])
    assert everything_below(tmp_path) == before
    make("install", **places)
    as_older_versions_put_it(places)
    assert "not as we put it" not in make("install", **places)
    assert everything_below(tmp_path) == new
    make("uninstall", PREFIX=places["PREFIX"])
    assert everything_below(tmp_path) == before


def test_a_changed_configuration_survives_an_upgrade_and_is_moved_aside_at_the_end(
    tmp_path, places
):
    make("install", **places)
    conflist = places["CNI_ETC_DIR"] / "10-coil.conflist"
    changed = conflist.read_text().replace('"coil"', '"mine"', 1)
    conflist.write_text(changed)
    assert f"{conflist} is not as we put it" in make("install", **places)
    assert conflist.read_text() == changed
    saved = conflist.with_name("10-coil.conflist.saved")
    assert str(saved) in make("uninstall", PREFIX=places["PREFIX"])
    assert saved.read_text() == changed
    assert {p for p in tmp_path.rglob("*") if p.is_file()} == {saved}


def test_an_untouched_configuration_of_an_older_version_is_replaced(places):
    make("install", **places)
    conflist = places["CNI_ETC_DIR"] / "10-coil.conflist"
    new = conflist.read_text()
    for copy in (conflist, places["PREFIX"] / "share/coil/10-coil.conflist"):
        copy.write_text(new.replace('"coil"', '"older"', 1))
    assert "not as we put it" not in make("install", **places)
    assert conflist.read_text() == new


def test_a_configuration_that_was_there_before_coil_is_never_touched(places):
    conflist = places["CNI_ETC_DIR"] / "10-coil.conflist"
    conflist.parent.mkdir(parents=True)
    conflist.write_text("somebody's")
    assert f"{conflist} is not as we put it" in make("install", **places)
    make("uninstall", PREFIX=places["PREFIX"])
    assert conflist.read_text() == "somebody's"


def test_an_upgrade_that_fails_leaves_what_runs(places):
    make("install", **places)
    done = run(
        "make",
        "-s",
        "install",
        *(f"{name}={value}" for name, value in places.items()),
        env={**os.environ, "PIP_NO_INDEX": "1", "PIP_NO_CACHE_DIR": "1", "PIP_FIND_LINKS": ""},
    )
    assert done.returncode != 0
    installed_programs_say_their_version(places, places["LINK_DIR"] / "coilctl")
    make("uninstall", PREFIX=places["PREFIX"])
    assert not any(p.is_file() for p in places["PREFIX"].parent.rglob("*"))


def test_uninstall_of_nothing_says_so_and_fails(tmp_path):
    done = run("make", "-s", "uninstall", f"PREFIX={tmp_path}/opt")
    assert done.returncode != 0
    assert "nothing to remove" in done.stderr
