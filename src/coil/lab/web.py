"""Pods that serve a page and commands that reach them: what shows that a network works."""

from __future__ import annotations

from coil.lab.containerd import IMAGE
from coil.lab.cri import Cri, Pod
from coil.lab.wait import until

SERVER = ("httpd", "-f", "-h", "/www")
"""The command of a container that serves the image's page on port 80, both families."""


def serve(cri: Cri, pod: Pod) -> str:
    """Run the server in ``pod``; returns the container's id as soon as it answers."""
    container_id = cri.run_container(pod, IMAGE, *SERVER)
    until(lambda: cri.exec(container_id, *fetch("127.0.0.1"))[0] == 0, f"{pod.name} serves")
    return container_id


def ping(address: str) -> tuple[str, ...]:
    """The command, in a container, that exits with 0 when ``address`` answers."""
    return ("ping6" if ":" in address else "ping", "-c", "1", "-W", "2", address)


def fetch(address: str, port: int = 80) -> tuple[str, ...]:
    """The command, in a container, that prints the page at ``address``."""
    shown = f"[{address}]" if ":" in address else address
    # Debian's busybox crashes on wget -T.
    return ("timeout", "3", "wget", "-q", "-O", "-", f"http://{shown}:{port}/")
