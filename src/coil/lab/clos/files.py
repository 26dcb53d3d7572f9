"""Where a lab keeps its files: /run/coil-lab/NAME, gone after a reboot as the namespaces are."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from coil.domain.errors import RequestError
from coil.lab.clos.plan import Machine, Shape, is_pod_name, parse_lab_name
from coil.lab.errors import LabError
from coil.lab.host import NAMED, Host

ROOT = Path("/run/coil-lab")
_PREFIX = "coil"
_POD = "pod"


class NoLab(RequestError):
    """There is no lab of this name."""


@dataclass(frozen=True, slots=True)
class PodRecord:
    """A pod as its runtime, which is the lab, knows it: written before the pod is made."""

    name: str
    node: str
    container_id: str
    addresses: tuple[str, ...] = ()
    """What the plugin answered; empty: it has not answered yet."""


@dataclass(frozen=True, slots=True)
class Files:
    """The paths and namespaces of one lab, and what is written down of it."""

    lab: str

    def __post_init__(self) -> None:
        parse_lab_name(self.lab)

    @property
    def directory(self) -> Path:
        """All of the lab's files; it exists while any of the lab may."""
        return ROOT / self.lab

    def of(self, machine: Machine | str) -> Path:
        """The directory of a machine: what would be its file system."""
        return self.directory / str(getattr(machine, "name", machine))

    def conflist(self, node: Machine | str) -> Path:
        """The network configuration that a node's pods are attached by."""
        return self.of(node) / "net.d" / "10-coil.conflist"

    def host(self, machine: Machine | str) -> Host:
        """The network namespace of a machine."""
        return Host(f"{_PREFIX}.{self.lab}.{getattr(machine, 'name', machine)}")

    def pod_host(self, pod: str) -> Host:
        """The network namespace of a pod. No machine's name has a dot in it, nor a lab's."""
        return Host(f"{_PREFIX}.{self.lab}.{_POD}.{pod}")

    def hosts(self) -> list[Host]:
        """Every namespace of this lab there is, also those that nothing else remembers."""
        return [Host(path.name) for path in NAMED.glob(f"{_PREFIX}.{self.lab}.*")]

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Let nobody else change the lab meanwhile; ends with this process, however it ends.

        Makes the directory. It may be deleted in here: whoever waited then makes it anew.
        """
        held = -1
        while held < 0:
            with contextlib.suppress(FileNotFoundError):
                self.directory.mkdir(parents=True, exist_ok=True)
                held = _lock(self.directory, fcntl.LOCK_EX)
        try:
            yield
        finally:
            os.close(held)

    @contextlib.contextmanager
    def shared(self) -> Iterator[Shape]:
        """Let others change parts of the lab, too, but nobody make or end it. Raises NoLab."""
        try:
            held = _lock(self.directory, fcntl.LOCK_SH)
        except FileNotFoundError as exc:
            raise self._no_lab() from exc
        try:
            yield self.get_shape()
        finally:
            os.close(held)

    @contextlib.contextmanager
    def pod_alone(self, name: str) -> Iterator[None]:
        """Let nobody else make or end the pod meanwhile; within ``shared``.

        ``name``: one that a pod can have.
        """
        self._pods.mkdir(exist_ok=True)
        path = self._pods / f"{name}.lock"
        held = _lock(path, fcntl.LOCK_EX, os.O_CREAT)
        try:
            yield
        finally:
            if self.find_pod(name) is None:
                path.unlink(missing_ok=True)
            os.close(held)

    def write_conflist(self, node: Machine, socket: Path) -> None:
        """Write what a container runtime on the node would read; ``socket`` is its coild's."""
        path = self.conflist(node)
        path.parent.mkdir(exist_ok=True)
        plugin = {"type": "coil", "socket": str(socket)}
        _write(path, {"cniVersion": "1.0.0", "name": "coil", "plugins": [plugin]})

    def find_shape(self) -> Shape | None:
        """What the lab was made to be; None when there is no such lab."""
        try:
            found = json.loads((self.directory / "lab.json").read_text(encoding="utf-8"))
            return Shape(**{**found, "families": tuple(found["families"])})
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError, RequestError) as exc:
            raise LabError(
                f"{self.directory}/lab.json tells of no lab that can be ({exc}); remove what is "
                f"there with: coil-lab down --name {self.lab}"
            ) from exc

    def get_shape(self) -> Shape:
        """As ``find_shape``. Raises NoLab."""
        shape = self.find_shape()
        if shape is None:
            raise self._no_lab()
        return shape

    def _no_lab(self) -> NoLab:
        return NoLab(f"there is no lab {self.lab!r}; make one: coil-lab up --name {self.lab}")

    def write_shape(self, shape: Shape) -> None:
        """Remember the shape, before anything of it is made."""
        _write(self.directory / "lab.json", asdict(shape))

    def pods(self) -> list[PodRecord]:
        """Every pod that was added and not deleted."""
        found = [self.find_pod(path.stem) for path in self._pods.glob("*.json")]
        return sorted((pod for pod in found if pod), key=lambda pod: pod.name)

    def find_pod(self, name: str) -> PodRecord | None:
        """A pod by name; None also for a name that none can have."""
        if not is_pod_name(name):
            return None
        try:
            found = json.loads((self._pods / f"{name}.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return PodRecord(**{**found, "addresses": tuple(found["addresses"])})

    def write_pod(self, pod: PodRecord) -> None:
        """Remember a pod; within ``pod_alone``."""
        _write(self._pods / f"{pod.name}.json", asdict(pod))

    def forget_pod(self, name: str) -> None:
        """It is gone. Idempotent."""
        (self._pods / f"{name}.json").unlink(missing_ok=True)

    def remove(self) -> None:
        """Delete all files; the root goes with the last lab. Idempotent."""
        shutil.rmtree(self.directory, ignore_errors=True)
        with contextlib.suppress(OSError):
            ROOT.rmdir()

    @property
    def _pods(self) -> Path:
        return self.directory / "pods"


def lab_names() -> list[str]:
    """The labs of this machine."""
    return sorted(path.parent.name for path in ROOT.glob("*/lab.json"))


def _write(path: Path, content: dict[str, object]) -> None:
    """Whole or not at all."""
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=2), encoding="utf-8")
    draft.rename(path)


def _lock(path: Path, kind: int, flags: int = 0) -> int:
    """An open file that holds the lock of what is at ``path``, also after it was made anew.

    Raises FileNotFoundError when it is not there (any more).
    """
    while True:
        held = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags, 0o600)
        try:
            fcntl.flock(held, kind)
            if _is_at(held, path):
                return held
        except BaseException:
            os.close(held)
            raise
        os.close(held)


def _is_at(held: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(held), path.stat())
    except FileNotFoundError:
        return False
