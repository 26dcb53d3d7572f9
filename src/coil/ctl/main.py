"""The command line of coilctl."""

from __future__ import annotations

import functools

import click
from click.shell_completion import get_completion_class

from coil import __version__
from coil.ctl import audit, conflist, doctor, explain, router_config, simulate
from coil.ctl.address import address_group
from coil.ctl.block import block_group
from coil.ctl.common import Context, common_options, verb
from coil.ctl.node import node_group
from coil.ctl.pool import pool_group
from coil.ctl.rack import rack_group
from coil.process import logging


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="coilctl")
@functools.partial(common_options, from_environment=True)
def main() -> None:
    """Operate coil: pools and blocks through the store, this node through coild.

    These options can stand before or after the verb, and in between.
    """
    logging.configure(level="warning")


for group in (pool_group, block_group, address_group, node_group, rack_group):
    main.add_command(group)
audit.add_to(main)
explain.add_to(main)
conflist.add_to(main)
doctor.add_to(main)
simulate.add_to(main)
router_config.add_to(main)


@verb(main, "completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(context: Context, shell: str) -> None:
    """Print shell completion; for bash: source <(coilctl completion bash)."""
    del context
    found = get_completion_class(shell)
    if found is not None:
        click.echo(found(main, {}, "coilctl", "_COILCTL_COMPLETE").source())


if __name__ == "__main__":
    main(prog_name="coilctl")
