"""A real API server, and a machine whose programs run as a pod with a service account would.

All of it is in one namespace. The server is built by ``make test-kube``; where it is not, these
tests are not collected (docs/testing.md).
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack
from pathlib import Path

import pytest

from coil.lab.errors import LabError
from coil.lab.etcd import EtcdMember
from coil.lab.host import end
from coil.lab.node import PROGRAMS
from coil.lab.wait import until
from daemon.conftest import Machine, machines, pods

__all__ = ["machines", "pods"]

SERVER = Path(__file__).resolve().parents[2] / "build/kube/kube-apiserver"
collect_ignore_glob = [] if SERVER.exists() else ["test_*.py"]

PORT = 6443
ADDRESS = "192.0.2.7"
"""Of every machine: Endpoints may not be of a loopback network."""
ADMIN = "admin-token"
# As a pod sees it: an account, and namespaces of others that appear (HostToContainer).
IN_POD = """mount --rbind /run/netns /mnt
mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io /run/netns
mount --rbind /mnt /run/netns
cp -r "$0" /run/secrets/kubernetes.io/serviceaccount
exec "$@"
"""


class Kube:
    """The API server; its operator's requests go by curl, in its namespace."""

    def __init__(self, host, folder):
        self.host = host
        self.folder = folder
        self._process = None
        host.run("openssl", "genrsa", "-out", folder / "sa.key", "2048")

    def start(self):
        (self.folder / "tokens.csv").write_text(f"{ADMIN},admin,1,system:masters\n")
        with (self.folder / "log").open("ab") as log:
            self._process = self.host.start(
                SERVER, f"--etcd-servers=http://{ADDRESS}:4379", f"--secure-port={PORT}",
                "--bind-address=127.0.0.1", f"--cert-dir={self.folder}/certs",
                "--advertise-address=192.0.2.7", "--endpoint-reconciler-type=none",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self.folder}/sa.key",
                f"--service-account-signing-key-file={self.folder}/sa.key",
                f"--token-auth-file={self.folder}/tokens.csv", "--authorization-mode=RBAC",
                "--service-cluster-ip-range=198.51.100.0/24", log=log,
            )  # fmt: skip
        until(self._ready, "the API server serves", 60, pause=0.3)

    def _ready(self):
        if self._process.poll() is not None:
            raise LabError((self.folder / "log").read_text()[-3000:])
        return self.ask("GET", "/readyz", check=False).stdout == "ok"

    def stop(self):
        if self._process:
            end(self._process)
            self._process = None

    def ask(self, method, path, document=None, *, check=True):
        return self.host.run(
            "curl", "-s", "-k", "--fail-with-body", "-X", method, "-H",
            f"Authorization: Bearer {ADMIN}", "-H", "Content-Type: application/json",
            *(["-d", json.dumps(document)] if document else []),
            f"https://127.0.0.1:{PORT}{path}", check=check,
        )  # fmt: skip

    def create(self, path, name, **fields):
        return self.ask("POST", path, {"metadata": {"name": name}, **fields})

    def account(self, name, namespace, *, allowed=True):
        """A pod's folder for a service account, with a real token."""
        core = f"/api/v1/namespaces/{namespace}"
        self.create(f"{core}/serviceaccounts", name)
        if allowed:
            rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}"
            rule = {"apiGroups": [""], "resources": ["endpoints"], "verbs": ["get"]}
            self.create(f"{rbac}/roles", name, rules=[rule])
            subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
            role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
            self.create(f"{rbac}/rolebindings", name, roleRef=role, subjects=[subject])
            everywhere = "/apis/rbac.authorization.k8s.io/v1"
            rule = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
            self.create(f"{everywhere}/clusterroles", name, rules=[rule])
            role = {**role, "kind": "ClusterRole"}
            self.create(f"{everywhere}/clusterrolebindings", name, roleRef=role, subjects=[subject])
        made = self.ask("POST", f"{core}/serviceaccounts/{name}/token", {"spec": {}})
        folder = self.folder / name
        folder.mkdir()
        (folder / "token").write_text(json.loads(made.stdout)["status"]["token"])
        (folder / "namespace").write_text(namespace)
        (folder / "ca.crt").write_text((self.folder / "certs/apiserver.crt").read_text())
        return folder

    def put_endpoints(self, name, namespace, *ports):
        path = f"/api/v1/namespaces/{namespace}/endpoints"
        subsets = [{"addresses": [{"ip": ADDRESS}], "ports": [{"port": p}]} for p in ports]
        document = {"metadata": {"name": name}, "subsets": subsets}
        self.ask("DELETE", f"{path}/{name}", check=False)
        self.ask("POST", path, document)

    def put_node(self, name, **labels):
        """A Node object with these labels, in place of any of that name."""
        self.ask("DELETE", f"/api/v1/nodes/{name}", check=False)
        keys = {f"topology.kubernetes.io/{key}": value for key, value in labels.items()}
        self.ask("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": keys}})


class PodMachine(Machine):
    """A machine whose coild and coilctl run as in a pod of a service account."""

    account: Path

    def in_pod(self, *argv):
        return [
            "unshare",
            "--mount",
            "--propagation=slave",
            "sh",
            "-ec",
            IN_POD,
            str(self.account),
            *map(str, argv),
        ]

    def launch(self, *program):
        super().launch(*self.in_pod(*program))

    def ctl(self, *words, check=True):
        done = self.host.run(
            "env", f"KUBERNETES_SERVICE_PORT={PORT}", "KUBERNETES_SERVICE_HOST=127.0.0.1",
            f"COIL_STORE={self.store}", f"COIL_SOCKET={self.socket}",
            *self.in_pod(PROGRAMS / "coilctl", *words), check=check,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        return done


@pytest.fixture
def machine(machines, monkeypatch):
    """In the namespace of the API server; its coild is not running yet."""
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(PORT))
    made = machines("n0", "etcd://@etcd.apps/t?timeout=1")
    made.__class__ = PodMachine
    return made


@pytest.fixture
def kube(machine):
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="kube-", dir="/dev/shm"))
        )
        behind = EtcdMember(
            "kube", ADDRESS, folder / "etcd", machine.host, client_port=4379, peer_port=4380
        )
        stack.callback(behind.stop)
        behind.start([behind])
        behind.wait_ready()
        made = Kube(machine.host, folder)
        stack.callback(made.stop)
        made.start()
        made.create("/api/v1/namespaces", "apps")
        machine.account = made.account("coil", "apps")
        yield made


@pytest.fixture
def etcd(machine, tmp_path):
    """coil's own etcd, at the usual port."""
    member = EtcdMember("m0", ADDRESS, tmp_path / "etcd", machine.host)
    member.start([member])
    member.wait_ready()
    yield member
    member.stop()
