"""What a runtime may send: variables by command, netconf, CNI_ARGS."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.cni import versions
from coil.cni.errors import CniError
from coil.cni.request import Command, parse_arguments, parse_request, pod_of

KEYED = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}
FULL = {**KEYED, "CNI_NETNS": "/run/netns/x"}


def conf(**more):
    return json.dumps({"cniVersion": "1.1.0", "name": "n", "type": "coil", **more}).encode()


def code(variables, body):
    with pytest.raises(CniError) as caught:
        parse_request(variables, body)
    return int(caught.value.code), caught.value.message


@pytest.mark.parametrize("version", versions.SUPPORTED)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"])
def test_a_verb_exists_since_its_version(command, version):
    since = {"CHECK": "0.4.0", "GC": "1.1.0", "STATUS": "1.1.0"}.get(command, "0.3.0")
    body = conf(cniVersion=version, prevResult={}, **{"cni.dev/valid-attachments": []})
    variables = {**FULL, "CNI_COMMAND": command}
    if tuple(map(int, version.split("."))) >= tuple(map(int, since.split("."))):
        assert parse_request(variables, body).command is Command(command)
    else:
        assert code(variables, body)[0] == 1


@pytest.mark.parametrize(
    ("command", "missing"),
    [
        ("ADD", "CNI_CONTAINERID"),
        ("ADD", "CNI_NETNS"),
        ("ADD", "CNI_IFNAME"),
        ("CHECK", "CNI_CONTAINERID"),
        ("CHECK", "CNI_NETNS"),
        ("CHECK", "CNI_IFNAME"),
        ("DEL", "CNI_CONTAINERID"),
        ("DEL", "CNI_IFNAME"),
    ],
)
@pytest.mark.parametrize("how", ["absent", "empty"])
def test_a_missing_variable_is_named(command, missing, how):
    variables = {**FULL, "CNI_COMMAND": command}
    if how == "empty":
        variables[missing] = ""
    else:
        del variables[missing]
    found, message = code(variables, conf(prevResult={}))
    assert found == 4
    assert missing in message


@pytest.mark.parametrize("netns", [{}, {"CNI_NETNS": ""}, {"CNI_NETNS": "/x"}])
def test_del_needs_no_namespace(netns):
    request = parse_request({**KEYED, **netns, "CNI_COMMAND": "DEL"}, conf())
    assert str(request.key) == "c1/eth0"


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("CNI_NETNS", "/run/netns/\udcff"),
        ("CNI_CONTAINERID", "../etc"),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_CONTAINERID", "a b"),
        ("CNI_CONTAINERID", "x" * 161),
        ("CNI_IFNAME", "eth0/1"),
        ("CNI_IFNAME", "eth:0"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "eth%d"),
        ("CNI_IFNAME", "sixteen-letters1"),
        ("CNI_NETNS", "relative"),
        ("CNI_NETNS", "/" + "x" * 5000),
        ("CNI_ARGS", "novalue"),
        ("CNI_ARGS", "=x"),
    ],
)
def test_a_malformed_variable_is_named(variable, value):
    found, message = code({**FULL, "CNI_COMMAND": "ADD", variable: value}, conf())
    assert found == 4
    assert variable in message


def test_an_unknown_command_is_refused_with_those_there_are():
    assert code({"CNI_COMMAND": "FROB"}, b"{}")[0] == 4
    assert "STATUS" in code({}, b"{}")[1]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"\xff", b'{"a": NaN}', b'{"a":' * 100_000, b'"\\ud800"'],
    ids=lambda body: repr(body)[:12],
)
def test_what_is_not_a_json_object_is_undecodable(body):
    assert code({**FULL, "CNI_COMMAND": "ADD"}, body)[0] == 6


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("cniVersion", "0.2.0", 1),
        ("cniVersion", "9.9.9", 1),
        ("cniVersion", 1, 7),
        ("name", None, 7),
        ("name", "a b", 7),
        ("name", "", 7),
        ("pool", 5, 7),
        ("pool", "Not A Pool", 7),
        ("mtu", "1500", 7),
        ("mtu", True, 7),
        ("mtu", 67, 7),
        ("mtu", 65536, 7),
        ("timeout", 0, 7),
        ("timeout", -1, 7),
        ("timeout", "1", 7),
        ("timeout", False, 7),
        ("timeout", 1e9, 7),
        ("prevResult", [], 7),
        ("dns", 5, 7),
        ("dns", {"nameservers": "192.0.2.2"}, 7),
        ("dns", {"search": [1]}, 7),
        ("dns", {"options": {"ndots": 2}}, 7),
        ("dns", {"domain": ["x"]}, 7),
        ("dns", {"domain": 0}, 7),
        ("ipam", {"type": "host-local"}, 2),
        ("runtimeConfig", {"ips": ["10.0.0.1"]}, 2),
        ("args", {"cni": {"ips": ["10.0.0.1"]}}, 2),
        ("runtimeConfig", {"mac": "02:00:00:00:00:01"}, 2),
        ("args", {"cni": {"mac": "02:00:00:00:00:01"}}, 2),
    ],
)
def test_an_impossible_value_is_refused_by_its_key(key, value, expected):
    found, message = code({**FULL, "CNI_COMMAND": "ADD"}, conf(**{key: value}))
    assert found == expected
    assert key in message or expected == 2


@pytest.mark.parametrize(
    ("key", "value"),
    [("pool", 5), ("mtu", "1500"), ("dns", 5), ("prevResult", "x"), ("ipMasq", True)],
)
def test_what_only_an_add_needs_keeps_no_pod_from_going(key, value):
    assert parse_request({**FULL, "CNI_COMMAND": "DEL"}, conf(**{key: value})).key


def test_an_absent_version_means_one_that_is_not_spoken():
    assert code({**FULL, "CNI_COMMAND": "ADD"}, b'{"name":"n"}')[0] == 1


def test_unknown_keys_and_empty_sections_are_other_peoples():
    body = conf(
        ipam={}, ipMasq=True, runtimeConfig={"portMappings": []}, args={}, x={"y": [1]}, dns={}
    )
    assert parse_request({**FULL, "CNI_COMMAND": "ADD"}, body).netconf.name == "n"


def test_check_needs_a_previous_result():
    assert code({**FULL, "CNI_COMMAND": "CHECK"}, conf())[0] == 7


def test_a_gc_without_a_list_is_told_from_one_with_an_empty_list():
    assert parse_request({"CNI_COMMAND": "GC"}, conf()).netconf.valid_attachments is None


@pytest.mark.parametrize("key", ["cni.dev/valid-attachments", "cni.dev/attachments"])
def test_gc_takes_both_spellings_and_null_for_none(key):
    body = conf(**{key: [{"containerID": "a", "ifname": "eth0"}]})
    found = parse_request({"CNI_COMMAND": "GC"}, body).netconf.valid_attachments
    assert [str(attachment) for attachment in found] == ["a/eth0"]
    assert parse_request({"CNI_COMMAND": "GC"}, conf(**{key: None})).netconf.valid_attachments == ()
    assert code({"CNI_COMMAND": "GC"}, conf(**{key: [{"containerID": ""}]}))[0] == 7
    assert code({"CNI_COMMAND": "GC"}, conf(**{key: {}})) != 0


@pytest.mark.parametrize(
    ("text", "namespace", "name", "uid"),
    [
        ("", "", "", ""),
        ("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns;K8S_POD_NAME=p;K8S_POD_UID=u", "ns", "p", "u"),
        ("K8S_POD_NAME=p;", "", "p", ""),
        ("X=a=b;K8S_POD_NAME=a b\n", "", "a?b?", ""),
    ],
)
def test_the_pod_is_read_from_what_runtimes_send(text, namespace, name, uid):
    pod = pod_of(parse_arguments(text))
    assert (pod.namespace, pod.name, pod.uid) == (namespace, name, uid)


def test_a_wish_for_an_address_is_refused_one_for_a_mac_is_left_to_tuning():
    variables = {**FULL, "CNI_COMMAND": "ADD", "CNI_ARGS": "IgnoreUnknown=1;IP=10.0.0.1"}
    found, message = code(variables, conf())
    assert found == 2
    assert "10.0.0.1" in message
    assert parse_request({**variables, "CNI_COMMAND": "DEL"}, conf()).key
    assert parse_request({**variables, "CNI_ARGS": "MAC=02:00:00:00:00:01"}, conf()).key


@given(
    st.dictionaries(
        st.sampled_from([*FULL, "CNI_ARGS", "CNI_COMMAND", "CNI_PATH"]), st.text(max_size=40)
    ),
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(
                        ["cniVersion", "name", "pool", "mtu", "dns", "prevResult", "ipam", "x"]
                    ),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=6,
        ).map(lambda value: json.dumps(value).encode()),
    ),
    st.sampled_from([*Command]),
)
def test_no_input_raises_anything_but_a_cni_error(variables, body, command):
    for chosen in (variables, {**FULL, **variables, "CNI_COMMAND": command.value}):
        with contextlib.suppress(CniError):
            parse_request(chosen, body)
