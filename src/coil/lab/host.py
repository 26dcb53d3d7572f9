"""Hosts: network namespaces that play a machine."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from coil.lab.errors import LabError
from coil.lab.wait import until

NAMED = Path("/run/netns")
"""Where ``ip netns`` and podman keep the files of network namespaces."""


@dataclass(frozen=True, slots=True)
class Host:
    """A named network namespace and how to run programs in it.

    Programs are started by nsenter: ``ip netns exec`` would hide the cgroup mounts from them.
    """

    name: str

    @property
    def path(self) -> Path:
        """The namespace's file."""
        return NAMED / self.name

    def inside(self, *argv: str | Path) -> list[str]:
        """The command line that runs ``argv`` in this namespace."""
        return ["nsenter", f"--net={self.path}", *map(str, argv)]

    def run(
        self, *argv: str | Path, check: bool = True, seconds: float = 30.0, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a program to its end. Raises LabError with its output when it fails."""
        return run(self.inside(*argv), check=check, seconds=seconds, **options)

    def start(self, *argv: str | Path, log: IO[bytes], **options: Any) -> subprocess.Popen[bytes]:
        """Start a program in a session of its own, its output going to ``log``."""
        return subprocess.Popen(
            self.inside(*argv),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            **options,
        )

    def ip(self, *words: str) -> Any:
        """What ``ip -j`` says in this namespace."""
        return json.loads(self.run("ip", "-j", *words).stdout or "[]")


def run(
    argv: list[str], *, check: bool = True, seconds: float = 30.0, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end. Raises LabError with its output when it fails or hangs."""
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, timeout=seconds, check=False, **options
        )
    except subprocess.TimeoutExpired as exc:
        raise LabError(f"{' '.join(argv)}: still running after {seconds:.0f} s") from exc
    if check and done.returncode != 0:
        output = (done.stdout + done.stderr).strip()
        raise LabError(f"{' '.join(argv)}: exit status {done.returncode}: {output}")
    return done


@contextlib.contextmanager
def host(prefix: str = "coil") -> Iterator[Host]:
    """A fresh host with loopback up; deleted at the end, whatever happened.

    Its name is ``prefix`` and something random, so that hosts of several processes never collide.
    """
    made = Host(f"{prefix}-{secrets.token_hex(4)}")
    run(["ip", "netns", "add", made.name])
    try:
        made.run("ip", "link", "set", "lo", "up")
        yield made
    finally:
        run(["ip", "netns", "delete", made.name], check=False)


def cable(one: Host, other: Host, *subnets: str, ifname: str = "up0") -> None:
    """Connect two hosts by a link called ``ifname`` at both ends.

    Of each subnet the first host gets the address after the network's own, the other the next.
    The cable goes with either host.
    """
    ends = ("name", ifname, "netns", one.name), ("name", ifname, "netns", other.name)
    run(["ip", "link", "add", *ends[0], "type", "veth", "peer", *ends[1]])
    for place, host_at in enumerate((one, other), start=1):
        for subnet in map(ipaddress.ip_network, subnets):
            # Nobody else is on the wire: duplicate address detection would only take a second.
            nodad = ["nodad"] if subnet.version == 6 else []
            address = f"{subnet[place]}/{subnet.prefixlen}"
            host_at.run("ip", "addr", "add", address, "dev", ifname, *nodad)
        host_at.run("ip", "link", "set", ifname, "up")
    # Where both ends have the same index the kernel takes up to a second to use the carrier, unless
    # somebody reads the link (NetlinkSocket.settle_carrier tells why).
    until(lambda: _carries(one, ifname) and _carries(other, ifname), "the cable carries")


def _carries(host_at: Host, ifname: str) -> bool:
    return bool(host_at.ip("link", "show", ifname)[0]["operstate"] == "UP")


def end(process: subprocess.Popen[bytes], seconds: float = 10.0) -> int:
    """Ask a program to end; kill it when it does not. Returns its exit status."""
    if process.poll() is None:
        process.terminate()
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(seconds)
