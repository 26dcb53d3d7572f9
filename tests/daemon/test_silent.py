"""Paths of namespaces on a file system whose server never answers: to follow one never ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess

import pytest

from coil.daemon.workers import THREADS, Workers
from coil.domain.attachment import Netns
from coil.lab.host import host
from coil.lab.wait import until
from coil.nodenet.netns import NetnsHandle, NetnsStuck
from daemon.waiting import SOON


@contextlib.contextmanager
def silence(place):
    """Mount a FUSE file system at ``place`` and never answer. Its end wakes all who wait."""
    server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0"
        subprocess.run(
            ["mount", "-i", "-t", "fuse", "-o", options, "silent", place],
            check=True,
            pass_fds=[server],
        )
        yield
    finally:
        os.close(server)
        subprocess.run(["umount", "-l", place], check=False)


@pytest.fixture
def silent(tmp_path):
    place = tmp_path / "silent"
    place.mkdir()
    with silence(place):
        yield place


def test_paths_that_never_answer_delay_nobody(machine, silent):
    first, second, third = machine.pods(3)
    told = machine.add("a", first).json
    looked_for = moved(machine.add("c", third).json, silent)
    waiting = [machine.spawn("ADD", f"s{n}", silent / f"ns{n}") for n in range(2 * THREADS)]
    checking = machine.spawn("CHECK", "c", silent / "check", prevResult=looked_for)
    machine.host.run("ip", "route", "flush", "table", "116")
    until(lambda: machine.cni("CHECK", "a", first, prevResult=told).code == 0, "repaired", SOON)
    machine.add("b", second)
    for process in waiting:
        out, _ = process.communicate(timeout=20)
        assert process.returncode == 1
        assert '"code": 11' in out
        assert "does not answer" in out
        assert str(silent) in out
    assert "does not answer" in checking.communicate(timeout=20)[0]
    again = machine.cni("ADD", "s0", silent / "ns0")  # known by now: nobody waits for it again
    assert "does not answer" in again.json["msg"]
    machine.delete("s0", silent / "ns0")
    assert sorted(machine.used().values()) == ["a", "b", "c"]


def moved(result, place):
    interfaces = [
        {**each, "sandbox": f"{place}/check"} if "sandbox" in each else each
        for each in result["interfaces"]
    ]
    return {**result, "interfaces": interfaces}


def test_pods_whose_paths_fall_silent_keep_nobody_from_being_repaired_or_collected(
    machine, tmp_path
):
    machine.stop()
    machine.start("--period=0.5")
    place = tmp_path / "kept"
    place.mkdir()
    count = 2 * THREADS
    for n, pod in enumerate(machine.pods(count)):
        (place / f"ns{n}").symlink_to(pod.path)
        machine.add(f"s{n}", place / f"ns{n}")
    links = machine.links()
    pod = machine.pods()
    told = machine.add("a", pod).json
    with host("coil-pod") as dying:
        machine.add("dead", dying)
    with silence(place):
        for link in links:
            machine.host.run("ip", "link", "delete", link)
        until(lambda: "dead" not in machine.used().values(), "the dead are collected")
        machine.host.run("ip", "route", "flush", "table", "116")
        until(lambda: machine.cni("CHECK", "a", pod, prevResult=told).code == 0, "repaired", SOON)
        status = machine.ask("/status")
        told_of = {p["subject"] for p in status["problems"] if "does not answer" in p["problem"]}
        assert told_of == {f"s{n}/eth0" for n in range(count)}
        machine.delete("s0")
        assert len(machine.used()) == count  # silence is no evidence that they are gone
    (place / "ns0").unlink()
    until(lambda: len(machine.links()) == count, "links are made anew")
    until(lambda: not machine.ask("/status")["problems"], "no problem is left")


def test_a_thread_that_is_lost_in_a_namespace_is_replaced_by_one_at_home(pods):
    netns = Netns(str(pods().path))
    entered = []  # kept: what is collected is left

    def get_lost(_netlink):
        with NetnsHandle(netns) as handle:
            entered.append(handle.entered())
            entered[-1].__enter__()
            raise NetnsStuck

    async def run():
        workers = Workers()
        try:
            for _ in range(THREADS):
                with pytest.raises(RuntimeError):
                    await workers.run(get_lost)
            return [
                await workers.run(lambda _nl: os.readlink("/proc/thread-self/ns/net"))
                for _ in range(THREADS)
            ]
        finally:
            await asyncio.to_thread(workers.close)

    assert set(asyncio.run(run())) == {os.readlink("/proc/self/ns/net")}
