"""Results in the form of each version, and what CHECK reads back."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from coil.cni import result, versions
from coil.cni.errors import BadNetconf

GATEWAYS = {4: ip_address("169.254.1.1"), 6: ip_address("fe80::1")}
ADDRESSES = (ip_address("10.0.0.1"), ip_address("fd00::1"))
MADE = result.Result(
    (result.Interface("host0", "aa", 1400), result.Interface("eth0", "bb", 1400, "/ns")),
    ADDRESSES,
    GATEWAYS,
)


@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_each_version_has_its_form(version):
    found = result.to_json(MADE, version)
    assert found["cniVersion"] == version
    assert [i["name"] for i in found["interfaces"]] == ["host0", "eth0"]
    assert "sandbox" not in found["interfaces"][0]
    assert found["interfaces"][1]["sandbox"] == "/ns"
    assert ("mtu" in found["interfaces"][0]) == (version == "1.1.0")
    assert [ip["address"] for ip in found["ips"]] == ["10.0.0.1/32", "fd00::1/128"]
    assert [ip["interface"] for ip in found["ips"]] == [1, 1]
    expected = ["4", "6"] if version < "1.0.0" else [None, None]
    assert [ip.get("version") for ip in found["ips"]] == expected
    assert found["routes"] == [
        {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
        {"dst": "::/0", "gw": "fe80::1"},
    ]


@pytest.mark.parametrize("version", versions.SUPPORTED)
def test_what_was_given_is_read_back(version):
    found = result.to_json(MADE, version)
    assert tuple(result.addresses_on(found, "eth0", "/ns")) == ADDRESSES
    assert result.addresses_on(found, "eth1", "/ns") == []
    assert result.addresses_on(found, "eth0", "/other") == []


def test_a_previous_result_is_kept_and_ours_appended():
    previous = {
        "interfaces": [{"name": "x", "sandbox": "/ns"}],
        "ips": [{"address": "192.0.2.1/24", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"nameservers": ["192.0.2.2"]},
        "other": 1,
    }
    found = result.to_json(MADE, "1.0.0", previous)
    assert [i["name"] for i in found["interfaces"]] == ["x", "host0", "eth0"]
    assert [ip["interface"] for ip in found["ips"]] == [0, 2, 2]
    assert found["dns"] == {"nameservers": ["192.0.2.2"]}
    assert found["other"] == 1
    assert len(found["routes"]) == 3


@pytest.mark.parametrize(
    "broken",
    [
        {"ips": {}},
        {"ips": [1]},
        {"ips": [{"address": "x"}]},
        {"ips": [{"address": "10.0.0.1/32", "interface": 3}]},
        {"ips": [{"address": "10.0.0.1/32", "interface": True}], "interfaces": [{}, {}]},
        {"ips": [{"address": "10.0.0.1/32", "interface": 0}], "interfaces": [1]},
    ],
    ids=str,
)
def test_a_previous_result_of_another_form_is_refused(broken):
    with pytest.raises(BadNetconf):
        result.addresses_on(broken, "eth0", "/ns")


def test_default_routes_are_told_from_others():
    found = result.to_json(MADE, "1.0.0")
    assert result.default_gateways(found) == set(GATEWAYS.values())
    other = [{"dst": "10.0.0.0/8", "gw": "10.0.0.9"}, {"dst": "0.0.0.0/0"}]
    assert result.default_gateways({"routes": other}) == set()
    assert result.default_gateways({}) == set()


@pytest.mark.parametrize(
    "routes", [{}, [1], [{"dst": "x", "gw": "::1"}], [{"dst": "::/0", "gw": 7.5}]], ids=str
)
def test_previous_routes_of_another_form_are_refused(routes):
    with pytest.raises(BadNetconf):
        result.default_gateways({"routes": routes})
