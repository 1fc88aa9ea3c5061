"""One connection of the API server of the tests: requests in, responses out, whole or in pieces, and how it ends."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

_NO_LINGER = struct.pack("ii", 1, 0)
_REASONS = {200: "OK", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 410: "Gone"}

GZIP_FROM = 128 * 1024
"""Bytes from which on the API server compresses for a client that accepts gzip."""


class Request(NamedTuple):
    """A request as it was received. `verb` is list, watch or get; `resource` is the plural, or empty."""

    at: float
    connection: int
    method: str
    path: str
    query: dict[str, str]
    fields: dict[str, str]
    verb: str
    resource: str
    namespace: str

    @property
    def token(self) -> str | None:
        kind, _, token = self.fields.get("authorization", "").partition(" ")
        return token if kind == "Bearer" else None


class Gone(Exception):  # noqa: N818 - an end, not an error
    """The connection is over."""


class Connection:
    """A connection that a thread of its own serves. Only `cut_off` may be called from another thread."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.number = number
        self.socket = sock
        # Shares the connection, not the TLS: another thread may shut it down while the socket's own waits in a read.
        self._plain = socket.socket(fileno=os.dup(sock.fileno()))
        self._buffer = b""
        self.pace: tuple[int, float] | None = None
        """Send so many bytes at a time, with so many seconds in between."""
        self.hold: Callable[[], object] = lambda: None
        """Returns when something may be sent: a frozen server holds everything."""

    def read_request(self) -> Request:
        """Return the next request. Raises Gone at the end."""
        try:
            while b"\r\n\r\n" not in self._buffer:
                data = self.socket.recv(65536)
                if not data:
                    raise Gone
                self._buffer += data
        except OSError:
            raise Gone from None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if int(fields.get("content-length", "0")):
            raise AssertionError(f"a request with a body: {first}")
        url = urlsplit(target)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        resource, namespace = _resource_in(url.path)
        is_watch = query.get("watch") in ("1", "true", "True")
        verb = ("watch" if is_watch else "list") if resource else "get"
        return Request(time.monotonic(), self.number, method, url.path, query, fields, verb, resource, namespace)

    def send(self, data: bytes) -> None:
        """Send, at the pace that is set. Raises Gone."""
        self.hold()
        try:
            if self.pace is None:
                self.socket.sendall(data)
                return
            size, pause = self.pace
            for at in range(0, len(data), size):
                self.socket.sendall(data[at : at + size])
                time.sleep(pause)
        except OSError:
            raise Gone from None

    def respond(
        self,
        request: Request,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole response: chunked when it is longer than what Go's server holds back, as there."""
        extra = dict(fields or {})
        if len(body) >= GZIP_FROM and "gzip" in request.fields.get("accept-encoding", ""):
            body = gzip.compress(body, 1)
            extra |= {"Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
        if len(body) <= 2048:
            self.send(_head(status, content_type, extra | {"Content-Length": str(len(body))}) + body)
            return
        self.start_stream(status, content_type, extra)
        for at in range(0, len(body), 32768):
            self.send_chunk(body[at : at + 32768])
        self.end_stream()

    def respond_with(
        self, request: Request, status: int, document: object, fields: Mapping[str, str] | None = None
    ) -> None:
        """Send a whole response with JSON in it."""
        self.respond(request, status, to_json(document), fields=fields)

    def start_stream(
        self,
        status: int = 200,
        content_type: str = "application/json",
        fields: Mapping[str, str] | None = None,
    ) -> None:
        """Send the head of a chunked response."""
        self.send(_head(status, content_type, {**(fields or {}), "Transfer-Encoding": "chunked"}))

    def send_chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end_stream(self) -> None:
        """End a chunked response in order; the connection goes on."""
        self.send(b"0\r\n\r\n")

    def is_gone(self) -> bool:
        """Has the client closed? To be asked when the socket is readable: in the midst of a watch it sends nothing."""
        try:
            return not self.socket.recv(65536)
        except OSError:
            return True

    def wait_until_gone(self) -> None:
        """Send nothing, until the client closes or the server cuts it off."""
        while not self.is_gone():
            pass
        raise Gone

    def close(self, *, reset: bool = False) -> None:
        """Close: with a FIN (and without TLS's own farewell, as when a process dies), or with an RST."""
        if reset:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._plain.close()
        self.socket.close()

    def cut_off(self) -> None:
        """Wake the thread that serves this connection, which then closes it."""
        with contextlib.suppress(OSError):
            self._plain.shutdown(socket.SHUT_RDWR)


def to_json(document: object) -> bytes:
    """Return `document` as the API server writes it: compact, with a line end."""
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"


def _head(status: int, content_type: str, fields: Mapping[str, str]) -> bytes:
    lines = [
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Status')}",
        "Audit-Id: 00000000-0000-4000-8000-000000000000",
        "Cache-Control: no-cache, private",
        f"Content-Type: {content_type}",
        *(f"{name}: {value}" for name, value in fields.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _resource_in(path: str) -> tuple[str, str]:
    """Return the plural and the namespace that a path names: /api/v1/namespaces/N/R, /apis/G/V/namespaces/N/R."""
    parts = path.strip("/").split("/")
    parts = parts[3:] if parts[0] == "apis" else parts[2:]
    return (parts[2], parts[1]) if len(parts) == 3 and parts[0] == "namespaces" else ("", "")
