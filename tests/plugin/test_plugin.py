"""The plugin's promises, against the built executable."""

from __future__ import annotations

import json
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import parse_qsl

import pytest

from coil.cni import versions
from coil.lab.wait import until
from plugin.conftest import BUILD, ROOT, answer, call, hangs_up, netconf, replies

VARIABLES = {
    "CNI_CONTAINERID": "abc-1",
    "CNI_NETNS": "/run/netns/x",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "K8S_POD_NAME=a b&c;X=%",
    "CNI_PATH": "/opt/cni/bin",
}


@pytest.mark.parametrize(("name", "machine"), [("coil-x86_64", 62), ("coil-aarch64", 183)])
def test_it_is_small_and_static_for_both_architectures(name, machine):
    data = (BUILD / name).read_bytes()
    assert len(data) <= 64 * 1024
    assert data[:4] == b"\x7fELF"
    assert struct.unpack_from("<H", data, 18)[0] == machine
    offset, size, count = (
        struct.unpack_from("<Q", data, 32)[0],
        struct.unpack_from("<H", data, 54)[0],
        struct.unpack_from("<H", data, 56)[0],
    )
    kinds = {struct.unpack_from("<I", data, offset + n * size)[0] for n in range(count)}
    assert 3 not in kinds  # PT_INTERP: a dynamic loader of the host


def test_variables_and_stdin_arrive_as_they_were_sent(plugin, peer, tmp_path):
    coild = peer(replies(answer(b'{"ok":1}\n')))
    conf = netconf(coild.path, data='\u00e4\\"')
    done = call(plugin, conf, CNI_COMMAND="ADD", **VARIABLES)
    assert (done.status, done.raw) == (0, b'{"ok":1}\n')
    head, body = coild.requests[0]
    method, target, protocol = head.split(b"\r\n")[0].split(b" ")
    assert (method, protocol) == (b"POST", b"HTTP/1.1")
    path, _, query = target.decode().partition("?")
    assert path == "/cni"
    assert dict(parse_qsl(query, keep_blank_values=True)) == {"CNI_COMMAND": "ADD", **VARIABLES}
    assert json.loads(body) == conf


def test_odd_bytes_in_variables_cannot_break_the_request(plugin, peer):
    coild = peer(replies(answer()))
    odd = b"\r\nX: y\r\n\xff\x01 &=%00"
    done = call(plugin, netconf(coild.path), CNI_COMMAND="DEL", CNI_CONTAINERID=odd, CNI_NETNS="")
    assert done.status == 0
    head, _ = coild.requests[0]
    assert b"\r\nX: y" not in head
    assert b"CNI_CONTAINERID=%0D%0AX%3A%20y%0D%0A%FF%01%20%26%3D%2500&CNI_NETNS=" in head


def test_an_error_of_the_daemon_is_printed_and_fails(plugin, peer):
    body = b'{"cniVersion":"1.0.0","code":11,"msg":"full"}\n'
    coild = peer(replies(answer(body, "503 Service Unavailable")))
    done = call(plugin, netconf(coild.path), CNI_COMMAND="ADD")
    assert (done.status, done.raw) == (1, body)


