"""coilctl conflist: the network configuration for the runtime of this machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import click

from coil.cni import versions
from coil.cni.netconf import parse_netconf
from coil.ctl.common import DEFAULT_SOCKET, Context, verb
from coil.ctl.machine import version_of_program

_CHAIN: tuple[dict[str, object], ...] = (
    {"type": "tuning"},
    {"type": "bandwidth", "capabilities": {"bandwidth": True}},
    {"type": "portmap", "capabilities": {"portMappings": True}},
)


def add_to(group: click.Group) -> None:
    """Make ``conflist`` a command of ``group``."""

    @verb(group, "conflist")
    @click.option("--name", default="coil", show_default=True, help="Name of the network.")
    @click.option(
        "--cni-version",
        type=click.Choice(versions.SUPPORTED),
        default=None,
        help="[default: the newest that the runtime found here takes]",
    )
    @click.option("--pool", default="", help="Give addresses of this pool only.")
    @click.option("--mtu", type=int, default=0, help="[default: that of the uplink]")
    @click.option(
        "--chain/--no-chain",
        default=True,
        show_default=True,
        help="Let tuning, bandwidth and portmap follow coil, where they are installed.",
    )
    @click.option(
        "--cni-bin-dir",
        type=click.Path(path_type=Path),
        default=Path("/opt/cni/bin"),
        envvar="COIL_CNI_BIN_DIR",
        help="Where the chained plugins are looked for. "
        "[env COIL_CNI_BIN_DIR; default /opt/cni/bin]",
    )
    def conflist(
        context: Context,
        name: str,
        cni_version: str | None,
        pool: str,
        mtu: int,
        cni_bin_dir: Path,
        *,
        chain: bool,
    ) -> None:
        """Print a conflist for the container runtime of this machine."""
        socket = str(context.socket) if str(context.socket) != DEFAULT_SOCKET else None
        keys = {"type": "coil", "socket": socket, "pool": pool, "mtu": mtu}
        coil = {key: value for key, value in keys.items() if value}
        following = [p for p in _CHAIN if chain and _is_installed(str(p["type"]), cni_bin_dir)]
        head = {"cniVersion": cni_version or best_version(), "name": name}
        parse_netconf({**head, **coil})  # what coild would refuse is refused here
        click.echo(json.dumps({**head, "plugins": [coil, *following]}, indent=2))


def best_version() -> str:
    """The newest CNI version that every runtime found on this machine takes.

    containerd before 2.0 carries a libcni that refuses results of 1.1.0, and podman before 5.0
    one that knows 1.0.0 at most. A machine without a runtime gets what all of today's take.
    """
    limits = []
    for program, first_new in (("containerd", (2, 0)), ("podman", (5, 0))):
        if shutil.which(program):
            limits.append("1.1.0" if _version(program) >= first_new else "1.0.0")
    return min(limits, default="1.0.0")


def _version(program: str) -> tuple[int, ...]:
    match = re.search(r"(\d+)\.(\d+)", version_of_program(program))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _is_installed(plugin: str, cni_bin_dir: Path) -> bool:
    return any((where / plugin).exists() for where in (cni_bin_dir, Path("/usr/lib/cni")))
