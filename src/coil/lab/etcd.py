"""etcd for labs and tests: one member or several, each a process to be killed or suspended."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from coil.lab.errors import LabError
from coil.lab.host import Host, end, run
from coil.lab.suspend import resume, suspend
from coil.lab.wait import until

_READY_SECONDS = 30.0
_STARTS = 3
_PORT_TAKEN = "address already in use"
"""etcd's words for it."""


@dataclass
class EtcdMember:
    """One member. It listens on ``address``, in ``host`` (or where this process is)."""

    name: str
    address: str
    directory: Path
    host: Host | None = None
    client_port: int = 2379
    peer_port: int = 2380
    client_options: tuple[str, ...] = ()
    """What etcdctl is given to be let in. Where it is, clients are served by TLS."""
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def client_url(self) -> str:
        """Where clients find it."""
        scheme = "https" if self.client_options else "http"
        return f"{scheme}://{self._location(self.client_port)}"

    @property
    def peer_url(self) -> str:
        """Where the other members find it."""
        return f"http://{self._location(self.peer_port)}"

    @property
    def endpoint(self) -> str:
        """As it stands in the URL of a store."""
        return self._location(self.client_port)

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def _location(self, port: int) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{port}"

    @property
    def log(self) -> Path:
        """What it says."""
        return self.directory / "etcd.log"

    def command(self, members: Sequence[EtcdMember], *options: str) -> list[str]:
        """What starts it as one of ``members``. What it knew when it ended it knows again."""
        return [
            "etcd", f"--name={self.name}", f"--data-dir={self.directory}/data",
            f"--listen-client-urls={self.client_url}",
            f"--advertise-client-urls={self.client_url}",
            f"--listen-peer-urls={self.peer_url}",
            f"--initial-advertise-peer-urls={self.peer_url}",
            "--initial-cluster=" + ",".join(f"{m.name}={m.peer_url}" for m in members),
            "--auto-compaction-retention=1h", "--logger=zap", "--log-level=warn", *options,
        ]  # fmt: skip

    def start(self, members: Sequence[EtcdMember], *options: str) -> None:
        """Start it as one of ``members``; don't wait."""
        self.directory.mkdir(parents=True, exist_ok=True)
        argv = self.command(members, *options)
        with self.log.open("ab") as log:
            if self.host:
                self._process = self.host.start(*argv, log=log)
            else:
                self._process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
                )

    def wait_ready(self) -> None:
        """Until it serves, together with a majority. Raises LabError with its log."""
        until(self.serves, f"etcd {self.name} serves", _READY_SECONDS, pause=0.1)

    def serves(self) -> bool:
        """Whether it does, together with a majority. Raises LabError with its log if it ended."""
        if self.pid is None:
            text = self.log.read_text()
            raise LabError(f"etcd {self.name} ended at once: {text[-2000:]}")
        words = ("--command-timeout=2s", "endpoint", "health")
        return self.ctl(*words, check=False).returncode == 0

    def ctl(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run etcdctl on it."""
        argv = ["etcdctl", f"--endpoints={self.client_url}", *self.client_options, *words]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        if self.host:
            return self.host.run(*argv, check=check, env=environment)
        return run(argv, check=check, env=environment)

    def counters(self) -> dict[str, float]:
        """What it counts of itself: name with labels, as Prometheus has them, to value."""
        argv = ["curl", "-sf", "--max-time", "5", f"{self.client_url}/metrics"]
        lines = (self.host.run(*argv) if self.host else run(argv)).stdout.splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def calls(self, method: str) -> int:
        """How many calls of a method (Txn, Range, Watch...) it was asked for."""
        found = self.counters().items()
        wanted = f'grpc_method="{method}"'
        return sum(int(v) for k, v in found if "server_started_total" in k and wanted in k)

    def suspend(self) -> None:
        """It keeps silent from now on, as a host does that hangs."""
        if self.pid is not None:
            suspend(self.pid)

    def resume(self) -> None:
        """It goes on. Idempotent."""
        if self.pid is not None:
            resume(self.pid)

    def kill(self) -> None:
        """End it with SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """End it, also when it is suspended. Idempotent."""
        if self._process is not None:
            self.resume()
            end(self._process)


@contextlib.contextmanager
def local_etcd(
    directory: Path,
    count: int = 1,
    *options: str,
    client_options: tuple[str, ...] = (),
    find_ports: Callable[[int], list[int]] | None = None,
) -> Iterator[list[EtcdMember]]:
    """A cluster on this machine's loopback; its processes and data are gone at the end.

    ``find_ports``: ``free_ports``, if not told. Who lost one to another program takes new ones.
    """
    members: list[EtcdMember] = []
    try:
        for turn in range(1, _STARTS + 1):
            ports = (find_ports or free_ports)(2 * count)
            members = _members(directory, ports, client_options)
            try:
                _start(members, *options)
                break
            except LabError:
                taken = any(_PORT_TAKEN in member.log.read_text() for member in members)
                if not taken or turn == _STARTS:
                    raise
                _remove(directory, members)
        yield members
    finally:
        _remove(directory, members)


def _members(
    directory: Path, ports: Sequence[int], client_options: tuple[str, ...]
) -> list[EtcdMember]:
    return [
        EtcdMember(
            f"m{number}",
            "127.0.0.1",
            directory / f"m{number}",
            client_port=client_port,
            peer_port=peer_port,
            client_options=client_options,
        )
        for number, (client_port, peer_port) in enumerate(zip(ports[::2], ports[1::2], strict=True))
    ]


def _start(members: Sequence[EtcdMember], *options: str) -> None:
    for member in members:
        member.start(members, *options)
    until(lambda: _all_serve(members), "etcd serves", _READY_SECONDS, pause=0.1)


def _all_serve(members: Sequence[EtcdMember]) -> bool:
    # All are asked: without one that ended at once the others may have no majority.
    return [member.serves() for member in members].count(False) == 0


def _remove(directory: Path, members: Sequence[EtcdMember]) -> None:
    for member in members:
        member.stop()
    shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def etcd_in(host: Host) -> Iterator[EtcdMember]:
    """One member that only ``host`` reaches. Its data is in memory, and gone at the end."""
    with tempfile.TemporaryDirectory(prefix="coil-etcd-", dir="/dev/shm") as folder:
        member = EtcdMember("m0", "127.0.0.1", Path(folder), host)
        try:
            member.start([member])
            member.wait_ready()
            yield member
        finally:
            member.stop()


def free_ports(count: int) -> list[int]:
    """Different TCP ports of 127.0.0.1 that nobody had a moment ago."""
    with contextlib.ExitStack() as held:
        probes = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
