"""coilctl conflist: the network configuration for the runtime of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from coil.cni import versions
from coil.cni.netconf import parse_netconf
from coil.ctl.common import DEFAULT_SOCKET, Context, verb
from coil.ctl.machine import CniPaths, best_version, cni_paths, versions_of_plugin
from coil.domain.errors import RequestError

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
        help="[default: the newest that the runtime found here and the chained plugins take]",
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
        default=None,
        envvar="COIL_CNI_BIN_DIR",
        help="Where the runtime looks for the chained plugins. "
        "[env COIL_CNI_BIN_DIR; default: as containerd is configured]",
    )
    def conflist(
        context: Context,
        name: str,
        cni_version: str | None,
        pool: str,
        mtu: int,
        cni_bin_dir: Path | None,
        *,
        chain: bool,
    ) -> None:
        """Print a conflist for the container runtime of this machine."""
        socket = _socket_for_plugin(context.socket)
        keys = {"type": "coil", "socket": socket, "pool": pool, "mtu": mtu}
        coil = {key: value for key, value in keys.items() if value}
        paths = CniPaths((cni_bin_dir,)) if cni_bin_dir else cni_paths()
        chained = list(_installed(paths)) if chain else []
        version = cni_version or _version_for([path for _plugin, path in chained])
        head = {"cniVersion": version, "name": name}
        parse_netconf({**head, **coil})  # what coild would refuse is refused here
        plugins = [coil, *(plugin for plugin, _path in chained)]
        click.echo(json.dumps({**head, "plugins": plugins}, indent=2))


def _socket_for_plugin(path: Path) -> str | None:
    """What the plugin is told of coild's socket; nothing of the default. Raises RequestError."""
    if not path.is_absolute():
        raise RequestError(
            f"--socket {str(path)!r} must be an absolute path: the runtime starts the plugin where "
            "it likes"
        )
    return str(path) if str(path) != DEFAULT_SOCKET else None


def _installed(paths: CniPaths) -> Iterator[tuple[dict[str, object], Path]]:
    """Those of the chain that the runtime would find: one it cannot find fails every pod."""
    for plugin in _CHAIN:
        path = paths.find_plugin(str(plugin["type"]))
        if path is not None:
            yield plugin, path


def _version_for(chained: list[Path]) -> str:
    """The newest version that the runtime and the chained plugins take, and why it is not newer."""
    best = best_version()
    spoken = {path: found for path in chained if (found := versions_of_plugin(path))}
    fitting = [
        version
        for version in versions.SUPPORTED
        if versions.is_at_least(best, version) and all(version in v for v in spoken.values())
    ]
    chosen = fitting[-1] if fitting else best
    old = ", ".join(str(path) for path, found in spoken.items() if best not in found)
    if old:
        click.echo(
            f"CNI {chosen}, not {best} as the runtime takes: {old} too old for that; with newer "
            "ones, or --no-chain, the runtime can ask coil whether it is well",
            err=True,
        )
    return chosen
