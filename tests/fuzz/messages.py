"""Valid requests and responses in many shapes, taken apart so that a mutation finds what it bends.

Everything is drawn from the `random.Random` that is handed in, so a message is known by its seed; hypothesis' own
`randoms()` fit as well, and shrink.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

CRLF = b"\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"

AUTHORITIES = [b"h", b"h:80", b"[::1]:80", b"h.example", b"h:"]
CONNECTIONS = [
    *(b"close keep-alive Keep-Alive,Close a,host te content-length transfer-encoding upgrade host".split()),
    *[b"", b",", b"a , b", b"Close", b"close,", b'"close"', b"close\tx"],
]
EXTENSIONS = [b";a", b";a=b", b';a="b"', b";a=b;c=d", b" ;a", b"\t; a = b", b";" + b"e" * 200]
TRAILERS = [b"A: b", b"X-Y:", b"Via: x", b"A:b ", b"Expires: 0"]
_METHODS = b"GET GET GET HEAD POST POST PUT DELETE OPTIONS PATCH PROPFIND M-SEARCH".split()
_SUFFIXES = [b"", b"", b"", b"/b/c", b"?c=d&e=%20", b"//", b"/../x", b"?a?b", b";p=1", b"/'()*!$", b'/|^`{}\\"<>']
_NAMES = b"A a X-Custom Accept User-Agent Cookie Via Referer X_Y !#$%&'*+.^_`|~09 Content_Length X-Real-IP".split()
_VALUES = [
    *[b"b", b"b c", b"", b"b,c", b'"a\\"b"', b"a:b", b":", b"\xe9", b"a\xffb", b"a\tb", b"a  b", b"(c)", b"x" * 300],
]
_SIZES = [b"%x", b"%x", b"%X", b"0%x", b"0000%x"]
_STATUSES = b"200 200 200 201 204 206 301 304 404 500 503 599".split()
_REASONS = [b"OK", b"Not Found", b"", b"O\tK", b"d\xe9j\xe0", b"a  b", b"200", b"~!"]
INTERIMS = [b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]


@dataclass
class Parts:
    """A message, taken apart."""

    start: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    framing: str = ""
    """What says how long the body is: "", "length", "chunked", or "close" (responses)."""
    payload: bytes = b""
    separators: dict[int, bytes] = field(default_factory=dict)
    """What stands between name and value of a field, if not `: `."""
    ends: dict[int, bytes] = field(default_factory=dict)
    """What stands behind a line, counted from the start line, if not CRLF."""

    def raw(self) -> bytes:
        """Return the message as it is sent."""
        lines = [self.start]
        lines += [name + self.separators.get(at, b": ") + value for at, (name, value) in enumerate(self.fields)]
        head = b"".join(line + self.ends.get(at, CRLF) for at, line in enumerate(lines))
        return head + self.ends.get(len(lines), CRLF) + self.body

    def put(self, random: Random, name: bytes, value: bytes) -> None:
        """Add a field somewhere."""
        self.fields.insert(random.randint(0, len(self.fields)), (name, value))

    def replace(self, name: bytes, value: bytes) -> None:
        """Give the fields called `name` another value."""
        self.fields = [(key, value if key.lower() == name.lower() else old) for key, old in self.fields]

    def remove(self, name: bytes) -> None:
        """Take the fields called `name` away."""
        self.fields = [pair for pair in self.fields if pair[0].lower() != name.lower()]


def _is_rare(random: Random, one_in: int) -> bool:
    return random.randrange(one_in) == 0


def _fields(random: Random) -> list[tuple[bytes, bytes]]:
    fields = [(random.choice(_NAMES), random.choice(_VALUES)) for _ in range(random.choice([0, 0, 1, 2, 3, 5]))]
    if _is_rare(random, 8):
        fields.append((b"Connection", random.choice(CONNECTIONS)))
    return fields


def _payload(random: Random) -> bytes:
    kind = random.randrange(6)
    if kind == 0:
        return b""
    if kind == 1:
        return random.choice([SMUGGLED, b"0\r\n\r\n" + SMUGGLED, CRLF, b"5\r\nhello\r\n", b"\r\n\r\n"])
    if kind == 2:
        return bytes(random.randrange(256) for _ in range(random.randint(1, 40)))
    return b"hello world"[: random.randint(1, 11)] * random.choice([1, 1, 1, 30])


def chunk_list(random: Random, payload: bytes) -> list[bytes]:
    """Return `payload` in the chunked coding: the chunks, the last one, the trailers, the end."""
    parts = []
    at = 0
    while at < len(payload):
        size = random.randint(1, len(payload) - at)
        extension = random.choice(EXTENSIONS) if _is_rare(random, 8) else b""
        parts.append(random.choice(_SIZES) % size + extension + CRLF + payload[at : at + size] + CRLF)
        at += size
    parts.append(random.choice([b"0", b"0", b"0", b"00", b"0;a=b"]) + CRLF)
    if _is_rare(random, 5):
        parts.append(random.choice(TRAILERS) + CRLF)
    parts.append(CRLF)
    return parts


def _frame(random: Random, message: Parts, kinds: list[str]) -> None:
    message.framing = random.choice(kinds)
    if not message.framing:
        return
    message.payload = message.body = _payload(random)
    if message.framing == "length":
        message.put(random, random.choice([b"Content-Length", b"content-length"]), b"%d" % len(message.payload))
    elif message.framing == "chunked":
        message.put(random, random.choice([b"Transfer-Encoding", b"transfer-encoding"]), b"chunked")
        message.body = b"".join(chunk_list(random, message.payload))


def request(random: Random, tag: bytes) -> Parts:
    """Return a request for a target with `tag` in it."""
    method = random.choice(_METHODS)
    target = b"/%b%b" % (tag, random.choice(_SUFFIXES))
    if _is_rare(random, 8):
        target = random.choice([b"http://", b"HTTP://"]) + random.choice(AUTHORITIES) + target
    minor = 0 if _is_rare(random, 10) else 1
    message = Parts(b"%b %b HTTP/1.%d" % (method, target, minor), _fields(random))
    if minor or _is_rare(random, 2):
        message.put(random, random.choice([b"Host", b"host", b"HOST"]), random.choice(AUTHORITIES))
    _frame(random, message, ["", "", "length", "length", *(["chunked", "chunked"] if minor else [])])
    if message.framing and _is_rare(random, 12):
        message.put(random, b"Expect", b"100-continue")
    return message


def response(random: Random) -> Parts:
    """Return a final response to a GET."""
    status = random.choice(_STATUSES)
    minor = 0 if _is_rare(random, 8) else 1
    message = Parts(b"HTTP/1.%d %b %b" % (minor, status, random.choice(_REASONS)), _fields(random))
    if _is_rare(random, 2):
        message.put(random, b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT")
    if status == b"304" and _is_rare(random, 2):
        message.put(random, b"Content-Length", b"5")
    if status not in (b"204", b"304"):
        _frame(random, message, ["length", "length", "close", *(["chunked", "chunked"] if minor else [])])
    return message
