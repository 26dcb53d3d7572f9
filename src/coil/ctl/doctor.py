"""coilctl doctor: is this machine fit for coil, and is coil well? Reads only."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from coil import __version__
from coil.cni.versions import ABSENT
from coil.ctl.client import ask_object
from coil.ctl.common import EXIT_FAILED, Context, verb, with_store
from coil.ctl.machine import (
    CniPaths,
    best_version,
    cni_paths,
    version_of_program,
    versions_of_plugin,
)
from coil.ctl.output import show_rows
from coil.domain.errors import CoilError
from coil.store.errors import StoreAbsent

_KERNEL = (5, 10)
"""Oldest kernel coil is meant for: strict netlink dumps (4.20), Debian 11's and older LTS's."""
_PLUGINS = (
    ("coil", "fail", "make install CNI_BIN_DIR={}"),
    ("loopback", "warn", "Debian: containernetworking-plugins has it in /usr/lib/cni"),
)
_RUNTIMES = ("containerd", "crio", "podman")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. ``verdict`` is ok, warn or fail."""

    check: str
    verdict: str
    found: str
    advice: str = ""


def add_to(group: click.Group) -> None:
    """Make ``doctor`` a command of ``group``."""

    @verb(group, "doctor")
    @click.option(
        "--cni-bin-dir",
        type=click.Path(path_type=Path),
        default=None,
        envvar="COIL_CNI_BIN_DIR",
        help="Where the runtime looks for plugins. "
        "[env COIL_CNI_BIN_DIR; default: as containerd is configured]",
    )
    @click.option(
        "--cni-conf-dir",
        type=click.Path(path_type=Path),
        default=None,
        envvar="COIL_CNI_CONF_DIR",
        help="Where the runtime looks for configurations. "
        "[env COIL_CNI_CONF_DIR; default: as containerd is configured, else /etc/cni/net.d]",
    )
    def doctor(context: Context, cni_bin_dir: Path | None, cni_conf_dir: Path | None) -> None:
        """Look at kernel, sysctls, runtime, configuration, store and coild; give a verdict."""
        paths = cni_paths()
        plugins = (cni_bin_dir,) if cni_bin_dir else paths.plugins
        paths = CniPaths(plugins, cni_conf_dir or paths.configurations)
        findings = [
            *_machine(),
            *_runtime(paths),
            _store(context),
            *_daemon(context),
        ]
        rows = [
            {"check": f.check, "verdict": f.verdict, "found": f.found, "advice": f.advice}
            for f in findings
        ]
        columns = {"check": "CHECK", "verdict": "VERDICT", "found": "FOUND", "advice": "ADVICE"}
        show_rows(rows, context.output, columns, "")
        failed = [f.check for f in findings if f.verdict == "fail"]
        if context.output == "table":
            click.echo(f"not fit: {', '.join(failed)}" if failed else "fit for coil")
        if failed:
            sys.exit(EXIT_FAILED)


def _machine() -> Iterator[Finding]:
    match = re.match(r"(\d+)\.(\d+)", platform.release())
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    yield Finding(
        "kernel",
        "ok" if version >= _KERNEL else "fail",
        platform.release(),
        "" if version >= _KERNEL else f"use Linux {_KERNEL[0]}.{_KERNEL[1]} or newer",
    )
    root = os.geteuid() == 0
    yield Finding("permission", "ok" if root else "fail", f"uid {os.geteuid()}",
                  "" if root else "run as root")  # fmt: skip
    for name in ("net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"):
        value = _sysctl(name)
        advice = "" if value == "1" else "coild switches it on when a block of the family comes"
        yield Finding(name.replace("/", "."), "ok" if value == "1" else "warn", value, advice)
    yield _ipv6()


def _ipv6() -> Finding:
    switches = {name: _sysctl(f"net/ipv6/conf/{name}/disable_ipv6") for name in ("lo", "default")}
    if "absent" in switches.values():
        found = "switched off at boot (ipv6.disable=1)"
    else:
        off = [name for name, value in switches.items() if value != "0"]
        found = f"switched off (disable_ipv6 of {', '.join(off)})" if off else ""
    return Finding("IPv6", "warn" if found else "ok", found or "enabled",
                   "pools with IPv6 subnets give nothing here" if found else "")  # fmt: skip


