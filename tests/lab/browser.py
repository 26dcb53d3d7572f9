"""A real browser, driven by the WebDriver protocol (https://www.w3.org/TR/webdriver2/).

It lives in a network namespace that has nothing but loopback: whatever it asks for is answered
there or not at all. Its processes have a PID namespace of their own, so that all go when we do.
"""

from __future__ import annotations

import base64
import http.client
import json
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

from coil.domain.attachment import Netns
from coil.lab.wait import until
from coil.nodenet.netns import NetnsHandle

PORT = 9515
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's id in the protocol's JSON (11)."""
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "about:blank",
)  # fmt: skip


class _Connection(http.client.HTTPConnection):
    """To a port of another namespace's loopback: a socket stays where it was made."""

    def __init__(self, host, port):
        super().__init__("127.0.0.1", port, timeout=60)
        self._netns = Netns(str(host.path))

    def connect(self):
        with NetnsHandle(self._netns) as handle, handle.entered():
            super().connect()


def ask(host, port, method, path, body=None, headers=None):
    """One request to a server inside ``host``; the status and the body."""
    connection = _Connection(host, port)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


class Browser:
    """A window of Chromium; raises AssertionError with the driver's words for what it refuses."""

    def __init__(self, host, directory: Path, *, dark=False, size=(1440, 900)):
        self._host = host
        switches = [*SWITCHES, f"--user-data-dir={directory}", f"--window-size={size[0]},{size[1]}"]
        capabilities = {
            "goog:chromeOptions": {"args": switches},
            "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
        }
        self._path = "/session"
        made = self._ask("POST", "", {"capabilities": {"alwaysMatch": capabilities}})
        self._path = f"/session/{made['sessionId']}"
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.devtools("Emulation.setEmulatedMedia", {"features": [scheme]})

    def _ask(self, method, path, body=None):
        text = json.dumps(body) if body is not None else None
        _status, answer = ask(self._host, PORT, method, self._path + path, text)
        value = json.loads(answer)["value"]
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{value['error']}: {value['message']}")
        return value

    def devtools(self, command, parameters):
        """A command of Chromium's own."""
        return self._ask("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def open(self, url):
        self._ask("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """What a script returns in the page."""
        return self._ask("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def click(self, selector):
        """As a user does it: what is not to be seen, or lies below something else, is refused."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._ask("POST", f"/element/{found[ELEMENT]}/click", {})

    def press(self, selector):
        """Move to an element and hold the mouse's button down there."""
        found = self._ask("POST", "/element", {"using": "css selector", "value": selector})
        self._point(
            {"type": "pointerMove", "x": 0, "y": 0, "origin": found},
            {"type": "pointerDown", "button": 0},
        )

    def release(self):
        self._point({"type": "pointerUp", "button": 0})

    def _point(self, *actions):
        mouse = {"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"}}
        self._ask("POST", "/actions", {"actions": [{**mouse, "actions": actions}]})

    def can(self, act, selector):
        """Do ``act``, which is ``Browser.click`` or ``Browser.press``; whether it could be."""
        try:
            act(self, selector)
        except AssertionError:
            return False
        return True

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def shows(self, selector, text="", seconds=30):
        """Wait until an element is there and has this text in it."""
        script = """return [...document.querySelectorAll(arguments[0])]
            .some((element) => element.textContent.includes(arguments[1]))"""
        until(lambda: self.run(script, selector, text), f"{selector} shows {text!r}", seconds)

    def requests(self):
        """The URL of everything that was asked for since the last call."""
        entries = self._ask("POST", "/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [m for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [message["params"]["request"]["url"] for message in sent]

    def complaints(self):
        """What the page's console says: errors, refusals by the policy."""
        return [row["message"] for row in self._ask("POST", "/se/log", {"type": "browser"})]

    def screenshot(self):
        """The window as a PNG."""
        return base64.b64decode(self._ask("GET", "/screenshot"))


@contextmanager
def driver(host):
    """Chromium's driver inside ``host``, ready for browsers."""
    argv = host.inside(
        *("unshare", "--pid", "--mount-proc", "--fork", "--kill-child"),
        *("chromedriver", f"--port={PORT}", "--log-level=SEVERE"),
    )
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: is_ready(host), "chromedriver is ready")
        yield
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def is_ready(host):
    try:
        return json.loads(ask(host, PORT, "GET", "/status")[1])["value"]["ready"]
    except (OSError, http.client.HTTPException, ValueError):
        return False
