"""The ways in which messages are made to deceive.

What two readers could disagree about is what the research into request smuggling has tried: lengths and codings said
twice or oddly, white space and line ends that some readers forgive, chunk sizes, extensions and trailers, targets and
versions, and bytes that do not belong.
"""

from __future__ import annotations

from random import Random
from typing import Protocol

from tests.fuzz.messages import (
    AUTHORITIES,
    CONNECTIONS,
    CRLF,
    EXTENSIONS,
    SMUGGLED,
    TRAILERS,
    Parts,
    chunk_list,
)

_METHODS = [*(b"get Post GETS CONNECT TRACE PRI !#$% G\xc9T SOURCE GET: \x00GET".split()), b"", b"A" * 17]
_TARGETS = [b"", b"*", b"a", b"h:80", b"https://h/", b"http://", b"http://u@h/x", b"/#f", b"/a b", b"/\xe9", b"/\t"]
_HOSTS = [b"", b"h:99999", b"a/b", b"h, i", b"u@h", b"h\tg", b"[::1", b"h:8a", b"\xe9"]
_VERSIONS = [
    *(b"HTTP/1.2 HTTP/2.0 HTTP/0.9 http/1.1 HTTP/1.10 HTTP/11 HTTP/1,1 HTTP/1.1\t HTTP/1.\xb2".split()),
    b"",
]
_LENGTHS = [
    *(b"+%d -%d 0x%x %d,%d %d_0 \xb2%d %de0 %d. 0%d 000%d".split()),
    *[b"%d %d", b"", b"%d, %d", b"%d\t", b"%d\x0b", b"\x0b%d", b"\x00%d", b"9" * 18, b"9" * 19, b"%d;a", b"%d,"],
]
_CODINGS = [
    *(b"Chunked CHUNKED gzip identity x chunked,chunked gzip,chunked chunked,identity chunked;q=1 xchunked".split()),
    *[b'"chunked"', b"", b"chunked,", b",chunked", b"\x0bchunked", b"chunked\x0b", b"\x00chunked", b"chunked\x00"],
    *[b"chunked ", b"\tchunked", b"chunked, gzip", b"ch\xc5unked", b"chun\tked", b" chunked", b"chunked\xa0"],
]
_NAMES = [
    *[b" %b", b"%b ", b"\t%b", b"%b\t", b"\x00%b", b"%b\xe9", b"%b\r", b"\n%b", b"", b"%b\x0b", b"%b\xa0", b"(%b)"],
]
_SEPARATORS = [
    *[b":", b":  ", b":\t", b": \t", b" : ", b"\t:", b" :", b":\x0b", b":\r\n ", b":\r\n\t", b":\n ", b"\x00:", b"::"],
]
_SIZES = [
    *(b"0x%x +%x -%x %xg %x. %x_0 %xh 1%016x %x,%x".split()),
    *[b" %x", b"%x ", b"%x\t", b"", b"%x\x00", b"%x\x0b", b"%x\r", b"%x %x", b"\xb2%x", b"00000000000000000%x"],
]
_EXTENSIONS = [
    *[b";", b";=b", b';a="', b";\xff", b";a\nb", b";a\rb", b";a\x00b", b" a", b";" + b"e" * 2000, b";a=\n"],
    *EXTENSIONS,
]
_TRAILERS = [
    *(b"Content-Length:5 Transfer-Encoding:chunked Host:evil Content_Length:5 Connection:close A".split()),
    *[b"A : b", b" A: b", b"A: b\x00", b"A: b\nB: c", b"A: b\r\n c", b": b", b"Transfer-Encoding: chunked", b"\xe9: b"],
    *TRAILERS,
]
_LINE_ENDS = [
    *[b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"", b"\r\n ", b"\r\n\t", b"\x0b\r\n", b" \r\n", b"\x00\r\n"],
]
_BYTES = [
    *[
        b"\r",
        b"\n",
        b"\r\n",
        b"\x00",
        b"\t",
        b" ",
        b":",
        b",",
        b";",
        b"\x0b",
        b"\x0c",
        b"\x1f",
        b"\x7f",
        b"\x80",
        b"\x85",
    ],
    *[b"\xa0", b"\xff", b"A", b"0", b"/", b"#", b'"', b"\\"],
]
NASTY = [*_BYTES, b"\r\n\r\n", b"0\r\n\r\n", SMUGGLED]
_STATUSES = [*(b"100 101 102 099 000 600 999 20 2000 1xx -200 +200 2\xb20 0200".split()), b"", b" 200"]


def _filled(form: bytes, number: int) -> bytes:
    """Put `number` wherever `form` asks for one."""
    return form % ((number,) * form.count(b"%"))


# Each changes one message. They are found by name, so that a failing input can say how it was made.


