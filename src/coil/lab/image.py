"""Container images out of the machine's own busybox: there is no registry to ask."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

BUSYBOX = Path("/bin/busybox")
_APPLETS = ("sh", "sleep", "ping", "ping6", "ip", "wget", "httpd", "cat", "echo", "timeout", "nc")
PAGE = b"coil says hello\n"


def root_tar() -> bytes:
    """A root file system: busybox, a page for its web server, an empty /etc/passwd."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for folder in ("bin", "etc", "proc", "sys", "dev", "tmp", "run", "www"):
            tar.addfile(_entry(folder, kind=tarfile.DIRTYPE, mode=0o755))
        _add(tar, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in _APPLETS:
            link = _entry(f"bin/{applet}", kind=tarfile.SYMTYPE, mode=0o777)
            link.linkname = "busybox"
            tar.addfile(link)
        _add(tar, "etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644)
        _add(tar, "www/index.html", PAGE, 0o644)
    return buffer.getvalue()


def oci_archive(name: str) -> bytes:
    """An OCI image archive of ``root_tar`` for ``ctr images import``, called ``name``."""
    layer = root_tar()
    config = _json(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "2147483647"]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    kind = "application/vnd.oci.image"
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{kind}.manifest.v1+json",
            "config": _descriptor(f"{kind}.config.v1+json", config),
            "layers": [_descriptor(f"{kind}.layer.v1.tar", layer)],
        }
    )
    entry = _descriptor(f"{kind}.manifest.v1+json", manifest)
    entry["annotations"] = {"io.containerd.image.name": name}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        _add(tar, "oci-layout", _json({"imageLayoutVersion": "1.0.0"}), 0o644)
        _add(tar, "index.json", _json({"schemaVersion": 2, "manifests": [entry]}), 0o644)
        for blob in (layer, config, manifest):
            _add(tar, f"blobs/sha256/{_digest(blob).removeprefix('sha256:')}", blob, 0o644)
    return buffer.getvalue()


def _architecture() -> str:
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(_machine(), _machine())


def _machine() -> str:
    import platform

    return platform.machine()


def _digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(data), "size": len(data)}


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def _entry(name: str, *, kind: bytes, mode: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type = kind
    entry.mode = mode
    return entry


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = _entry(name, kind=tarfile.REGTYPE, mode=mode)
    entry.size = len(data)
    tar.addfile(entry, io.BytesIO(data))