def _sysctl(name: str) -> str:
    try:
        return Path("/proc/sys", name).read_text(encoding="ascii").strip()
    except OSError:
        return "absent"


def _runtime(paths: CniPaths) -> Iterator[Finding]:
    found = {name: version_of_program(name) for name in _RUNTIMES}
    there = [version for version in found.values() if version]
    yield Finding("runtime", "ok" if there else "warn", "; ".join(there) or "none on PATH",
                  "" if there else "install containerd or podman")  # fmt: skip
    first = paths.plugins[0]
    for plugin, need, source in _PLUGINS:
        path = paths.find_plugin(plugin)
        runs = path is not None and os.access(path, os.X_OK)
        yield Finding(f"plugin {plugin}", "ok" if runs else need, str(path) if runs else "missing",
                      "" if runs else f"put it into {first} ({source.format(first)})")  # fmt: skip
    yield _configuration(paths)


def _configuration(paths: CniPaths) -> Finding:
    """The lexically first file is the one a runtime uses."""
    directory = paths.configurations
    files = sorted(
        path
        for path in (directory.iterdir() if directory.is_dir() else ())
        if path.suffix in (".conf", ".conflist", ".json")
    )
    advice = f"coilctl conflist > {directory}/10-coil.conflist"
    if not files:
        return Finding("configuration", "fail", f"none in {directory}", advice)
    first, best = files[0], best_version()
    try:
        conf = json.loads(first.read_text(encoding="utf-8"))
        types = [str(plugin.get("type")) for plugin in conf.get("plugins", [conf])]
        version = _version_of(conf, best)
    except (OSError, ValueError, AttributeError, TypeError) as exc:
        return Finding("configuration", "fail", f"{first} cannot be read: {exc}", advice)
    if "coil" not in types:
        return Finding("configuration", "fail", f"{first} comes first and has no coil in it",
                       f"remove it, or: {advice}")  # fmt: skip
    problems = "; ".join(_version_problems(types, version, best, paths))
    if problems:
        return Finding("configuration", "fail", f"{first}: {problems}", advice)
    return Finding("configuration", "ok", f"{first}, cniVersion {version}")


def _version_of(conf: Mapping[str, object], best: str) -> str:
    """The version a runtime takes of a list: the newest it knows of cniVersion and cniVersions."""
    listed = conf.get("cniVersions")
    more = map(str, listed if isinstance(listed, list) else ())
    return max([str(conf.get("cniVersion", ABSENT)), *(v for v in more if v <= best)])


def _version_problems(types: list[str], version: str, best: str, paths: CniPaths) -> Iterator[str]:
    """Why the runtime cannot run these plugins in a list of this version: each fails every pod."""
    if version > best:
        yield f"the runtime here takes cniVersion {best}, not {version}"
    for plugin in types:
        path = paths.find_plugin(plugin)
        if path is None:
            yield f"no plugin {plugin} in {', '.join(map(str, paths.plugins))}"
        elif version not in (versions_of_plugin(path) or [version]):
            yield f"{path} does not take cniVersion {version}"


def _store(context: Context) -> Finding:
    try:
        pools = with_store(context, lambda store: store.list_pools())
    except StoreAbsent as exc:
        return Finding("store", "warn", exc.message, "coilctl pool create default SUBNET")
    except CoilError as exc:
        return Finding("store", "fail", exc.message, "see --store")
    names = ", ".join(pool.name for pool in pools)
    if not pools:
        return Finding("store", "warn", f"{context.store} has no pools",
                       "coilctl pool create default SUBNET")  # fmt: skip
    return Finding("store", "ok", f"{context.store}: {names}")


def _daemon(context: Context) -> Iterator[Finding]:
    try:
        status = ask_object(context.socket, "GET", "/status")
    except CoilError as exc:
        yield Finding("coild", "fail", exc.message, "systemctl start coild")
        return
    same = status["version"] == __version__
    yield Finding(
        "coild",
        "ok" if same else "warn",
        f"{status['version']} as node {status['node']}",
        "" if same else f"coilctl is {__version__}: restart coild after an upgrade",
    )
    problems = status.get("problems")
    for problem in problems if isinstance(problems, list) else []:
        yield Finding(f"problem: {problem['kind']}", "fail", str(problem["problem"]),
                      str(problem["subject"]))  # fmt: skip
