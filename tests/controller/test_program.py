"""coil-controller as a program: its options, how it ends, what it answers. Its store is SQLite."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from functools import partial
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from coil.lab.etcd import free_ports, local_etcd
from coil.lab.host import end
from coil.lab.node import PROGRAMS
from coil.lab.wait import until

PROGRAM = PROGRAMS / "coil-controller"


@pytest.fixture
def store(tmp_path):
    return f"sqlite://{tmp_path}/store.db"


@pytest.fixture
def ctl(store):
    def run(*words):
        done = subprocess.run(
            [PROGRAMS / "coilctl", "--store", store, *words], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def run(store):
    """Runs it to its end."""

    def call(*options, **environment):
        return subprocess.run(
            [PROGRAM, "--store", store, *options],
            capture_output=True,
            text=True,
            timeout=60,
            env={**os.environ, **environment},
        )

    return call


@pytest.fixture
def start(store, tmp_path):
    """Starts replicas that serve; returns them and how to ask them."""
    started = []

    def launch(port, options, environment):
        with (tmp_path / f"log-{port}").open("wb") as log:
            process = subprocess.Popen(
                [PROGRAM, "--store", store, f"--metrics-addr=127.0.0.1:{port}", *options],
                stdout=log,
                stderr=log,
                env={**os.environ, **environment},
            )
        started.append(process)
        return process

    def ask(port, path):
        try:
            with urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except HTTPError as exc:
            return exc.code, exc.read().decode()
        except OSError:  # not there, or slow
            return 0, ""

    def call(*options, **environment):
        def serving():
            (port,) = free_ports(1)
            process, get = launch(port, options, environment), partial(ask, port)
            until(lambda: process.poll() is not None or get("/health")[0] == 200, "it serves")
            # Somebody else may have got the port meanwhile.
            return process.poll() is None and (process, get)

        return until(serving, "it serves on a free port")

    yield call
    for process in started:
        end(process)


def test_on_one_machine_it_counts_blocks_and_takes_nothing(start, ctl):
    ctl("pool", "create", "default", "10.0.0.0/24")
    process, get = start("--period=0.2")
    until(lambda: get("/ready")[0] == 200, "it is ready")
    until(lambda: json.loads(get("/status")[1])["passes"], "it has looked")
    text = get("/metrics")[1]
    assert 'coil_controller_max_blocks{pool="default"} 8.0' in text
    assert 'coil_controller_allocated_blocks{pool="default"} 0.0' in text
    assert "coil_controller_leader 1.0" in text
    assert 'coil_controller_problems{kind="store"} 0.0' in text
    assert get("/nothing")[0] == 404
    assert "leads" in ctl("audit")
    assert end(process) == 0
    assert "none leads" in ctl("audit")


def test_replicas_on_one_machine_have_one_leader(start, ctl):
    ctl("pool", "create", "default", "10.0.0.0/24")
    (first, get_first), (_second, get_second) = start("--lease=5"), start("--lease=5")
    until(lambda: "leader 1.0" in get_first("/metrics")[1], "the first leads")
    until(lambda: get_second("/ready")[0] == 200, "the second has heard who leads")
    assert "leader 0.0" in get_second("/metrics")[1]
    assert "max_blocks" not in get_second("/metrics")[1]
    first.kill()
    until(lambda: "max_blocks" in get_second("/metrics")[1], "the second goes on")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--grace=5"], "--short-grace"),
        (["--grace=0", "--short-grace"], "positive"),
        (["--grace=130"], "more than 130"),
        (["--period=0"], "period"),
        (["--lease=1"], "lease"),
        (["--lease=inf"], "lease must be a number"),
        (["--grace=nan"], "grace must be a number"),
        (["--most-missing=101"], "percent"),
        (["--metrics-addr=9385"], "HOST:PORT"),
        (["--store=redis://x"], "sqlite:///"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(run, ctl, options, says):
    ctl("pool", "create", "default", "10.0.0.0/24")  # cools for 130 s
    done = run(*options)
    assert done.returncode == 78
    last = done.stderr.splitlines()[-1]
    assert last.startswith("coil-controller: ")
    assert says in last
    assert "Traceback" not in done.stderr


def test_an_address_that_the_host_has_not_yet_is_no_wrong_setting(run):
    """systemd starts it again after 1, not after 78."""
    done = run("--metrics-addr=192.0.2.1:9385")
    assert (done.returncode, "cannot listen on 192.0.2.1:9385" in done.stderr) == (1, True)


def test_a_wrong_command_line_is_told_apart(run):
    done = run("--graze=5")
    assert done.returncode == 2
    assert "--graze" in done.stderr


def test_settings_come_from_flags_environment_and_file_in_this_order(run, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('grace = 111\nperiod = 7\nlease = 9\n"most-missing" = 3\n')
    done = run("--config", str(config), "--grace=333", "--print-config", COIL_PERIOD="8")
    shown = json.loads(done.stdout)
    assert (shown["grace"], shown["period"], shown["lease"], shown["most-missing"]) == (
        333,
        8,
        9,
        3,
    )
    config.write_text("graze = 1")
    assert "graze" in run("--config", str(config)).stderr
    hidden = run("--print-config", "--store=etcd://u:secret@h:1/x").stdout
    assert "secret" not in hidden


def test_it_tells_systemd_that_it_serves_and_that_it_ends(start, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        process, _get = start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
        process.send_signal(signal.SIGINT)
        assert manager.recv(100) == b"STOPPING=1"
        assert process.wait(20) == 0


def test_a_wrong_password_is_a_problem_until_it_is_right(start, tmp_path):
    """It may be mended in etcd; who ended for it would stay down."""
    with local_etcd(tmp_path / "etcd") as (member,):
        for words in (
            "user add root:r", "user grant-role root root", "user add coil:old", "role add coil",
            "role grant-permission coil readwrite /x/ --prefix", "user grant-role coil coil",
            "auth enable", "--user=root:r user delete coil", "--user=root:r user add coil:new",
        ):  # fmt: skip
            member.ctl(*words.split())
        process, get = start(f"--store=etcd://coil:old@{member.endpoint}/x", "--lease=2")
        until(lambda: "wrong user name or password" in get("/status")[1], "it is told")
        assert process.poll() is None
        for words in ("delete coil", "add coil:old", "grant-role coil coil"):
            member.ctl("--user=root:r", "user", *words.split())
        until(lambda: get("/ready")[0] == 200, "it leads")


def test_a_store_of_another_format_is_left_alone(start, tmp_path):
    with local_etcd(tmp_path / "etcd") as (member,):
        member.ctl("put", "/x/identity", '{"format": 99, "identity": "x"}')
        process, get = start(f"--store=etcd://{member.endpoint}/x", "--lease=2")
        until(lambda: "format 99" in get("/status")[1], "it is told")
        assert process.poll() is None
        assert member.ctl("get", "/x/", "--prefix", "--keys-only").stdout.split() == ["/x/identity"]


def test_a_store_that_is_away_holds_nobody_up_and_is_told(start):
    (port,) = free_ports(1)
    _process, get = start(f"--store=etcd://127.0.0.1:{port}/x?timeout=0.2", "--lease=2")
    until(lambda: "nothing listens" in get("/status")[1], "it is told")
    assert get("/ready")[0] == 503
