"""Makes links like pods' without coild: run inside a host's namespace.

``python bare.py NETNS...`` prints the names of the host ends.
"""

from __future__ import annotations

import sys
from ipaddress import ip_address

from coil.domain.attachment import Attachment, AttachmentKey, Netns
from coil.domain.block import BlockId
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.netns import NetnsHandle
from coil.nodenet.plan import Tables, host_ifname, pod_mac
from coil.nodenet.veth import attach

with NetlinkSocket() as netlink:
    links = []
    for number, path in enumerate(sys.argv[1:]):
        key = AttachmentKey(f"bare{number}", "eth0")
        addresses = (ip_address("10.92.0.0") + number,)
        made = Attachment(
            key, BlockId("bare", 0), number, addresses, Netns(path), host_ifname(key),
            pod_mac(key), 1500, 0, "bare",
        )  # fmt: skip
        with NetnsHandle(made.netns) as netns:
            attach(netlink, netns, made, Tables(), lambda _step: None)
        links.append(made.host_ifname)
    print(*links)
