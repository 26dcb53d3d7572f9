"""For how long a test waits, and requests that are on their way to coild while it stands still."""

from __future__ import annotations

from coil.lab.wait import until

SOON = 10.0
"""Seconds, a third of the period of coild's passes: what is mended by then was told by an event."""


def sent(pid):
    """Whether nsenter's exec'd plugin sleeps in poll(2), as it does once it has sent all."""
    with open(f"/proc/{pid}/comm") as comm, open(f"/proc/{pid}/wchan") as wchan:
        return comm.read().strip() == "coil" and "poll" in wchan.read()


def changed_while_waiting(machine, change, *cni, **more):
    """The plugin's answer to a request that waited in coild's socket during a change."""
    machine.suspend()
    try:
        asking = machine.spawn(*cni, **more)
        until(lambda: sent(asking.pid), "the plugin has sent its request")
        change()
    finally:
        machine.resume()
    return machine.reply(asking)
