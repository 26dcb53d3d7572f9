"""etcd by the name of a service: programs as pods, a real API server, real tokens and roles."""

from __future__ import annotations

from coil.lab.wait import until
from kube.conftest import ADDRESS


def told(machine, *says):
    """coilctl fails with one sentence that has these words, and prints nothing else."""
    done = machine.ctl("pool", "list", check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("coilctl: ")
    assert done.stderr.count("\n") == 1
    for words in says:
        assert words in done.stderr


def problems(machine):
    return [row["problem"] for row in machine.ask("/status")["problems"]]


def exported(machine):
    return set(machine.routes(119))


def test_a_service_is_found_by_name_and_what_is_missing_is_told(kube, machine, etcd):
    told(machine, "@etcd.apps cannot be looked up", "has no /api/v1/namespaces/apps/endpoints/etcd")
    kube.put_endpoints("etcd", "apps")
    told(machine, "no endpoint that is ready")
    kube.put_endpoints("etcd", "apps", 1)
    told(machine, "etcd of @etcd.apps", "nothing listens there")
    kube.put_endpoints("etcd", "apps", 1, 2379)
    machine.ctl("pool", "create", "default", "10.77.0.0/24")
    # In the pod's namespace; and with a port of its own.
    for url in ("etcd://@etcd/t", "etcd://@etcd:2379/t"):
        machine.store = url
        assert [row["name"] for row in machine.listing("pool", "list")] == ["default"]
    machine.store = "etcd://@etcd.elsewhere/t"
    told(machine, "service account of this pod may not get", "namespaces/elsewhere", "role")
    machine.account = kube.account("nobody", "apps", allowed=False)
    machine.store = "etcd://@etcd.apps/t"
    told(machine, "service account of this pod may not get", "role")
    (machine.account / "token").write_text("wrong")
    told(machine, "service account of this pod may not get")
    (machine.account / "ca.crt").write_text("wrong")
    told(machine, "Kubernetes at 127.0.0.1:6443", "cannot be asked")


def test_coild_finds_etcd_again_where_it_has_moved_and_needs_the_api_server_for_nothing_else(
    kube, machine, etcd, pods
):
    kube.put_endpoints("etcd", "apps", 2379)
    machine.ctl("pool", "create", "default", "10.77.0.0/24", "--block-bits=2", "--cool-down=0s")
    machine.start("--period=1")
    machine.add("c1", pods())
    before = exported(machine)
    kube.stop()
    for number in range(2, 6):  # more than a block has
        machine.add(f"c{number}", pods())
    assert problems(machine) == []
    kube.start()
    etcd.stop()
    etcd.client_port = 3379
    etcd.start([etcd])
    etcd.wait_ready()
    until(lambda: "@etcd.apps" in str(problems(machine)), "the outage is told")
    kube.put_endpoints("etcd", "apps", 3379)
    until(lambda: problems(machine) == [], "etcd is found again")
    assert exported(machine) >= before
    for number in range(6, 11):
        machine.add(f"c{number}", pods())
    assert etcd.endpoint == f"{ADDRESS}:3379"


def test_a_certificate_for_the_name_of_the_service_is_accepted(kube, machine, etcd, tmp_path):
    etcd.stop()
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    for name in ("etcd.other.svc", "etcd.apps.svc"):
        machine.host.run(
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
            "-nodes", "-days", "2", "-subj", "/CN=etcd", "-addext", f"subjectAltName=DNS:{name}",
            "-keyout", key, "-out", cert,
        )  # fmt: skip
        etcd.client_options = ("--insecure-transport=false", "--insecure-skip-tls-verify")
        etcd.start([etcd], f"--cert-file={cert}", f"--key-file={key}")
        etcd.wait_ready()
        kube.put_endpoints("etcd", "apps", 2379)
        machine.store = f"etcd://@etcd.apps/t?timeout=1&ca={cert}"
        if name == "etcd.other.svc":
            told(machine, "its certificate is not for this name")
        else:
            machine.ctl("pool", "create", "default", "10.77.0.0/24")
        etcd.stop()
