"""Names, MACs and aliases: made from the attachment, and read back."""

from __future__ import annotations

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from coil.domain.attachment import AttachmentKey, Pod
from coil.nodenet import plan
from unit.journal.test_journal import attachment

IDS = st.from_regex(r"[a-zA-Z0-9][a-zA-Z0-9_.\-]{0,159}", fullmatch=True)
IFNAMES = st.from_regex(r"[a-z][a-z0-9]{0,14}", fullmatch=True)


@given(IDS, IFNAMES)
def test_names_fit_the_kernel_and_tell_attachments_apart(container, ifname):
    key = AttachmentKey(container, ifname)
    assert len(plan.host_ifname(key)) == 15
    assert plan.host_ifname(key) == plan.host_ifname(AttachmentKey(container, ifname))
    assert plan.host_ifname(key) != plan.host_ifname(AttachmentKey(container + "x", ifname))
    first = int(plan.pod_mac(key)[:2], 16)
    assert first & 1 == 0  # unicast
    assert first & 2 == 2  # locally administered


@given(IDS, IFNAMES, st.text("abc-.", max_size=260))
def test_an_alias_fits_and_names_its_attachment(container, ifname, pod):
    from dataclasses import replace

    made = replace(attachment(), key=AttachmentKey(container, ifname), pod=Pod("namespace", pod))
    alias = plan.alias_of(made)
    assert len(alias.encode()) <= 255
    owner = plan.find_owner(alias)
    assert owner is not None
    assert owner.key == made.key
    assert owner.pool == made.block.pool


def test_aliases_of_others_are_nobodys():
    for text in ("", "eth0", "coil", "coil a", "coil ../x eth0 default", "coil a b C", "x a b c"):
        assert plan.find_owner(text) is None


def test_the_calico_name_is_the_one_calico_looks_for():
    # veth + first 11 hex digits of SHA-1("default.nginx")
    assert plan.calico_ifname(Pod("default", "nginx")).startswith("veth")
    assert len(plan.calico_ifname(Pod("default", "nginx"))) == 15
    import hashlib

    digest = hashlib.sha1(b"default.nginx").hexdigest()
    assert plan.calico_ifname(Pod("default", "nginx")) == f"veth{digest[:11]}"


def test_a_link_local_address_is_made_from_the_mac():
    assert plan.link_local("02:00:00:00:00:01") == ip_address("fe80::ff:fe00:1")
