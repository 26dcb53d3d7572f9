"""coil-lab web: a real browser sees what happens in the lab, and makes things happen."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
from contextlib import contextmanager

import pytest

from coil.lab.clos.lab import Lab
from coil.lab.clos.observe import observe
from coil.lab.clos.programs import programs_of
from coil.lab.clos.web.board import Board
from coil.lab.host import end, host
from coil.lab.wait import until
from coil.process.http import Endpoint, HttpStream, Router, Server
from lab.browser import Browser, ask, driver
from lab.conftest import COIL_LAB, run_lab
from lab.test_lab import SMALL

PORT = 8119
URL = f"http://127.0.0.1:{PORT}/"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def desk():
    """A host with loopback and nothing else: nobody outside can be asked for anything."""
    with host("desk") as made:
        yield made


@pytest.fixture
def own_desk():
    """For a server of one test's own."""
    with host("desk") as made:
        yield made


@contextmanager
def serving(desk, name):
    process = subprocess.Popen(
        desk.inside(COIL_LAB, "web", "--name", name), stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout.readline() == f"lab {name}: {URL}\n"
        yield process
    finally:
        assert end(process) == 0
        process.stdout.close()


@pytest.fixture(scope="module")
def web(desk, shared):
    with serving(desk, shared.name) as process:
        yield process


@pytest.fixture
def browsers(desk, web, tmp_path):
    """Opens the page in windows of their own; returns when it is live."""
    opened = []

    def start(**options):
        browser = Browser(desk, tmp_path / f"profile{len(opened)}", **options)
        browser.requests()  # those of the empty window that Chromium begins with
        browser.complaints()
        browser.open(URL)
        opened.append(browser)
        browser.shows("#live", "live")
        browser.shows("[data-machine=r2n2]", "routes")
        return browser

    with driver(desk):
        yield start
        for browser in opened:
            assert {url.split(":")[0] for url in browser.requests() if url[: len(URL)] != URL} <= {
                "data"
            }
            assert browser.complaints() == []


def post(desk, path, body, headers=JSON):
    status, answer = ask(desk, PORT, "POST", path, json.dumps(body), headers)
    return status, json.loads(answer)


def panel(browser, machine, label, act=Browser.click):
    """Click a button of a machine's panel, or only press it."""
    browser.click(f"[data-machine={machine}]")
    browser.shows("#panel h2", machine)
    browser.shows("#panel .routes li")

    # The panel may be drawn anew while the mouse is on its way, and the button be elsewhere then.
    def hit():
        return (
            browser.run(MARK, label) and browser.can(act, "#wanted") and browser.run(HIT) == label
        )

    until(hit, f"{label} is clicked")


HIT = "return window.hit"
MARK = """window.hit = "";
    window.listening ??= document.addEventListener(
        "mousedown", (event) => { window.hit = event.target.textContent; }, true) ?? true;
    const found = [...document.querySelectorAll("#panel button")]
    .find((button) => button.textContent === arguments[0]);
    if (found) found.id = "wanted";
    return Boolean(found)"""


def test_a_pod_a_ping_and_a_failure_are_seen_as_they_happen(lab, browsers):
    browser, other = browsers(), browsers(dark=True, size=(500, 900))
    lab.add_pod("a", "r1n1")
    browser.shows("[data-machine=r1n1] ~ .blocks .label span", "1")
    browser.shows(".cell.used[data-pod=a]")
    panel(browser, "r2n2", "Add a pod")
    browser.shows(".cell.used[data-pod=pod1]")
    other.shows(".cell.used[data-pod=pod1]")
    assert [pod.name for pod in lab.pods.every()] == ["a", "pod1"]

    browser.click("#start [type=submit]")
    for page in (browser, other):
        page.shows("#pings b", "a → pod1")
        page.shows("#pings .strip .ok")
        page.shows(".way .out[d^=M]")
    way = browser.text("#pings .hint:last-child").split(" \u203a ")
    assert [way[0], way[1], way[3], way[4]] == ["r1n1", "tor1", "tor2", "r2n2"]

    lab.faults.fail_link(way[2], "tor1")
    broken = f'.link.cut[data-key="{way[2]} tor1"]'
    browser.shows(broken)
    browser.shows("#events .bad", f"link {way[2]} - tor1 loses every packet")
    other_spine = {"spine1": "spine2", "spine2": "spine1"}[way[2]]
    browser.shows("#pings .hint:last-child", other_spine)

    panel(browser, "tor1", "Heal")
    browser.shows("#events .good", f"link {way[2]} - tor1 is up")
    browser.shows(f'.link.up[data-key="{way[2]} tor1"]')
    assert observe(lab)["failed"] == []

    browser.click("#pings button")
    # The words are in it while it is hidden, too.
    other.shows("#no-pings:not([hidden])", "None runs.")
    gone = "return document.querySelectorAll('#pings li').length === 0"
    until(lambda: other.run(gone), "the ping is gone")
    for page in (browser, other):
        assert page.run("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_button_that_is_held_while_its_panel_changes_is_clicked(lab, browsers):
    browser = browsers()
    panel(browser, "r1n1", "Add a pod", Browser.press)
    lab.add_pod("a", "r1n1")
    browser.shows(".cell.used[data-pod=a]")
    browser.release()
    browser.shows(".cell.used[data-pod=pod1]")
    browser.shows("#panel li b", "a")


@pytest.mark.parametrize(
    "headers",
    [
        {**JSON, "Origin": "http://example.com"},
        {**JSON, "Origin": "null"},
        {**JSON, "Host": "lab.example.com:8119"},
        {"Content-Type": "text/plain"},
        {},
    ],
)
def test_what_another_site_makes_a_browser_send_does_nothing(lab, desk, web, headers):
    status, answer = post(desk, "/pods/add", {"name": "a", "node": "r1n1"}, headers)
    assert status == 403
    assert answer["error"]
    assert lab.pods.every() == []


def test_a_name_of_another_site_that_leads_here_reads_nothing(desk, web):
    for path in ("/", "/stream", "/routes?machine=tor1"):
        status, _ = ask(desk, PORT, "GET", path, headers={"Host": "example.com"})
        assert status == 403


@pytest.mark.parametrize(
    ("path", "body", "sentence"),
    [
        ("/pods/add", {"name": "a", "node": "r9"}, "no node 'r9'; it has r1n1"),
        ("/pods/add", {"name": "a"}, "must say 'node'"),
        ("/fail", {"part": "link", "names": ["tor1", "tor2"]}, "no link between tor1 and tor2"),
        ("/fail", {"part": "moon", "names": []}, "it has link, node, router, etcd, coild"),
        ("/heal", {"part": "router", "names": ["tor1", "tor2"]}, "no part"),
        ("/pings/start", {"source": "x", "target": "y", "version": 4}, "no pod 'x'"),
        ("/pings/start", {"source": "../lab", "target": "y", "version": 4}, "no pod '../lab'"),
        ("/pings/start", [], "not a JSON object"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(desk, web, path, body, sentence):
    status, answer = post(desk, path, body)
    assert status == 400
    assert sentence in answer["error"]


def test_a_pod_that_cannot_be_is_deleted_as_any_that_is_not_there(lab, desk, web):
    lab.add_pod("a", "r1n1")
    assert post(desk, "/pods/delete", {"name": "../lab"}) == (200, {})


def test_it_ends_when_it_is_interrupted_and_its_pings_with_it(lab, own_desk):
    lab.add_pod("a", "r1n1")
    lab.add_pod("b", "r2n1")
    with serving(own_desk, lab.name) as process, watching(own_desk) as parts:
        assert next(parts("lab"))["state"]["name"] == lab.name
        status, _ = post(own_desk, "/pings/start", {"source": "a", "target": "b", "version": 6})
        assert status == 200
        until(lambda: next(parts("pings"))[0]["recent"], "packets are answered")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert not any(programs_of([lab.files.pod_host("a")]).values())


def test_a_lab_that_goes_and_comes_is_shown_as_such(own_desk, name):
    assert run_lab("up", *SMALL, name=name).returncode == 0
    with serving(own_desk, name), watching(own_desk) as parts:
        seen = parts("lab")
        assert next(seen)["state"]["failed"] == []
        Lab(name).down()
        gone = next(part for part in seen if part["state"] is None)
        assert "there is no lab" in gone["why"] or "cannot be seen" in gone["why"]
        assert run_lab("up", *SMALL, name=name).returncode == 0
        assert next(part["state"] for part in seen if part["state"] and not part["state"]["failed"])


@contextmanager
def watching(desk):
    """Follow the stream; the parts of a name as they come."""
    curl = desk.inside("curl", "-sN", "--max-time", "60", f"{URL}stream")
    with subprocess.Popen(curl, stdout=subprocess.PIPE, text=True) as process:

        def parts(name):
            for line in process.stdout:
                if line == f"event: {name}\n":
                    yield json.loads(process.stdout.readline().removeprefix("data: "))

        try:
            yield parts
        finally:
            process.kill()


def test_a_lab_that_is_not_there_and_a_port_that_is_taken_are_told(lab, name):
    done = run_lab("web", "--port=0", name=name)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"there is no lab '{name}'" in done.stderr
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run_lab("web", f"--port={port}", name=lab.name)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "choose another --port" in done.stderr


def test_a_browser_that_reads_slowly_gets_the_newest_and_nothing_piles_up():
    """What the kernel holds for it is all that it may lag behind."""
    count, size = 300, 1 << 20

    async def run():
        board = Board()

        async def stream(_request):
            return HttpStream(board.stream(), "text/event-stream")

        router = Router({("GET", "/"): Endpoint(stream)})
        server = Server(router)
        async with server.serving(0):
            port = await server.listen_tcp("127.0.0.1", 0, router)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2 * size)
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await board.wait_read()
            for number in range(count):
                board.publish("part", [number, "x" * size])
                await asyncio.sleep(0)
            numbers = []
            while not numbers or numbers[-1] < count - 1:
                line = await reader.readline()
                if line.startswith(b"data: "):
                    numbers.append(json.loads(line[6:])[0])
            writer.close()
        return numbers

    numbers = asyncio.run(run())
    assert numbers == sorted(set(numbers))
    assert len(numbers) < count / 4