def _bend_start(random: Random, message: Parts) -> None:
    parts = message.start.split(b" ")
    what = random.randrange(6)
    if what == 0:
        message.start = random.choice([b"  ", b"\t", b" \t", b"\x0b", b"\r", b"\xa0"]).join(parts)
    elif what == 1:
        message.start = (
            random.choice([b" ", b"\t", b"\r\n", b"\n", b"\r\n\r\n\r\n", b"\x00", b"\xef\xbb\xbf"]) + message.start
        )
    elif what == 2:
        message.start += random.choice([b" ", b"\t", b"\x00", b"\r", b" x", b" HTTP/1.1"])
    elif what == 3:
        message.start = b" ".join(parts[:-1])
    elif what == 4:
        message.start = message.start.lower()
    else:
        at = random.randint(0, len(message.start))
        message.start = message.start[:at] + random.choice(_BYTES) + message.start[at:]


def _odd_method(random: Random, message: Parts) -> None:
    message.start = random.choice(_METHODS) + message.start[message.start.find(b" ") :]


def _odd_target(random: Random, message: Parts) -> None:
    parts = message.start.split(b" ")
    # (Another mutation may have left one part.)
    parts[1:2] = [random.choice(_TARGETS)]
    message.start = b" ".join(parts)


def _odd_version(random: Random, message: Parts) -> None:
    message.start = message.start[: message.start.rfind(b" ") + 1] + random.choice(_VERSIONS)


def _old_version(random: Random, message: Parts) -> None:
    message.start = message.start.replace(b"HTTP/1.1", b"HTTP/1.0")


def _bad_host(random: Random, message: Parts) -> None:
    what = random.randrange(3)
    if what == 0:
        message.put(random, random.choice([b"Host", b"host"]), random.choice([*AUTHORITIES, *_HOSTS]))
    elif what == 1:
        message.replace(b"Host", random.choice(_HOSTS))
    else:
        message.remove(b"Host")


def _odd_length(random: Random, message: Parts) -> None:
    value = _filled(random.choice(_LENGTHS), len(message.payload))
    if message.framing == "length":
        message.replace(b"Content-Length", value)
    else:
        message.put(random, b"Content-Length", value)


def _wrong_length(random: Random, message: Parts) -> None:
    size = max(0, len(message.payload) + random.choice([-5, -2, -1, 1, 2, 5]))
    message.replace(b"Content-Length", b"%d" % size)


def _two_lengths(random: Random, message: Parts) -> None:
    size = len(message.payload)
    message.put(random, b"Content-Length", b"%d" % random.choice([size, size, 0, size + 1]))
    message.put(random, random.choice([b"Content-Length", b"CONTENT-LENGTH"]), b"%d" % random.choice([size, size, 0]))


def _odd_coding(random: Random, message: Parts) -> None:
    value = random.choice(_CODINGS)
    if message.framing == "chunked":
        message.replace(b"Transfer-Encoding", value)
    else:
        message.put(random, b"Transfer-Encoding", value)


def _two_codings(random: Random, message: Parts) -> None:
    message.put(random, b"Transfer-Encoding", random.choice([b"chunked", b"identity", b"gzip", b"chunked"]))


def _length_and_coding(random: Random, message: Parts) -> None:
    name = random.choice([b"Content-Length", b"content-length", b"Content-length"])
    message.put(random, name, b"%d" % random.choice([0, len(message.body), len(message.payload), 3]))
    if message.framing != "chunked":
        message.put(random, b"Transfer-Encoding", random.choice([b"chunked", *_CODINGS]))


def _rewritten_name(random: Random, message: Parts) -> None:
    """Say a field of framing under a name that some take for it."""
    at = random.randrange(len(message.fields) + 1)
    if at == len(message.fields):
        message.put(
            random, random.choice([b"Transfer_Encoding", b"Content_Length", b"Transfer-Encoding\x00"]), b"chunked"
        )
        return
    name, value = message.fields[at]
    form = random.choice(_NAMES)
    message.fields[at] = (form.replace(b"%b", name), value)


def _bad_value(random: Random, message: Parts) -> None:
    if message.fields:
        at = random.randrange(len(message.fields))
        name, value = message.fields[at]
        where = random.randint(0, len(value))
        message.fields[at] = (name, value[:where] + random.choice(NASTY) + value[where:])


def _odd_separator(random: Random, message: Parts) -> None:
    if message.fields:
        message.separators[random.randrange(len(message.fields))] = random.choice(_SEPARATORS)


def _odd_line_end(random: Random, message: Parts) -> None:
    message.ends[random.randint(0, len(message.fields) + 1)] = random.choice(_LINE_ENDS)


