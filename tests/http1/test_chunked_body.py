"""The chunked coding, read strictly."""

from __future__ import annotations

import pytest

from lb.http1.framing import ChunkedBody
from lb.http1.message import MessageError

LINE_LIMIT = 1024
EXTENSIONS_LIMIT = 16384
TRAILERS_LIMIT = 16384
TRAILER_FIELDS_LIMIT = 64


def decode(data: bytes) -> tuple[bytes, bool, bytes]:
    """Return payload, whether it is done, and what is left over."""
    body = ChunkedBody(status=400)
    payload, done = body.feed(data)
    return payload, done, body.excess


def refused(*pieces: bytes, status: int = 400) -> str:
    """Feed `pieces` one after the other; the last is refused. Return the word for why."""
    body = ChunkedBody(status=status)
    for piece in pieces[:-1]:
        body.feed(piece)
    with pytest.raises(MessageError) as caught:
        body.feed(pieces[-1])
    assert caught.value.status == status
    return caught.value.what


@pytest.mark.parametrize(
    ("data", "payload", "excess"),
    [
        (b"0\r\n\r\n", b"", b""),
        (b"000\r\n\r\n", b"", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", b""),
        (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, b""),
        (b"0005\r\nhello\r\n0\r\n\r\n", b"hello", b""),
        (b"1F\r\n" + b"x" * 31 + b"\r\n0\r\n\r\n", b"x" * 31, b""),
        (b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n", b""),
        (b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello", b""),
        (b'5 \t;a \t=\t "b;c\\""\r\nhello\r\n0\r\n\r\n', b"hello", b""),
        (b'5;a="\xff"\r\nhello\r\n0\r\n\r\n', b"hello", b""),
        (b"5\r\nhello\r\n0\r\nA: b\r\n\r\n", b"hello", b""),
        (b"1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n", b"a", b"GET / HTTP/1.1\r\n"),
        (b"1\r\na\r\n0\r\nA: b\r\n\r\n\r\n", b"a", b"\r\n"),
    ],
)
def test_a_whole_body(data: bytes, payload: bytes, excess: bytes) -> None:
    assert decode(data) == (payload, True, excess)


@pytest.mark.parametrize(
    ("data", "payload"),
    [
        (b"", b""),
        (b"5", b""),
        (b"5 ", b""),
        (b"5\t;a", b""),
        (b"5\r", b""),
        (b"5\r\n", b""),
        (b"5\r\nhel", b"hel"),
        (b"5\r\nhello", b"hello"),
        (b"5\r\nhello\r", b"hello"),
        (b"5\r\nhello\r\n", b"hello"),
        (b"5\r\nhello\r\n0\r\n", b"hello"),
        (b"5\r\nhello\r\n0\r\n\r", b"hello"),
        (b"5\r\nhello\r\n0\r\nA: b\r\n", b"hello"),
    ],
)
def test_a_part_of_a_body_gives_the_payload_so_far(data: bytes, payload: bytes) -> None:
    assert decode(data) == (payload, False, b"")


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_a_whole_body_in_small_pieces(size: int) -> None:
    data = b"5;a=b\r\nhello\r\n0a \t;c\r\n0123456789\r\n1\r\n!\r\n0\r\nA: b\r\nC: d\r\n\r\n"
    body = ChunkedBody(status=400)
    payload, done = b"", False
    for at in range(0, len(data), size):
        assert not done
        piece, done = body.feed(data[at : at + size])
        payload += piece
    assert (payload, done, body.excess) == (b"hello0123456789!", True, b"")
    assert body.trailers == [b"A: b", b"C: d"]


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"\r",
        b" 5\r\n",
        b"-5\r\n",
        b"+5\r\n",
        b"0x5\r\n",
        b"5_0\r\n",
        b"g\r\n",
        b"5 \r\n",
        b"5\t\r\n",
        b"5 5\r\n",
        b"5\n",
        b"5\nhello",
        b"5\rh",
        b"5;a\nb\r\n",
        b"5;a\x00b\r\n",
        b"5;a\x7f\r\n",
        b"5,a\r\n",
        b"\xb2\r\n",
        b"12345678901234567\r\n",
        b"12345678901234567",
        b"00000000000000000\r\n",
    ],
)
def test_a_malformed_size_line(data: bytes) -> None:
    assert refused(data) == "chunk_size"


@pytest.mark.parametrize("data", [b"x", b"5 x", b"5;\n", b"5\r\r", b"5\n", b"5;a\rb"])
def test_a_size_line_that_cannot_become_one_is_told_before_its_end(data: bytes) -> None:
    assert refused(data) == "chunk_size"


def test_sixteen_digits_are_read() -> None:
    body = ChunkedBody(status=400)
    assert body.feed(b"ffffffffffffffff\r\nabc") == (b"abc", False)
    assert body.feed(b"0\r\n\r\n") == (b"0\r\n\r\n", False)


@pytest.mark.parametrize("end", [b"x", b"\n", b"\rx", b"0\r\n\r\n", b"\r\r\n", b"\n\r"])
def test_a_chunk_longer_than_its_size_says(end: bytes) -> None:
    assert refused(b"5\r\nhello" + end) == "chunk"
    assert refused(b"5\r\nhello", end) == "chunk"


def test_a_bad_end_of_chunk_in_two_pieces() -> None:
    assert refused(b"5\r\nhello\r", b"x") == "chunk"


@pytest.mark.parametrize("status", [400, 502])
def test_the_error_carries_the_status_of_its_side(status: int) -> None:
    assert refused(b"x\r\n", status=status) == "chunk_size"
    assert refused(b"1\r\nab\r\n", status=status) == "chunk"
    assert refused(b"0\r\n: b\r\n\r\n", status=status) == "trailers"


class TestExtensions:
    def test_a_size_line_of_just_the_limit(self) -> None:
        line = b"1;".ljust(LINE_LIMIT - 2, b"a") + b"\r\n"
        assert decode(line + b"x\r\n0\r\n\r\n") == (b"x", True, b"")
        longer = b"1;".ljust(LINE_LIMIT - 1, b"a") + b"\r\n"
        assert refused(longer + b"x\r\n0\r\n\r\n") == "chunk_extension"
        assert refused(longer[:-1], longer[-1:]) == "chunk_extension"

    def test_an_endless_size_line_is_refused(self) -> None:
        body = ChunkedBody(status=400)
        body.feed(b"1;" + b"a" * (LINE_LIMIT - 2))
        with pytest.raises(MessageError) as caught:
            body.feed(b"a")
        assert caught.value.what == "chunk_extension"

    def test_the_extensions_of_a_whole_body_are_bounded(self) -> None:
        extension = b";".ljust(1000, b"a")
        body = ChunkedBody(status=400)
        for _ in range(EXTENSIONS_LIMIT // 1000):
            body.feed(b"1" + extension + b"\r\nx\r\n")
        rest = EXTENSIONS_LIMIT % 1000
        body.feed(b"1" + b";".ljust(rest, b"a") + b"\r\nx\r\n")
        with pytest.raises(MessageError) as caught:
            body.feed(b"1;a\r\nx\r\n")
        assert caught.value.what == "chunk_extension"

    def test_sizes_are_no_extensions(self) -> None:
        body = ChunkedBody(status=400)
        assert body.feed(b"0000000000000001\r\nx\r\n" * 2000) == (b"x" * 2000, False)


class TestTrailers:
    def trailers(self, *lines: bytes) -> list[tuple[bytes, bytes]]:
        body = ChunkedBody(status=400)
        assert body.feed(b"0\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n") == (b"", True)
        return [(name, value) for name, _, value in (line.partition(b": ") for line in body.trailers)]

    def test_they_are_kept_in_order(self) -> None:
        assert self.trailers(b"Grpc-Status: 0", b"X:", b"grpc-status:  1 ") == [
            (b"Grpc-Status", b"0"),
            (b"X", b""),
            (b"grpc-status", b"1"),
        ]

    @pytest.mark.parametrize(
        "name",
        b"Transfer-Encoding Content-Length Host Trailer TE Connection Keep-Alive Proxy-Connection Upgrade Expect "
        b"Content-Encoding Content-Type Content-Range Cache-Control Max-Forwards Authorization Proxy-Authorization "
        b"Set-Cookie Cookie Via Forwarded X-Forwarded-For X_Forwarded_For X-Real-IP X-Request-Id "
        b"HTTP2-Settings".split(),
    )
    def test_what_framing_routing_or_forwarding_would_have_needed_is_dropped(self, name: bytes) -> None:
        assert self.trailers(b"A: b", name + b": 5", name.lower() + b": 6", b"C: d") == [(b"A", b"b"), (b"C", b"d")]

    @pytest.mark.parametrize(
        "line", [b"A", b": b", b"A : b", b" A: b", b"A: b\x00", b"A: b\nC: d", b"A: b\rC: d", b"A: b\r\n c", b"A: b\r"]
    )
    def test_a_malformed_one_is_an_error(self, line: bytes) -> None:
        assert refused(b"0\r\n" + line + b"\r\n\r\n") == "trailers"

    def test_their_number_is_bounded(self) -> None:
        assert len(self.trailers(*[b"A: b"] * TRAILER_FIELDS_LIMIT)) == TRAILER_FIELDS_LIMIT
        assert refused(b"0\r\n" + b"A: b\r\n" * (TRAILER_FIELDS_LIMIT + 1) + b"\r\n") == "trailers"

    def test_their_size_is_bounded(self) -> None:
        section = b"A: ".ljust(TRAILERS_LIMIT, b"b")
        assert decode(b"0\r\n" + section + b"\r\n\r\n")[1]
        assert refused(b"0\r\n" + section + b"b\r\n\r\n") == "trailers"

    def test_an_endless_section_is_refused(self) -> None:
        body = ChunkedBody(status=400)
        body.feed(b"0\r\n" + b"A: ".ljust(TRAILERS_LIMIT, b"b"))
        with pytest.raises(MessageError) as caught:
            body.feed(b"b" * 4)
        assert caught.value.what == "trailers"

    def test_what_stands_behind_them_is_not_counted(self) -> None:
        payload, done, excess = decode(b"0\r\nA: b\r\n\r\n" + b"x" * (2 * TRAILERS_LIMIT))
        assert (payload, done, len(excess)) == (b"", True, 2 * TRAILERS_LIMIT)

    def test_each_body_has_its_own(self) -> None:
        assert self.trailers(b"A: b") == [(b"A", b"b")]
        assert self.trailers() == []


def test_the_limit_of_the_trailers_does_not_depend_on_the_pieces() -> None:
    data = b"0\r\n" + b"A: ".ljust(16384, b"b") + b"\r\n\r\n"
    assert ChunkedBody(status=400).feed(data) == (b"", True)
    body = ChunkedBody(status=400)
    assert body.feed(data[:-1]) == (b"", False)
    assert body.feed(data[-1:]) == (b"", True)
