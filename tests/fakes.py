"""Shared by tests over real sockets: a strict reader of HTTP/1.1 and a client that does exactly what it is told.

Nothing here waits without a deadline, and nothing sleeps to let something happen: what is awaited is polled or read.
"""

from __future__ import annotations

import re
import select
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

DEADLINE = 8.0
"""Seconds after which something that should have happened has failed."""

_NO_LINGER = struct.pack("ii", 1, 0)

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_REQUEST_LINE = re.compile(rb"(" + _TOKEN + rb") ([!-~]+) HTTP/1\.([01])")
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9]{2}) ([\t -~\x80-\xff]*)")
_FIELD_LINE = re.compile(rb"(" + _TOKEN + rb"): ((?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?)")
_LENGTH = re.compile(rb"[0-9]{1,18}")
# Neither extensions nor leading zeros: what is read here was framed anew on its way.
_CHUNK_SIZE = re.compile(rb"(0|[1-9A-Fa-f][0-9A-Fa-f]{0,15})\r\n")


def eventually(condition: Callable[[], object], what: str = "it", *, seconds: float = DEADLINE) -> None:
    """Return as soon as `condition` holds; fail if it does not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds:g} s"
        time.sleep(0.002)


def wait_for_standstill(
    measure: Callable[[], int], *, still: float = 0.2, seconds: float = DEADLINE, tolerance: int = 0
) -> None:
    """Return when what `measure` returns, which is not zero any more, has not changed for `still` seconds.

    By no more than `tolerance`, that is. Fails if that is not so within `seconds`.
    """
    deadline = time.monotonic() + seconds
    last, since = measure(), time.monotonic()
    while not last or time.monotonic() - since < still:
        time.sleep(0.005)
        if abs((now := measure()) - last) > tolerance:
            last, since = now, time.monotonic()
        assert time.monotonic() < deadline, f"it never stood still: {last}"


class ViolationError(AssertionError):
    """What was read is not the HTTP/1.1 that a strict reader accepts."""


class TruncatedError(Exception):
    """The peer closed in order in the middle of a message; `part` is what came of the part that was being read."""

    def __init__(self, part: bytes) -> None:
        super().__init__(f"closed after {part[-200:]!r}")
        self.part = part


class Stream:
    """The receiving side of a socket. Raises TimeoutError at the deadline, ConnectionError at a reset."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.buffer = b""

    def fill(self) -> bool:
        """Receive once. Returns False at the end."""
        data = self.socket.recv(65536)
        self.buffer += data
        return bool(data)

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes."""
        parts, missing = [self.buffer], size - len(self.buffer)
        while missing > 0:
            data = self.socket.recv(min(missing, 1 << 20))
            if not data:
                self.buffer = b"".join(parts)
                raise TruncatedError(self.buffer)
            parts.append(data)
            missing -= len(data)
        data = b"".join(parts)
        self.buffer = data[size:]
        return data[:size]

    def take_through(self, mark: bytes) -> bytes:
        """Return everything up to and with `mark`."""
        while (at := self.buffer.find(mark)) < 0:
            if not self.fill():
                raise TruncatedError(self.buffer)
        return self.take(at + len(mark))

    def take_to_end(self) -> bytes:
        """Return everything up to the peer's FIN."""
        parts = [self.buffer]
        self.buffer = b""
        while data := self.socket.recv(1 << 20):
            parts.append(data)
        return b"".join(parts)


@dataclass
class Message:
    """A request or a response. `fields` have lower-case names, in order."""

    raw_head: bytes
    start: tuple[bytes, ...]
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    interims: list[Message] = field(default_factory=list)
    """The 1xx responses that came before."""

    @property
    def method(self) -> bytes:
        return self.start[0]

    @property
    def target(self) -> bytes:
        return self.start[1]

    @property
    def status(self) -> int:
        return int(self.start[1])

    def all(self, name: bytes) -> list[bytes]:
        """Return the values of all fields called `name`."""
        return [value for key, value in self.fields if key == name]

    def get(self, name: bytes) -> bytes | None:
        """Return the value of the field called `name`, which is there at most once."""
        values = self.all(name)
        assert len(values) < 2, (name, values)
        return values[0] if values else None

    @property
    def names(self) -> list[bytes]:
        return [key for key, _ in self.fields]