def _bare_line_feeds(random: Random, message: Parts) -> None:
    for at in range(len(message.fields) + 2):
        message.ends[at] = b"\n"


def _doubled_field(random: Random, message: Parts) -> None:
    if message.fields:
        message.put(random, *random.choice(message.fields))


def _hop_by_hop(random: Random, message: Parts) -> None:
    message.put(random, random.choice([b"Connection", b"connection"]), random.choice(CONNECTIONS))
    name = random.choice([b"Upgrade", b"TE", b"Keep-Alive", b"Proxy-Connection", b"HTTP2-Settings", b"Trailer"])
    message.put(random, name, random.choice([b"h2c", b"websocket", b"trailers", b"x", b"timeout=5", b"Content-Length"]))


def _rebuild_chunks(message: Parts, body: bytes) -> None:
    message.body = body
    if message.framing != "chunked":
        message.remove(b"Content-Length")
        message.fields.append((b"Transfer-Encoding", b"chunked"))
        message.framing = "chunked"


def _bend_chunks(random: Random, message: Parts) -> None:
    """Bend one size line, one chunk's end, or the end of the whole body."""
    payload = message.payload or b"hello"
    parts = chunk_list(random, payload)
    at = random.randrange(len(parts))
    size, line_end, rest = parts[at].partition(CRLF)
    number = len(rest) - 2 if rest else 0
    what = random.randrange(7)
    if what < 2:
        size = _filled(random.choice(_SIZES), number)
    elif what == 2:
        size += random.choice(_EXTENSIONS)
    elif what == 3:
        line_end = random.choice(_LINE_ENDS)
    elif what == 4 and rest:
        rest = rest[:-2] + random.choice([b"", b"\n", b"\r", b"\n\r", b"x\r\n", b"\r\n\r\n", b"  "])
    elif what == 5:
        size = b"%x" % max(0, number + random.choice([-1, 1, 2, 5]))
    else:
        parts.insert(at, random.choice([b"0\r\n\r\n", b"\r\n", b"0\r\n", b"0\n\n", b";a\r\n", b"00000000\r\n\r\n"]))
        at += 1
    parts[at] = size + line_end + rest
    _rebuild_chunks(message, b"".join(parts))


def _odd_trailers(random: Random, message: Parts) -> None:
    parts = chunk_list(random, message.payload)
    trailers = random.choices(_TRAILERS, k=random.choice([1, 1, 2, 3]))
    end = random.choice([CRLF, CRLF, CRLF, b"\n", b"", b"\r\r\n", SMUGGLED])
    _rebuild_chunks(message, b"".join([*parts[:-1], *[line + CRLF for line in trailers], end]))


def _odd_status(random: Random, message: Parts) -> None:
    parts = message.start.split(b" ", 2)
    message.start = b" ".join([parts[0], random.choice(_STATUSES), *parts[2:]])


def _odd_reason(random: Random, message: Parts) -> None:
    reason = random.choice([b"OK\x00", b"O\x0bK", b" OK", b"OK ", b"O\rK", b"\x7f", b"x" * 300])
    message.start = b" ".join([*message.start.split(b" ", 2)[:2], reason])


def _bodiless_with_framing(random: Random, message: Parts) -> None:
    parts = message.start.split(b" ", 2)
    message.start = b" ".join([parts[0], random.choice([b"204", b"304"]), *parts[2:]])


def _more_behind(random: Random, message: Parts) -> None:
    message.body += random.choice(
        [b"x", CRLF, SMUGGLED, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"\x00", b"0\r\n\r\n"]
    )


class Mutation(Protocol):
    """Changes one message."""

    def __call__(self, random: Random, message: Parts, /) -> None:
        """Change `message`."""


_MUTATIONS: dict[str, Mutation] = {
    "start line": _bend_start,
    "version": _odd_version,
    "HTTP/1.0": _old_version,
    "length": _odd_length,
    "wrong length": _wrong_length,
    "two lengths": _two_lengths,
    "coding": _odd_coding,
    "two codings": _two_codings,
    "length and coding": _length_and_coding,
    "name": _rewritten_name,
    "value": _bad_value,
    "separator": _odd_separator,
    "line end": _odd_line_end,
    "bare LF": _bare_line_feeds,
    "doubled field": _doubled_field,
    "hop by hop": _hop_by_hop,
    "chunks": _bend_chunks,
    "more chunks": _bend_chunks,
    "trailers": _odd_trailers,
    "more behind": _more_behind,
}
REQUEST_MUTATIONS = _MUTATIONS | {"method": _odd_method, "target": _odd_target, "host": _bad_host}
RESPONSE_MUTATIONS = _MUTATIONS | {"status": _odd_status, "reason": _odd_reason, "no body": _bodiless_with_framing}
