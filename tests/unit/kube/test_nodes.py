"""Labels of Node objects: their keys, and what an object says."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from coil.domain.errors import ConfigError
from coil.domain.names import NodeName
from coil.kube.client import KubeClient
from coil.kube.errors import KubeUnavailable
from coil.kube.labels import parse_label_key
from coil.kube.nodes import find_node_label

RACK = "topology.kubernetes.io/rack"


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """A pod's folder, and beside it the certificate that its server is known by."""
    folder = tmp_path_factory.mktemp("account")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-keyout", folder / "key", "-out", folder / "ca.crt"),
        ],
        check=True,
        capture_output=True,
    )
    (folder / "token").write_text("secret\n")
    return folder


@contextmanager
def server(account, answer, asked):
    """An HTTPS server that gives this answer to each GET, and notes what it was asked and how."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            body = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(account / "ca.crt", account / "key")
    with HTTPServer(("127.0.0.1", 0), Handler) as made:
        made.socket = context.wrap_socket(made.socket, server_side=True)
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield KubeClient("127.0.0.1", made.server_port, account)
        finally:
            made.shutdown()
            thread.join()


def find(account, answer):
    asked = []
    with server(account, answer, asked) as client:
        try:
            return asyncio.run(find_node_label(client, NodeName("n0"), RACK))
        finally:
            assert asked == [("/api/v1/nodes/n0", "Bearer secret")]


@pytest.mark.parametrize(
    ("metadata", "value"),
    [
        ({"name": "n0", "labels": {RACK: "r1", "other": "x"}}, "r1"),
        ({"name": "n0", "labels": {RACK: ""}}, ""),
        ({"name": "n0", "labels": {"other": "x"}}, ""),
        ({"name": "n0", "labels": None}, ""),
        ({"name": "n0"}, ""),
    ],
)
def test_a_label_is_found_or_empty(account, metadata, value):
    assert find(account, {"kind": "Node", "metadata": metadata}) == value


@pytest.mark.parametrize("answer", [{"kind": "Status"}, {}, [], None, "Node"])
def test_what_is_no_node_is_refused(account, answer):
    with pytest.raises(KubeUnavailable, match="n0 is no Node object"):
        find(account, answer)


@pytest.mark.parametrize("key", [RACK, "rack", "a/b", "example.com/Rack_1.x", "a" * 63])
def test_keys_of_labels(key):
    assert parse_label_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "/", "a/", "/a", "a/b/c", "A.com/x", "-a", "a-", "a b", "a" * 64, "ä", "a\n"]
)
def test_what_is_no_key_is_refused(key):
    with pytest.raises(ConfigError, match="is not the key of a Kubernetes label"):
        parse_label_key(key)
