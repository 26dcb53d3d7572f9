"""Nodes with one etcd, and controllers on machines of their own that reach all of them."""

from __future__ import annotations

import json
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.conftest import cluster
from coil.lab.host import cable, end
from coil.lab.host import host as new_host
from coil.lab.node import PROGRAMS
from coil.lab.suspend import resume, suspend
from coil.lab.wait import until
from daemon.conftest import machines, pods

__all__ = ["cluster", "machines", "pods"]

KILLER = (sys.executable, Path(__file__).with_name("killer.py"))
QUICK = ("--short-grace", "--grace=1.5", "--period=0.5", "--lease=5")
ADDRESS = "127.0.0.1:9384"


class Controller:
    """One replica, on a host of its own."""

    def __init__(self, host, log, store):
        self.host = host
        self.log = log
        self.store = store
        self.process = None

    def start(self, *options, program=(PROGRAMS / "coil-controller",)):
        with self.log.open("ab") as log:
            where = (f"--store={self.store}", f"--metrics-addr={ADDRESS}")
            self.process = self.host.start(*program, *where, *QUICK, *options, log=log)

    def get(self, path):
        done = self.host.run("curl", "-s", "-m20", f"http://{ADDRESS}{path}", check=False)
        return done.stdout if done.returncode == 0 else ""

    def status(self):
        text = self.get("/status")
        return json.loads(text) if text else {}

    @property
    def leads(self):
        return bool(self.status().get("leading"))

    def passes(self):
        return self.status().get("passes", 0)

    def problems(self, kind):
        found = self.status().get("problems", [])
        return {each["subject"]: each["problem"] for each in found if each["kind"] == kind}

    def events(self, event):
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        found = [json.loads(line) for line in lines if line.startswith("{")]
        return [each for each in found if each["event"] == event]

    def fail(self, number):
        if number is signal.SIGSTOP:
            suspend(self.process.pid)
        else:
            self.kill()

    def kill(self):
        self.process.kill()
        return self.process.wait(30)

    def stop(self):
        if self.process is not None and self.process.poll() is None:
            resume(self.process.pid)
            return end(self.process)
        return self.process and self.process.returncode


@pytest.fixture
def controllers(cluster, tmp_path):
    """A factory of replicas that don't run yet."""
    cluster.member.host.run("sysctl", "-qw", "net.ipv4.ip_forward=1")
    with ExitStack() as stack:
        made = []

        def make():
            number = len(made)
            host = stack.enter_context(new_host("coil-ctl"))
            cable(host, cluster.member.host, f"172.30.{number}.0/30", ifname=f"ct{number}")
            host.run("ip", "route", "add", "default", "via", f"172.30.{number}.2")
            found = Controller(host, tmp_path / f"controller-{number}.log", cluster.store)
            stack.callback(found.stop)
            made.append(found)
            return found

        yield make
        for number, each in enumerate(made):
            if each.log.exists():
                print(f"--- log of controller {number}", each.log.read_text()[-5000:])


@pytest.fixture
def controller(controllers):
    """One that runs and leads."""
    found = controllers()
    found.start()
    until(lambda: found.leads, "the controller leads")
    return found
