"""Which namespaces may be opened on the loop's own thread."""

from __future__ import annotations

import pytest

from coil.nodenet.netns import is_local


@pytest.mark.parametrize(
    ("path", "local"),
    [
        ("/run/netns/cni-1", True),
        ("/var/run/netns/cni-1", True),
        ("/proc/123/ns/net", True),
        ("/proc/123/task/124/ns/net", True),
        ("/proc/self/ns/net", True),
        ("/proc/123/root/mnt/fuse/ns", False),
        ("/proc/123/cwd/ns/net", False),
        ("/proc/123/fd/7", False),
        ("/run/netns/../../mnt/fuse/ns", False),
        ("/run/netns/a/b", False),
        ("/var/run/docker/netns/1", False),
        ("/mnt/run/netns/x", False),
    ],
)
def test_only_places_of_the_kernel_are_local(path, local):
    assert is_local(path) is local
