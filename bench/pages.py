"""What a virtual machine's host does to unused memory, and how a figure is kept clear of it.

The host may put such pages aside and fetch them back at the next access, which the guest does not
see but as CPU time of whoever makes it. A page that anybody in the guest reads stays.
"""

from __future__ import annotations

import mmap
import time
from pathlib import Path

_MOST_BYTES = 64 << 20
"""Mappings that are larger are address space kept free for threads' heaps."""


def first_access(pages: bytearray) -> float:
    """CPU seconds for one access to each of these pages."""
    began = time.thread_time()
    for offset in range(0, len(pages), mmap.PAGESIZE):
        pages[offset] = 1
    return time.thread_time() - began


def read_all(pid: int) -> None:
    """Read a little of every page of a process."""
    with open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            start, end = (int(each, 16) for each in span.split("-"))
            if rights[0] != "r" or end - start > _MOST_BYTES:
                continue
            for address in range(start, end, mmap.PAGESIZE):
                try:
                    memory.seek(address)
                    memory.read(8)
                except (OSError, OverflowError):  # the kernel's own, or not there
                    break
