"""Removal of links: those that arrive together share one request.

The kernel makes whoever removes a device wait for a grace period (about 20 ms), but only once for
all devices of one request. RTM_DELLINK takes several by device group, so links are moved into a
group that nobody else uses and the group is removed.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from coil.domain.attachment import Attachment, AttachmentKey
from coil.nodenet import messages as m
from coil.nodenet.netlink import NetlinkSocket
from coil.nodenet.observe import find_links_of
from coil.nodenet.parse import Link
from coil.nodenet.plan import find_owner, host_ifname
from coil.nodenet.veth import find_link, forget_secondary_rules, may_have_rules

_GROUP = 0x636F696C
"""'coil': a device group no other program uses."""
_MOST = 1024


@dataclass(slots=True)
class _Removal:
    key: AttachmentKey
    attachment: Attachment | None
    done: Future[None] = field(default_factory=Future)


class LinkRemover:
    """A thread that removes links of attachments in batches."""

    def __init__(self) -> None:
        """Starts the thread in the namespace of the caller."""
        self._waiting: queue.SimpleQueue[_Removal | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="link-remover", daemon=True)
        self._thread.start()

    def remove(self, key: AttachmentKey, attachment: Attachment | None) -> Future[None]:
        """Remove the host link of an attachment; done when it, and its routes, are gone.

        Success when it is gone already. Only a link whose alias names ``key`` (or none yet) is
        touched. ``attachment``: what the journal knows; its link is found by its alias as well,
        should it have been renamed, and its rules in the pod are removed first. Without, a link
        is looked for under the name made from ``key``. Fails with KernelRefused.
        """
        removal = _Removal(key, attachment)
        self._waiting.put(removal)
        return removal.done

    def close(self) -> None:
        """Finish what is waiting and end the thread."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        with NetlinkSocket() as netlink:
            while (first := self._waiting.get()) is not None:
                batch = [first]
                while len(batch) < _MOST and not self._waiting.empty():
                    following = self._waiting.get()
                    if following is None:
                        self._waiting.put(None)
                        break
                    batch.append(following)
                _settle(netlink, batch)


def _settle(netlink: NetlinkSocket, batch: Sequence[_Removal]) -> None:
    try:
        _remove_all(netlink, batch)
    except Exception as exc:  # noqa: BLE001 - handed to whoever waits; the thread must live
        for removal in batch:
            removal.done.set_exception(exc)
    else:
        for removal in batch:
            removal.done.set_result(None)


def _remove_all(netlink: NetlinkSocket, batch: Sequence[_Removal]) -> None:
    indexes: list[int] = []
    for removal, link in _find_links(netlink, batch):
        if removal.attachment and may_have_rules(link):
            _forget_rules(removal.attachment)
        indexes.append(link.ifindex)
    if len(indexes) == 1:
        netlink.send(m.delete_link(indexes[0]))
    elif indexes:
        netlink.send(*(m.put_in_group(ifindex, _GROUP) for ifindex in indexes))
        netlink.send(m.delete_group(_GROUP))


def _find_links(
    netlink: NetlinkSocket, batch: Sequence[_Removal]
) -> Iterator[tuple[_Removal, Link]]:
    renamed: dict[AttachmentKey, _Removal] = {}
    for removal in batch:
        known = removal.attachment
        link = find_link(netlink, known.host_ifname if known else host_ifname(removal.key))
        if link and _is_of(link, removal.key):
            yield removal, link
        elif known:
            renamed[removal.key] = removal
    if renamed:
        for link in find_links_of(netlink, frozenset(renamed)):
            owner = find_owner(link.alias)
            if owner:
                yield renamed[owner.key], link


def _is_of(link: Link, key: AttachmentKey) -> bool:
    owner = find_owner(link.alias)
    return link.kind == "veth" and (not link.alias or (owner is not None and owner.key == key))


def _forget_rules(attachment: Attachment) -> None:
    """In a thread of its own: one that cannot come back from the pod's namespace ends there."""
    with ThreadPoolExecutor(max_workers=1) as thread:
        failure = thread.submit(forget_secondary_rules, attachment).exception()
    if isinstance(failure, Exception):
        raise failure
