"""HTTP/1.1 as bytes: a request in, the head of an answer out. No I/O; httptools parses."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import unquote_plus

from httptools import (
    HttpParserError,
    HttpParserInvalidURLError,
    HttpParserUpgrade,
    HttpRequestParser,
    parse_url,
)

MOST_HEAD = 3 << 20
"""Bytes. CNI has six variables of at most 128 KiB each (MAX_ARG_STRLEN); encoding triples them."""
MOST_BODY = 1 << 20
_MOST_FIELDS = 64


class BadRequest(Exception):
    """What came is not a request that is served; ``status`` says why in HTTP's words."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class RequestReader:
    """Collects one request. What is sent after it is ignored: one request per connection."""

    def __init__(self) -> None:
        self.method = ""
        self.path = ""
        self.query: dict[str, str] = {}
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self._target = b""
        self._received = 0
        self._in_body = False
        self._is_whole = False
        self._parser = HttpRequestParser(self)

    def feed(self, data: bytes) -> bool:
        """Take in what was received; whether the request is whole now, and this done for good.

        Raises BadRequest.
        """
        self._received += len(data)
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # to nothing that is spoken here: answered as if it had not been asked for
        except HttpParserError as exc:
            if not self._is_whole:
                raise BadRequest(400, str(exc)) from exc
        if not self._in_body and self._received > MOST_HEAD:
            raise BadRequest(431, f"a request line and headers may have {MOST_HEAD} bytes")
        if len(self.body) > MOST_BODY:
            raise BadRequest(413, f"a body may have {MOST_BODY} bytes")
        if self._is_whole:
            self.path, self.query = _split_target(self._target)
            del self._parser  # it has our methods: a cycle, which would wait for the collector
        return self._is_whole

    # Called by the parser; once the request is whole it may go on with what follows.

    def on_url(self, part: bytes) -> None:
        """A piece of the target."""
        if not self._is_whole:
            self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; of one name the last counts."""
        if not self._is_whole:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        """The head has ended."""
        if not self._is_whole:
            self._in_body = True
            self.method = self._parser.get_method().decode("latin-1")

    def on_body(self, part: bytes) -> None:
        """A piece of the body."""
        if not self._is_whole:
            self.body += part

    def on_message_complete(self) -> None:
        """All of it is here."""
        self._is_whole = True


def _split_target(target: bytes) -> tuple[str, dict[str, str]]:
    # The query first: parse_url() takes 64 KiB only.
    resource, _, query = target.partition(b"?")
    try:
        path = parse_url(resource).path or b""
    except HttpParserInvalidURLError as exc:
        raise BadRequest(400, f"the target is no URL: {exc}") from exc
    return path.decode("latin-1"), _split_query(query.decode("latin-1"))


def _split_query(query: str) -> dict[str, str]:
    """Decoded names and values; of one name the last counts.

    urllib's parse_qsl() is thrice as slow, and this is part of every ADD.
    """
    pairs = query.split("&") if query else []
    if len(pairs) > _MOST_FIELDS:
        raise BadRequest(400, f"a query may have {_MOST_FIELDS} fields")
    found = {}
    for pair in pairs:
        name, _, value = pair.partition("=")
        found[unquote_plus(name)] = unquote_plus(value, errors="surrogateescape")
    return found


def encode_head(
    status: int, content_type: str, headers: Mapping[str, str], length: int | None = None
) -> bytes:
    """The head of an answer after which the connection is closed. No length: as it comes."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if length is not None:
        more += f"Content-Length: {length}\r\n"
    return (
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: {content_type}\r\n"
        f"{more}Connection: close\r\n\r\n"
    ).encode("latin-1")
