"""coild as a program: settings, sockets, signals, probes, metrics."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from coil.lab.wait import until
from daemon.conftest import DUAL

COILD = Path(sys.executable).with_name("coild")


def coild(*words, **environment):
    return subprocess.run(
        [COILD, *words],
        capture_output=True,
        text=True,
        timeout=30,
        env={"PATH": os.environ["PATH"], **environment},
    )


def ask(machine, method, target, body=b""):
    """(status, body) of one HTTP request on coild's socket."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(10)
        sock.connect(str(machine.socket))
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        sock.sendall(head.encode() + body)
        data = b""
        while part := sock.recv(65536):
            data += part
    head, _, answer = data.partition(b"\r\n\r\n")
    return int(head.split()[1]), answer


def test_settings_come_from_flags_environment_and_file_in_that_order(tmp_path):
    (tmp_path / "c.toml").write_text('mtu = 1300\nnode-name = "file"\nperiod = 7.5\n')
    done = coild(
        *("--config", tmp_path / "c.toml", "--node-name", "flag", "--print-config"),
        COIL_MTU="1400",
        COIL_NODE_NAME="environment",
    )
    shown = json.loads(done.stdout)
    assert (shown["node-name"], shown["mtu"], shown["period"]) == ("flag", 1400, 7.5)
    assert shown["socket"] == "/run/coil/coild.sock"
    assert shown["export-table"] == 119


@pytest.mark.parametrize(
    ("words", "says", "status"),
    [
        (("--store", "redis://x"), "sqlite:///", 78),
        (("--store", "sqlite://relative"), "sqlite:///", 78),
        (("--socket", "relative"), "absolute", 78),
        (("--socket", "/" + "x" * 120), "107", 78),
        (("--state-dir", "relative"), "absolute", 78),
        (("--bird-socket", "relative"), "bird-socket must be an absolute path", 78),
        (("--frr-socket", "/" + "x" * 120), "frr-socket path is longer than 107 bytes", 78),
        (("--rack-label", "a b"), "'a b' is not the key of a Kubernetes label", 78),
        (("--gobgp", "localhost"), "gobgp 'localhost' must be HOST:PORT", 78),
        (("--state-dir", "/dev/null/x"), "state directory", 78),
        (("--mtu", "5"), "mtu", 78),
        (("--mtu", "many"), "mtu", 2),
        (("--node-name", "Not A Node"), "--node-name", 78),
        (("--rack", "a b"), "rack name", 78),
        (("--pod-table", "119"), "differ", 78),
        (("--metrics-addr", "nowhere"), "HOST:PORT", 78),
        (("--period", "nan"), "period must be a number, not nan", 78),
        (("--gc", "maybe"), "dry-run", 2),
        (("--config", "/nonexistent"), "/nonexistent", 2),
        (("--frobnicate",), "frobnicate", 2),
    ],
    ids=lambda value: str(value)[:30],
)
def test_impossible_settings_are_refused_in_a_sentence(tmp_path, words, says, status):
    base = {
        "--store": f"sqlite://{tmp_path}/s.db",
        "--socket": f"{tmp_path}/s",
        "--state-dir": f"{tmp_path}/state",
        "--node-name": "n",
    }
    base.pop(words[0], None)
    done = coild(*(word for pair in base.items() for word in pair), *words)
    assert done.returncode == status, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_an_address_that_the_host_has_not_yet_is_no_wrong_setting(machine):
    """systemd starts coild again after 1, not after 78."""
    machine.stop()
    done = machine.host.run(
        *(COILD, "--node-name=node1", f"--store={machine.store}", f"--socket={machine.socket}"),
        *(f"--state-dir={machine.directory}/state", "--metrics-addr=192.0.2.99:9384"),
        check=False,
    )
    assert (done.returncode, "cannot listen on 192.0.2.99:9384" in done.stderr) == (1, True)


def test_what_is_no_number_is_refused_from_environment_and_file_too(tmp_path):
    (tmp_path / "c.toml").write_text("period = inf\n")
    for done in (
        coild("--config", tmp_path / "c.toml", "--node-name=n", "--print-config"),
        coild("--node-name=n", "--print-config", COIL_PERIOD="inf"),
    ):
        assert done.returncode == 78
        assert "period must be a number, not inf" in done.stderr


def test_a_rack_by_a_label_needs_kubernetes(tmp_path):
    done = coild(
        *("--store", f"sqlite://{tmp_path}/s.db", "--socket", f"{tmp_path}/s"),
        *("--state-dir", f"{tmp_path}/state", "--node-name=n", "--rack-label=a/b"),
        KUBERNETES_SERVICE_HOST="",
    )
    assert done.returncode == 78
    assert "this is no pod of Kubernetes with a service account" in done.stderr
    assert "name the rack by --rack or --rack-file" in done.stderr