def _fields(lines: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    fields = []
    for line in lines:
        match = _FIELD_LINE.fullmatch(line)
        if match is None:
            raise ViolationError(f"not a field line: {line!r}")
        fields.append((match[1].lower(), match[2]))
    return fields


def parse_head(raw: bytes, start_line: re.Pattern[bytes]) -> Message:
    """Read a head, complete with its empty line."""
    if re.search(rb"\r(?!\n)|(?<!\r)\n|\x00", raw):
        raise ViolationError(f"a bare CR or LF, or a NUL: {raw!r}")
    first, *lines = raw[:-4].split(b"\r\n")
    match = start_line.fullmatch(first)
    if match is None:
        raise ViolationError(f"not a start line: {first!r}")
    return Message(raw, match.groups(), _fields(lines))


def read_request_head(stream: Stream) -> Message | None:
    """Read the head of a request; None if the peer closed in order before it."""
    if not stream.buffer and not stream.fill():
        return None
    head = parse_head(stream.take_through(b"\r\n\r\n"), _REQUEST_LINE)
    if len(head.all(b"host")) != 1:
        raise ViolationError(f"not exactly one Host: {head.raw_head!r}")
    return head


def read_request_body(stream: Stream, head: Message) -> None:
    """Read the body of a request into it."""
    length, codings = head.get(b"content-length"), head.all(b"transfer-encoding")
    if codings:
        if length is not None or codings != [b"chunked"]:
            raise ViolationError(f"ambiguous framing: {head.raw_head!r}")
        head.body, head.trailers = _read_chunked(stream)
    elif length is not None:
        if _LENGTH.fullmatch(length) is None:
            raise ViolationError(f"not a length: {length!r}")
        head.body = stream.take(int(length))


def read_response(stream: Stream, method: str = "GET") -> Message:
    """Read a whole response to a request made with `method`, and the 1xx before it."""
    interims = []
    while (message := parse_head(stream.take_through(b"\r\n\r\n"), _STATUS_LINE)).status < 200:
        if {b"content-length", b"transfer-encoding"} & set(message.names):
            raise ViolationError(f"an interim response with a body: {message.raw_head!r}")
        interims.append(message)
    message.interims = interims
    length, codings = message.get(b"content-length"), message.all(b"transfer-encoding")
    if codings and (length is not None or codings != [b"chunked"] or message.status == 204):
        raise ViolationError(f"ambiguous framing: {message.raw_head!r}")
    if message.status == 204 and length is not None:
        raise ViolationError(f"204 with a length: {message.raw_head!r}")
    if method == "HEAD" or message.status in (204, 304):
        return message
    if codings:
        message.body, message.trailers = _read_chunked(stream)
    elif length is not None:
        message.body = stream.take(int(length))
    else:
        if message.get(b"connection") != b"close":
            raise ViolationError(f"neither a length nor Connection: close: {message.raw_head!r}")
        message.body = stream.take_to_end()
    return message


def _read_chunked(stream: Stream) -> tuple[bytes, list[tuple[bytes, bytes]]]:
    body = []
    while True:
        line = stream.take_through(b"\n")
        match = _CHUNK_SIZE.fullmatch(line)
        if match is None:
            raise ViolationError(f"not a chunk size line: {line!r}")
        size = int(match[1], 16)
        if not size:
            break
        body.append(stream.take(size))
        if stream.take(2) != b"\r\n":
            raise ViolationError("a chunk does not end where its size says")
    trailers = []
    while (line := stream.take_through(b"\r\n")) != b"\r\n":
        trailers.append(line[:-2])
    return b"".join(body), _fields(trailers)


def request(
    method: str = "GET", target: str = "/", *lines: str, body: bytes | None = None, host: str | None = "example.test"
) -> bytes:
    """Return an HTTP/1.1 request; with `body` it has a Content-Length. `lines` are further field lines."""
    fields = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), *lines]
    if body is not None:
        fields.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*fields, "", ""]).encode("latin-1") + (body or b"")


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    """Return a body in the chunked coding."""
    return b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n" + trailers + b"\r\n"


def pieces(data: bytes, size: int = 1) -> Iterator[bytes]:
    """Cut `data`."""
    return (data[at : at + size] for at in range(0, len(data), size))


class Client:
    """A client connection to 127.0.0.1. `receive_buffer` is the size of the kernel's buffer, if it is to be small."""

    def __init__(self, port: int, *, receive_buffer: int | None = None, seconds: float = DEADLINE) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(seconds)
        try:
            self.socket.connect(("127.0.0.1", port))
        except OSError:
            self.socket.close()
            raise
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(self.socket)

    def send(self, *data: bytes) -> None:
        """Send each of `data` with a call of its own."""
        for piece in data:
            self.socket.sendall(piece)

    def read_response(self, method: str = "GET") -> Message:
        return read_response(self.stream, method)

    def exchange(self, raw: bytes, method: str | None = None) -> Message:
        """Send a request and read its response."""
        self.send(raw)
        return self.read_response(method or raw.partition(b" ")[0].decode("latin-1"))

    def get(self, target: str = "/", *lines: str) -> Message:
        return self.exchange(request("GET", target, *lines))

    def fin(self) -> None:
        """Close our sending side."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close with an RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()

    def close(self) -> None:
        self.socket.close()

    def how_closed(self) -> str:
        """Wait until the peer closes, and return "fin" or "reset"; fail if more bytes come first."""
        try:
            while self.stream.fill():
                pass
            how = "fin"
        except ConnectionError:
            how = "reset"
        rest = self.stream.buffer
        assert rest == b"", f"more bytes before the end: {rest[:500]!r}"
        return how

    def is_silent(self) -> bool:
        """Has nothing come, neither bytes nor an end? To be asked when they would have come by now."""
        return not self.stream.buffer and not select.select([self.socket], [], [], 0)[0]


def free_port() -> int:
    """Return a port that is free now, outside the range from which the kernel gives ports to connecting sockets."""
    for port in range(20000 + time.monotonic_ns() // 1000 % 9000, 32000):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port below 32000")
