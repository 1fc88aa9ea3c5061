"""The normalised heads, fields and the one error."""

from __future__ import annotations

import pytest

from lb.http1.message import (
    Field,
    MessageError,
    RequestHead,
    ResponseHead,
    field_line,
    is_special_in_requests,
    is_special_in_responses,
    list_members,
    split_field_line,
    values_of,
)

SPECIAL_IN_REQUESTS = (
    b"host content-length transfer-encoding connection keep-alive proxy-connection te upgrade http2-settings "
    b"forwarded x-real-ip x-request-id x-forwarded-for x-forwarded-proto x-forwarded-host x-forwarded-anything"
).split()


@pytest.mark.parametrize("key", SPECIAL_IN_REQUESTS)
def test_request_fields_that_must_be_looked_at(key: bytes) -> None:
    assert is_special_in_requests(key)


@pytest.mark.parametrize("key", [b"x_forwarded_for", b"x-forwarded_for", b"x_real_ip", b"x_request_id", b"x-real_ip"])
def test_an_underscore_does_not_hide_what_cgi_would_read_as_a_dash(key: bytes) -> None:
    assert is_special_in_requests(key)


@pytest.mark.parametrize(
    "key", b"via cookie accept x-forwarded x-forward-for hosts content-type date trailer x".split()
)
def test_other_request_fields_are_passed_on_unread(key: bytes) -> None:
    assert not is_special_in_requests(key)


@pytest.mark.parametrize(
    "key", b"content-length transfer-encoding connection keep-alive proxy-connection te upgrade date".split()
)
def test_response_fields_that_must_be_looked_at(key: bytes) -> None:
    assert is_special_in_responses(key)


@pytest.mark.parametrize("key", b"host expect x-request-id set-cookie server x-forwarded-for via trailer".split())
def test_other_response_fields_are_passed_on_unread(key: bytes) -> None:
    assert not is_special_in_responses(key)


def test_a_field_is_written_anew() -> None:
    assert field_line(b"X-CuStom", b"A  b") == b"X-CuStom: A  b"
    assert field_line(b"A", b"") == b"A: "


@pytest.mark.parametrize(
    ("key", "values"),
    [(b"a", [b"1", b"2", b"", b"b: c"]), (b"b", [b"3"]), (b"c", []), (b"nocolon", [])],
)
def test_the_values_of_a_field_in_any_case_and_with_any_white_space(key: bytes, values: list[bytes]) -> None:
    lines = [b"A: 1", b"a:2", b"B: \t3 ", b"a: ", b"A:b: c", b"nocolon", b"aa: 4"]
    assert values_of(lines, key) == values
    assert RequestHead(b"GET", b"/", 1, lines, []).values(key) == values
    assert ResponseHead(200, b"OK", 1, lines, []).values(key) == values


LINES = [b"A: b", b"Host: a"]
SPECIAL = [Field(b"host", b"a", b"Host: a")]


def test_request_heads_are_equal_if_all_of_them_is() -> None:
    head = RequestHead(b"GET", b"/", 1, LINES, SPECIAL)
    assert head == RequestHead(b"GET", b"/", 1, list(LINES), list(SPECIAL))
    assert head != RequestHead(b"PUT", b"/", 1, LINES, SPECIAL)
    assert head != RequestHead(b"GET", b"/b", 1, LINES, SPECIAL)
    assert head != RequestHead(b"GET", b"/", 0, LINES, SPECIAL)
    assert head != RequestHead(b"GET", b"/", 1, LINES[::-1], SPECIAL)
    assert head != RequestHead(b"GET", b"/", 1, LINES, [])
    assert head != (b"GET", b"/", 1, LINES, SPECIAL)


def test_response_heads_are_equal_if_all_of_them_is() -> None:
    head = ResponseHead(200, b"OK", 1, LINES, SPECIAL)
    assert head == ResponseHead(200, b"OK", 1, list(LINES), list(SPECIAL))
    assert head != ResponseHead(201, b"OK", 1, LINES, SPECIAL)
    assert head != ResponseHead(200, b"Ok", 1, LINES, SPECIAL)
    assert head != ResponseHead(200, b"OK", 0, LINES, SPECIAL)
    assert head != ResponseHead(200, b"OK", 1, LINES[::-1], SPECIAL)
    assert head != ResponseHead(200, b"OK", 1, LINES, [])
    assert head != (200, b"OK", 1, LINES, SPECIAL)


def test_heads_cannot_be_keys() -> None:
    with pytest.raises(TypeError):
        hash(RequestHead(b"GET", b"/", 1, [], []))
    with pytest.raises(TypeError):
        hash(ResponseHead(200, b"OK", 1, [], []))


def test_a_head_is_shown_without_its_fields() -> None:
    secret = [b"Authorization: Basic c2VjcmV0"]
    assert repr(RequestHead(b"GET", b"/a", 1, secret, [])) == "RequestHead(b'GET', b'/a', HTTP/1.1, 1 fields)"
    assert repr(ResponseHead(200, b"OK", 0, secret, [])) == "ResponseHead(200, b'OK', HTTP/1.0, 1 fields)"


def test_the_error_says_what_to_tell_the_client_and_the_log() -> None:
    error = MessageError(431, "too_many_fields", "the head has over 100 fields")
    assert (error.status, error.what, error.detail) == (431, "too_many_fields", "the head has over 100 fields")
    assert str(error) == "the head has over 100 fields"


@pytest.mark.parametrize(
    ("line", "name", "value"),
    [
        (b"A: b", b"A", b"b"),
        (b"A:b", b"A", b"b"),
        (b"A:", b"A", b""),
        (b"A: \t ", b"A", b""),
        (b"A: \t b c\t d \t", b"A", b"b c\t d"),
        (b"A: :b:", b"A", b":b:"),
        (b"!#$%&'*+.^_`|~09azAZ-: x", b"!#$%&'*+.^_`|~09azAZ-", b"x"),
        (b"A: caf\xc3\xa9", b"A", b"caf\xc3\xa9"),
        (b"A: \xff", b"A", b"\xff"),
    ],
)
def test_a_field_line_is_split(line: bytes, name: bytes, value: bytes) -> None:
    assert split_field_line(line) == (name, value)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"A",
        b": b",
        b"A : b",
        b" A: b",
        b"\tA: b",
        b"A b: c",
        b"A(: b",
        b"\xc3\xa9: b",
        b"A: b\r",
        b"A: b\n",
        b"A: b\nB: c",
        b"A: b\rc",
        b"A: b\x00c",
        b"A: \x01",
        b"A: \x7f",
        b"A: b\x0b",
        b"A: b\x0cc",
    ],
)
def test_a_malformed_field_line_is_an_error(line: bytes) -> None:
    with pytest.raises(MessageError) as caught:
        split_field_line(line)
    assert (caught.value.status, caught.value.what) == (400, "field_line")


@pytest.mark.parametrize(
    ("value", "members"),
    [
        (b"", []),
        (b"close", [b"close"]),
        (b"Keep-Alive, CLOSE", [b"keep-alive", b"close"]),
        (b" ,, a ,\tb\t, ", [b"a", b"b"]),
        (b"a b,c", [b"a b", b"c"]),
    ],
)
def test_list_members(value: bytes, members: list[bytes]) -> None:
    assert list_members(value) == members