def test_an_unknown_key_of_the_file_is_named(tmp_path):
    (tmp_path / "c.toml").write_text("nonsense = 1\n")
    done = coild("--config", tmp_path / "c.toml", "--print-config")
    assert done.returncode == 2
    assert "nonsense" in done.stderr


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("mtu = [1]", "mtu in"),
        ("mtu = {a = 1}", "mtu in"),
        ("mtu = 1979-05-27", "mtu in"),
        ("period = [1]", "period in"),
        ("socket = [1]", "socket in"),
        ("store = {a = 1}", "store in"),
        ("mtu = 1300.5", "'1300.5' is not a valid integer"),
        ("pod-table = true", "'True' is not a valid integer"),
        ("socket = 1", "socket must be an absolute path, not '1'"),
    ],
)
def test_a_value_of_the_wrong_kind_is_refused(tmp_path, line, says):
    (tmp_path / "c.toml").write_text(f"{line}\n")
    done = coild("--config", tmp_path / "c.toml", "--node-name=n", "--print-config")
    assert done.returncode == (78 if "absolute" in says else 2)
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_a_switch_of_the_file_is_true_or_false(tmp_path):
    for value in (True, False):
        (tmp_path / "c.toml").write_text(f"calico-names = {value}\n".lower())
        done = coild("--config", tmp_path / "c.toml", "--node-name=n", "--print-config")
        assert json.loads(done.stdout)["calico-names"] is value


def test_the_socket_is_roots_alone_and_a_second_coild_is_refused(machine, tmp_path):
    assert stat.S_IMODE(machine.socket.stat().st_mode) == 0o600
    same_state = machine.host.run(
        *(COILD, "--node-name=node1", f"--store={machine.store}", f"--socket={tmp_path}/other"),
        f"--state-dir={machine.directory}/state",
        check=False,
    )
    assert same_state.returncode == 78
    assert "--state-dir" in same_state.stderr
    same_socket = machine.host.run(
        *(COILD, "--node-name=node1", f"--store={machine.store}", f"--socket={machine.socket}"),
        f"--state-dir={tmp_path}/other",
        check=False,
    )
    assert same_socket.returncode == 78
    assert "--socket" in same_socket.stderr
    machine.add("a", machine.pods())


def test_a_socket_that_was_deleted_is_made_anew(machine):
    machine.stop()
    machine.start("--period=0.2")
    machine.socket.unlink()
    machine.add("a", machine.pods(), timeout=20)
    assert stat.S_IMODE(machine.socket.stat().st_mode) == 0o600
    machine.delete("a")
    assert machine.stop() == 0


def test_a_socket_that_another_serves_on_by_now_is_left_to_it_as_long_as_it_does(machine):
    machine.stop()
    machine.start("--period=0.2")
    with socket.socket(socket.AF_UNIX) as other:
        machine.socket.unlink()
        other.bind(str(machine.socket))
        other.listen()
        until(lambda: "serves on" in machine.log.read_text(), "it says so")
        before = machine.socket.stat().st_ino
        other.settimeout(30)
        for _probe in range(3):  # passes of coild's
            other.accept()[0].close()
        assert machine.socket.stat().st_ino == before
    until(lambda: served(machine), "it serves again")
    until(lambda: machine_status(machine)["problems"] == [], "the problem is gone")


def served(machine):
    with contextlib.suppress(OSError):
        return ask(machine, "GET", "/health")[0] == 200
    return False


def test_probes_and_metrics_answer(machine):
    machine.add("a", machine.pods())
    machine.cni("ADD", "b", "/nonexistent")
    assert ask(machine, "GET", "/health")[0] == 200
    assert ask(machine, "GET", "/ready") == (200, b'{"ready": true}\n')
    text = ask(machine, "GET", "/metrics")[1].decode()
    assert 'coil_cni_requests_total{code="0",command="ADD"} 1.0' in text
    assert 'coil_cni_requests_total{code="3",command="ADD"} 1.0' in text
    assert 'coil_addresses{pool="default",state="used"} 1.0' in text
    assert 'coil_blocks{pool="default"} 1.0' in text
    assert 'coil_problems{kind="store"} 0.0' in text
    assert 'coil_store_conflicts_total{op="claim"} 0.0' in text
    assert ask(machine, "GET", "/nowhere")[0] == 404
    assert ask(machine, "GET", "/cni")[0] == 405
    assert machine.host.run("ss", "-Hltn").stdout == ""


def test_metrics_over_tcp_only_when_asked_for(machine):
    machine.stop()
    machine.start("--metrics-addr=127.0.0.1:9384")
    text = machine.host.run("curl", "-s", "http://127.0.0.1:9384/metrics").stdout
    assert "coil_blocks" in text
    code = machine.host.run(
        *("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://127.0.0.1:9384/status")
    ).stdout
    assert code == "404"


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01garbage\r\n\r\n",
        b"POST /cni HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n",
        b"POST /cni?CNI_COMMAND=ADD HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"GET /status HTTP/9.9\r\n\r\n",
        b"POST /cni?" + b"x" * (2 << 20),
        b"GET /address?address=%ff%00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET //[x HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /status?" + b"a=1&" * 70 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"",
    ],
    ids=lambda data: repr(data)[:24],
)
def test_what_is_no_request_harms_nothing(machine, sent):
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
        sock.settimeout(3)
        sock.connect(str(machine.socket))
        sock.sendall(sent)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(65536)
    assert ask(machine, "GET", "/health")[0] == 200
    log = machine.log.read_text()
    assert "bug while" not in log
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", "//[x", 404),
        ("GET", "/status?" + "a=1&" * 70, 400),
        ("HEAD", "/status", 405),
        ("DELETE", "/status", 405),
        ("GET", "/address?address=%ff%00", 400),
    ],
)
def test_what_cannot_be_served_is_answered(machine, method, target, status):
    found, body = ask(machine, method, target)
    assert found == status
    assert body == b"" if method == "HEAD" else "error" in json.loads(body)


