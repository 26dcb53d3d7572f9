"""Names of services, and what an Endpoints object says of them."""

from __future__ import annotations

import pytest

from coil.domain.errors import ConfigError
from coil.kube.client import KubeClient
from coil.kube.endpoints import ServiceName, decode_endpoints, parse_service

SERVICE = ServiceName("etcd", "system")


def subset(*hosts, ports=(2379,), **more):
    named = [p if isinstance(p, dict) else {"port": p} for p in ports]
    return {"addresses": [{"ip": host} for host in hosts], "ports": named, **more}


def document(*subsets):
    return {"kind": "Endpoints", "apiVersion": "v1", "subsets": list(subsets)}


@pytest.mark.parametrize(
    ("text", "service"),
    [
        ("etcd", ServiceName("etcd")),
        ("etcd.kube-system", ServiceName("etcd", "kube-system")),
        ("etcd-0:2380", ServiceName("etcd-0", "", 2380)),
        ("etcd.ns:1", ServiceName("etcd", "ns", 1)),
    ],
)
def test_a_service_is_named_with_or_without_namespace_and_port(text, service):
    assert parse_service(text) == service


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "a.",
        ".b",
        "a.b.c",
        "A",
        "a_b",
        "a:",
        "a:x",
        "a:0",
        "a:65536",
        "a:٣",
        "a,b",
    ],
)
def test_what_names_no_service_is_refused(text):
    with pytest.raises(ConfigError):
        parse_service(text)


def test_ready_addresses_are_endpoints_once_each_and_in_order():
    found = decode_endpoints(
        document(
            subset("192.0.2.2", "192.0.2.1", notReadyAddresses=[{"ip": "192.0.2.9"}]),
            subset("2001:db8::1", "192.0.2.1"),
        ),
        SERVICE,
    )
    assert found == ("192.0.2.2:2379", "192.0.2.1:2379", "[2001:db8::1]:2379")


@pytest.mark.parametrize("subsets", [[], [subset()], None])
def test_a_service_without_ready_addresses_has_no_endpoints(subsets):
    assert decode_endpoints({"kind": "Endpoints", "subsets": subsets}, SERVICE) == ()


@pytest.mark.parametrize("name", ["client", "etcd-client", "etcd"])
def test_of_several_ports_the_one_for_clients_is_taken(name):
    ports = ({"name": "peer", "port": 2380}, {"name": name, "port": 2379})
    assert decode_endpoints(document(subset("192.0.2.1", ports=ports)), SERVICE) == (
        "192.0.2.1:2379",
    )


def test_a_port_that_was_named_is_taken_whatever_the_object_says():
    ports = ({"name": "a", "port": 1}, {"name": "b", "port": 2})
    service = ServiceName("etcd", "system", 7)
    assert decode_endpoints(document(subset("192.0.2.1", ports=ports)), service) == ("192.0.2.1:7",)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (document(subset("192.0.2.1", ports=(1, 2))), "2 ports"),
        (document(subset("192.0.2.1", ports=())), "0 ports"),
        (document(subset("not an address")), "no Endpoints object"),
        ({"kind": "Status"}, "no Endpoints object"),
        ([], "no Endpoints object"),
        ("x", "no Endpoints object"),
        (None, "no Endpoints object"),
    ],
)
def test_what_cannot_be_used_is_told_with_the_services_name(found, says):
    with pytest.raises(ConfigError, match=rf"@etcd\.system.*{says}"):
        decode_endpoints(found, SERVICE)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"KUBERNETES_SERVICE_HOST": "192.0.2.1"},
        {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "x"},
        {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"},
    ],
)
def test_outside_of_a_pod_it_is_said_what_was_looked_for(environment, tmp_path):
    with pytest.raises(ConfigError, match=r"no pod.*KUBERNETES_SERVICE_HOST.*token"):
        KubeClient.in_cluster(environment, tmp_path)


def test_inside_of_a_pod_the_account_is_found(tmp_path):
    (tmp_path / "token").write_text("t")
    (tmp_path / "namespace").write_text("apps\n")
    environment = {"KUBERNETES_SERVICE_HOST": "192.0.2.1", "KUBERNETES_SERVICE_PORT": "443"}
    client = KubeClient.in_cluster(environment, tmp_path)
    assert (str(client), client.namespace()) == ("Kubernetes at 192.0.2.1:443", "apps")