@pytest.mark.parametrize(
    ("stdin", "code"),
    [
        (b"", 6),
        (b"{", 6),
        (b"[]", 6),
        (b"{} x", 6),
        (b'{"a":tru}', 6),
        (b'{"a":"\\x"}', 6),
        (b"\x00", 6),
        (b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", 6),
        (b'{"a":"' + b"x" * (2 << 20) + b'"}', 6),
        (b'{"socket":5}', 7),
        (b'{"socket":["/a"]}', 7),
        (b'{"socket":"relative"}', 7),
        (b'{"socket":"/' + b"x" * 200 + b'"}', 7),
        (b'{"timeout":0}', 7),
        (b'{"timeout":-1}', 7),
        (b'{"timeout":"5"}', 7),
        (b'{"timeout":true}', 7),
        (b'{"timeout":1e9}', 7),
        (b'{"timeout":nan}', 6),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_a_bad_netconf_is_refused_by_code_before_anybody_is_asked(plugin, stdin, code):
    done = call(plugin, stdin, CNI_COMMAND="ADD")
    assert done.status == 1
    assert done.json["code"] == code
    assert done.json["msg"]


def test_errors_of_its_own_have_the_version_of_the_netconf(plugin):
    done = call(plugin, b'{"timeout":0,"cniVersion":"0.4.0"}', CNI_COMMAND="ADD")
    assert done.json["cniVersion"] == "0.4.0"


def test_without_a_command_it_names_the_variable(plugin):
    done = call(plugin)
    assert (done.status, done.json["code"]) == (1, 4)
    assert "CNI_COMMAND" in done.json["msg"]
    assert b"coilctl" in done.stderr


@pytest.mark.parametrize("version", [*versions.SUPPORTED, None])
def test_version_is_answered_without_a_daemon(plugin, version):
    stdin = {"cniVersion": version} if version else b""
    done = call(plugin, stdin, CNI_COMMAND="VERSION")
    assert done.status == 0
    assert done.json == {
        "cniVersion": version or versions.NEWEST,
        "supportedVersions": list(versions.SUPPORTED),
    }


def test_version_is_answered_whatever_else_the_netconf_says(plugin):
    done = call(plugin, {"cniVersion": "1.0.0", "timeout": 0, "socket": 5}, CNI_COMMAND="VERSION")
    assert (done.status, done.json["cniVersion"]) == (0, "1.0.0")
    assert call(plugin, b"{", CNI_COMMAND="VERSION").json["code"] == 6


def test_it_waits_for_a_daemon_that_comes_late(plugin, peer, tmp_path):
    timer = threading.Timer(0.5, lambda: peer(replies(answer(b"late\n"))))
    timer.start()
    done = call(plugin, netconf(tmp_path / "s"), CNI_COMMAND="ADD")
    timer.join()
    assert (done.status, done.raw) == (0, b"late\n")


def test_a_daemon_that_goes_away_is_asked_again(plugin, peer):
    cut = answer(b"x" * 100)[:-50]
    coild = peer(hangs_up, replies(b""), replies(cut), replies(b"HTTP/1.1 200"), replies(answer()))
    done = call(plugin, netconf(coild.path), CNI_COMMAND="DEL")
    assert (done.status, done.raw) == (0, b"{}\n")
    assert coild.connections == 5


@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("DEL", 11), ("STATUS", 50)])
def test_no_daemon_within_the_budget_is_try_again_or_not_available(plugin, tmp_path, command, code):
    done = call(plugin, netconf(tmp_path / "s", timeout=0.4), CNI_COMMAND=command)
    assert (done.status, done.json["code"]) == (1, code)
    assert str(tmp_path / "s")[:20] in done.json["details"]


def test_the_budget_also_bounds_a_daemon_that_never_answers(plugin, peer):
    def sits(peer, connection):
        peer.read(connection)
        connection.recv(1)

    coild = peer(sits)
    done = call(plugin, netconf(coild.path, timeout=0.5), CNI_COMMAND="ADD")
    assert done.json["code"] == 11


def test_it_does_not_hammer_a_daemon_that_is_away(plugin, peer):
    coild = peer(hangs_up)
    call(plugin, netconf(coild.path, timeout=2), CNI_COMMAND="ADD")
    assert coild.connections < 40


def test_an_endless_answer_is_bounded(plugin, peer):
    def floods(peer, connection):
        peer.read(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    coild = peer(floods)
    done = call(plugin, netconf(coild.path, timeout=1), CNI_COMMAND="ADD")
    assert done.json["code"] == 11


def test_a_socket_it_may_not_use_is_an_error_at_once(built, tmp_path):
    (tmp_path / "file").write_text("")
    done = call(built / "coil", netconf(tmp_path / "file" / "s"), CNI_COMMAND="ADD")
    assert done.json["code"] == 5


def test_it_gives_up_when_its_runtime_has_died(plugin, peer):
    """An ADD must not come to a daemon after the DEL of a runtime that was restarted."""
    script = (
        "import subprocess, sys, os\n"
        "p = subprocess.Popen([sys.argv[1]], stdin=subprocess.PIPE,\n"
        "    env={'CNI_COMMAND': 'ADD', 'ASAN_OPTIONS': 'detect_leaks=0'})\n"
        "p.stdin.write(sys.argv[2].encode()); p.stdin.close()\n"
        "print(p.pid, flush=True); sys.stdin.read()\n"
    )
    coild = peer(hangs_up)
    conf = json.dumps(netconf(coild.path, timeout=60))
    parent = subprocess.Popen(
        [sys.executable, "-c", script, plugin, conf],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    pid = int(parent.stdout.readline())
    until(lambda: coild.connections, "the plugin tries")
    parent.send_signal(signal.SIGKILL)
    parent.wait(10)
    parent.stdin.close()
    parent.stdout.close()

    def is_gone():
        try:
            with open(f"/proc/{pid}/stat") as stat:
                return stat.read().rsplit(")")[1].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    until(is_gone, "the plugin ends", 5)


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_closed_standard_streams_are_not_mistaken_for_sockets(plugin, peer, closed):
    coild = peer(replies(answer()))
    script = "; ".join(f"exec {fd}{'<' if fd == 0 else '>'}&-" for fd in closed)
    done = subprocess.run(
        ["sh", "-c", f"{script}; exec {plugin}"],
        input=json.dumps(netconf(coild.path)).encode(),
        env={"CNI_COMMAND": "DEL", "ASAN_OPTIONS": "detect_leaks=0"},
        capture_output=True,
        timeout=20,
    )
    if 0 in closed:
        assert done.returncode == 1
        assert coild.requests == []
    elif 1 not in closed:
        assert (done.returncode, done.stdout) == (0, b"{}\n")


def test_a_runtime_that_does_not_listen_any_more_ends_nothing_by_a_signal(plugin, peer):
    coild = peer(replies(answer()))
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [plugin],
        input=json.dumps(netconf(coild.path)).encode(),
        env={"CNI_COMMAND": "DEL", "ASAN_OPTIONS": "detect_leaks=0"},
        stdout=write,
        timeout=20,
    )
    os.close(write)
    assert done.returncode == 1


def test_standard_streams_may_be_non_blocking(plugin, peer):
    coild = peer(replies(answer(b"x" * 300_000)))
    (stdin, feed), (drain, stdout) = os.pipe(), os.pipe()
    os.set_blocking(stdin, False)
    os.set_blocking(stdout, False)
    running = subprocess.Popen(
        [plugin],
        stdin=stdin,
        stdout=stdout,
        env={"CNI_COMMAND": "DEL", "ASAN_OPTIONS": "detect_leaks=0"},
    )
    os.close(stdin)
    os.close(stdout)
    until(lambda: in_poll(running.pid), "it waits for the netconf")
    with open(feed, "wb") as pipe:
        pipe.write(json.dumps(netconf(coild.path)).encode())
    until(lambda: in_poll(running.pid), "it waits to be listened to")
    with open(drain, "rb") as pipe:
        assert len(pipe.read()) == 300_000
    assert running.wait(20) == 0


def in_poll(pid):
    with open(f"/proc/{pid}/wchan") as wchan:
        return "poll" in wchan.read()


def test_fifty_at_once(built, peer):
    coild = peer(replies(answer(b"x" * 5000)))
    with ThreadPoolExecutor(50) as threads:
        results = list(
            threads.map(
                lambda _n: call(built / "coil", netconf(coild.path), CNI_COMMAND="ADD"), range(50)
            )
        )
    assert {(done.status, len(done.raw)) for done in results} == {(0, 5000)}


@pytest.mark.parametrize("seed", ["1", "2", "3"])
def test_mutated_input_finds_no_fault_under_sanitizers(built, seed):
    done = subprocess.run(
        [built / "coil-fuzz", seed, "20000"],
        env={"ASAN_OPTIONS": "detect_leaks=1"},
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr.decode()[-3000:]


def test_a_stopped_daemon_is_not_a_dead_one(plugin, peer):
    """Slow answers, byte by byte, are waited for."""

    def trickles(peer, connection):
        peer.read(connection)
        for byte in answer():
            connection.sendall(bytes([byte]))
            time.sleep(0.002)

    coild = peer(trickles)
    assert call(plugin, netconf(coild.path), CNI_COMMAND="ADD").raw == b"{}\n"
    assert os.path.exists(ROOT / "plugin" / "coil.c")