def test_running_out_of_descriptors_makes_callers_wait_and_no_more(machine):
    pid = machine._process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 3, limits[1]))
    with contextlib.ExitStack() as idle:
        for _number in range(8):
            sock = idle.enter_context(socket.socket(socket.AF_UNIX))
            sock.connect(str(machine.socket))
        until(lambda: "cannot accept connections" in machine.log.read_text(), "it says so")
    assert ask(machine, "GET", "/health")[0] == 200
    assert "Traceback" not in machine.log.read_text()


def test_sigterm_finishes_what_is_in_flight(machine):
    pods = machine.pods(10)
    for n, pod in enumerate(pods):
        machine.add(f"c{n}", pod)
    deleting = [machine.spawn("DEL", f"c{n}", pod) for n, pod in enumerate(pods)]
    until(lambda: any(p.poll() is not None for p in deleting) or machine.links(), "they run")
    assert machine.stop() == 0
    machine.start()
    for process in deleting:
        process.communicate(timeout=30)
        assert process.returncode == 0
    assert machine.used() == {}
    assert machine.links() == []


def test_systemd_is_told_when_it_serves(machine, tmp_path):
    machine.stop()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(30)
        machine.launch("env", f"NOTIFY_SOCKET={tmp_path}/notify", "WATCHDOG_USEC=400000", COILD)
        heard = {manager.recv(200) for _message in range(3)}
        assert {b"READY=1", b"WATCHDOG=1"} <= heard
        assert machine.stop() == 0


def test_a_store_that_cannot_be_read_is_a_problem_and_no_more(machine):
    machine.stop()
    machine.start("--period=0.3")
    store, away = machine.directory / "store.db", machine.directory / "away.db"
    # A coild that runs sees at once that there is none, and makes one.
    machine.suspend()
    store.rename(away)
    store.mkdir()
    machine.resume()
    until(
        lambda: "store" in [p["kind"] for p in machine_status(machine)["problems"]],
        "the problem is shown",
    )
    assert machine.cni("STATUS", version="1.1.0").code == 0
    machine.add("a", machine.pods())
    assert machine.routes(119) == {"10.66.0.0/27": "lo"}
    store.rmdir()
    away.rename(store)
    until(lambda: machine_status(machine)["problems"] == [], "the problem is gone")


def test_a_start_on_a_store_that_cannot_be_written_gives_what_it_owns(machines):
    machine = machines()
    place = machine.directory / "store"
    place.mkdir()
    machine.store = f"sqlite://{place}/store.db"
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    try:
        machine.create_pool(DUAL)
        machine.start()
        machine.wait_block()
        machine.kill()
        subprocess.run(["mount", "-o", "remount,ro", place], check=True)
        machine.start("--period=0.3")
        assert [p["kind"] for p in machine_status(machine)["problems"]] == ["store"]
        machine.add("a", machine.pods())
        assert machine.routes(119) == {"10.66.0.0/27": "lo"}
        subprocess.run(["mount", "-o", "remount,rw", place], check=True)
        until(lambda: machine_status(machine)["problems"] == [], "the problem is gone")
        assert list(machine.used().values()) == ["a"]
    finally:
        machine.stop()
        subprocess.run(["umount", "-l", place], check=True)


def machine_status(machine):
    return json.loads(ask(machine, "GET", "/status")[1])


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (("address", "info", "nonsense"), 2),
        (("address", "info", "198.51.100.1"), 0),
        (("address", "free", "10.66.0.1", "--yes"), 1),
        (("explain", "nobody"), 1),
    ],
)
def test_what_coild_says_decides_the_exit_status_of_coilctl(machine, words, status):
    assert machine.ctl(*words, check=False).returncode == status


def test_a_line_of_the_log_tells_its_request_and_its_attachment(machine):
    machine.add("a", machine.pods())
    machine.cni("ADD", "b", "/nonexistent")
    lines = [json.loads(line) for line in machine.log.read_text().splitlines()]
    given = next(line for line in lines if line["event"] == "address allocated")
    assert (given["container_id"], given["ifname"], given["block"]) == ("a", "eth0", "default/0")
    refused = next(line for line in lines if line["event"] == "cni request refused")
    assert (refused["container_id"], refused["code"]) == ("b", 3)
    assert refused["request_id"] > given["request_id"] > 0
