"""What the API server says: pages, events, statuses, and what can't be read."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb.discovery.watcher import (
    Failure,
    GarbledError,
    StatusError,
    Trouble,
    read_event,
    read_page,
    read_status,
    version_number,
)
from tests.discovery.json_values import JSON, deeply_nested

TOO_NEW = {
    "kind": "Status",
    "status": "Failure",
    "message": "Timeout: Too large resource version: 2000, current: 100",
    "reason": "Timeout",
    "details": {"causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large"}], "retryAfterSeconds": 1},
    "code": 504,
}


def status(code: int, message: str = "no", **more: Any) -> bytes:
    return json.dumps({"kind": "Status", "code": code, "message": message, **more}).encode()


class TestPage:
    def test_items_version_and_token(self) -> None:
        page = read_page(b'{"metadata":{"resourceVersion":"7","continue":"abc"},"items":[{"a":1},{}]}')
        assert [bytes(item) for item in page.items] == [b'{"a":1}', b"{}"]
        assert (page.version, page.token) == ("7", "abc")

    @pytest.mark.parametrize("items", [b'"items":null', b'"items":[]', b'"kind":"EndpointSliceList"'])
    def test_no_items(self, items: bytes) -> None:
        assert read_page(b'{"metadata":{"resourceVersion":"7"},' + items + b"}") == ([], "7", "")

    def test_whatever_an_item_is_it_is_the_next_one_s_to_read(self) -> None:
        assert [bytes(item) for item in read_page(b'{"metadata":{},"items":[null,[],"a"]}').items] == [
            b"null",
            b"[]",
            b'"a"',
        ]

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"null",
            b"[]",
            b"<html></html>",
            b'{"items":[]}',
            b'{"metadata":null}',
            b'{"metadata":{"resourceVersion":7}}',
            b'{"metadata":{},"items":{}}',
            b'{"metadata":{"resourceVersion":"7"},"items":[{"a":1}',
            b'{"metadata":{"resourceVersion":"\xff"}}',
            deeply_nested(b'{"metadata":{},"items":[%b]}'),
            deeply_nested(b'{"metadata":{"x":%b}}'),
        ],
    )
    def test_what_can_t_be_read(self, data: bytes) -> None:
        with pytest.raises(GarbledError, match="a list that can't be read"):
            read_page(data)


class TestEvent:
    def test_type_object_and_version(self) -> None:
        event = read_event(b'{"type":"ADDED","object":{"kind":"X","metadata":{"name":"a","resourceVersion":"9"}}}')
        assert (event.kind, event.version) == ("ADDED", "9")
        assert json.loads(bytes(event.item)) == {"kind": "X", "metadata": {"name": "a", "resourceVersion": "9"}}

    @pytest.mark.parametrize("item", [b"{}", b'{"metadata":{}}', b'{"metadata":{"name":"a"}}'])
    def test_an_object_without_a_version(self, item: bytes) -> None:
        assert read_event(b'{"type":"MODIFIED","object":%b}' % item).version == ""

    def test_an_unknown_type_is_read_as_well(self) -> None:
        assert read_event(b'{"type":"NEW","object":{"metadata":{"resourceVersion":"9"}},"more":1}').kind == "NEW"

    @pytest.mark.parametrize(
        "line",
        [
            b"garbage",
            b"{",
            b"null",
            b"[]",
            b'{"type":"ADDED"}',
            b'{"object":{}}',
            b'{"type":null,"object":{}}',
            b'{"type":"ADDED","object":null}',
            b'{"type":"ADDED","object":[]}',
            b'{"type":"ADDED","object":{"metadata":{"resourceVersion":1}}}',
            b'{"type":"ADDED","object":{"metadata":{"resourceVersion":"1"}',
            b'{"type":"ADDED","object":{}}{"type":"ADDED","object":{}}',
            b'{"type":"\xc3","object":{}}',
            deeply_nested(b'{"type":"ADDED","object":{"x":%b}}'),
        ],
    )
    def test_what_can_t_be_read(self, line: bytes) -> None:
        with pytest.raises(GarbledError, match="a line that can't be read"):
            read_event(line)

    @pytest.mark.parametrize(
        ("item", "failure"),
        [
            (status(410, "too old resource version: 1 (2)"), Failure(Trouble.GONE, "too old resource version: 1 (2)")),
            (json.dumps(TOO_NEW).encode(), Failure(Trouble.ERROR, TOO_NEW["message"], 1.0, is_too_new=True)),
            (status(500, "etcd"), Failure(Trouble.ERROR, "etcd")),
            (status(403, "no"), Failure(Trouble.FORBIDDEN, "no")),
            (b"null", Failure(Trouble.ERROR, "status 0")),
            (b'"text"', Failure(Trouble.ERROR, "status 0")),
        ],
    )
    def test_an_error_is_a_failure(self, item: bytes, failure: Failure) -> None:
        with pytest.raises(StatusError) as found:
            read_event(b'{"type":"ERROR","object":%b}' % item)
        assert found.value.failure == failure


class TestStatus:
    @pytest.mark.parametrize(
        ("code", "trouble"),
        [
            (401, Trouble.UNAUTHORIZED),
            (403, Trouble.FORBIDDEN),
            (404, Trouble.ERROR),
            (410, Trouble.GONE),
            (429, Trouble.THROTTLED),
            (500, Trouble.ERROR),
            (503, Trouble.THROTTLED),
            (504, Trouble.ERROR),
        ],
    )
    def test_what_it_is_by_the_code_of_the_response(self, code: int, trouble: Trouble) -> None:
        assert read_status(code, status(code, "it says so")) == Failure(trouble, "it says so")
        # A proxy in between answers in HTML.
        assert read_status(code, b"<html>no</html>") == Failure(trouble, f"status {code}")
        assert read_status(code, b"") == Failure(trouble, f"status {code}")
        # What the response says counts, not what its body says.
        assert read_status(code, status(200)).trouble is trouble

    def test_a_redirect_is_an_error(self) -> None:
        assert read_status(302, b"") == Failure(Trouble.ERROR, "status 302")

    @pytest.mark.parametrize(
        ("header", "body", "seconds"),
        [
            ("7", {}, 7.0),
            ("", {"details": {"retryAfterSeconds": 3}}, 3.0),
            ("7", {"details": {"retryAfterSeconds": 3}}, 7.0),
            ("0", {}, 0.0),
            ("", {"details": {"retryAfterSeconds": 0}}, None),
            ("", {"details": {"retryAfterSeconds": -3}}, None),
            ("", {"details": {}}, None),
            ("", {"details": None}, None),
            ("-1", {}, None),
            ("1.5", {}, None),
            ("\xb2", {}, None),
            # A date (RFC 9110, section 10.2.3): no API server sends one.
            ("Fri, 31 Dec 1999 23:59:59 GMT", {}, None),
        ],
    )
    @pytest.mark.parametrize("code", [429, 503])
    def test_when_to_come_back(self, code: int, header: str, body: dict[str, Any], seconds: float | None) -> None:
        assert read_status(code, status(code, **body), header) == Failure(Trouble.THROTTLED, "no", seconds)

    def test_a_number_without_end_is_as_good_as_a_large_one(self) -> None:
        found = read_status(429, b"", "9" * 5000)
        assert found.retry_after is not None
        assert found.retry_after > 1e9

    def test_a_version_that_is_too_new_by_its_cause_or_by_its_text(self) -> None:
        assert read_status(504, json.dumps(TOO_NEW).encode()).is_too_new
        assert read_status(504, json.dumps(TOO_NEW | {"details": None}).encode()).is_too_new
        assert read_status(504, json.dumps(TOO_NEW | {"message": ""}).encode()).is_too_new

    def test_another_504_is_not(self) -> None:
        assert not read_status(504, status(504, "Gateway timeout")).is_too_new
        assert not read_status(504, b"<html>").is_too_new
        assert not read_status(500, json.dumps(TOO_NEW | {"code": 500}).encode()).is_too_new

    def test_the_text_is_one_line_and_not_long(self) -> None:
        found = read_status(500, status(500, "a\nb\x1b[31m\u2028" + "x" * 10000))
        assert found.text.startswith("a b [31m x")
        assert len(found.text) == 500


@pytest.mark.parametrize(
    ("version", "number"),
    [("0", 0), ("12", 12), ("18446744073709551615", 2**64 - 1), ("", -1), ("a", -1), ("-1", -1), ("9" * 5000, -1)],
)
def test_a_version_as_a_number(version: str, number: int) -> None:
    assert version_number(version) == number


@given(st.one_of(st.binary(), JSON.map(lambda value: json.dumps(value).encode())))
def test_whatever_comes_it_is_read_or_garbled(data: bytes) -> None:
    for read in (read_page, read_event):
        with suppress(GarbledError, StatusError):
            read(data)
    assert read_status(500, data).trouble is Trouble.ERROR


_VALUE = st.one_of(JSON, st.sampled_from(["ERROR", "ADDED", "1", "abc", 410, 504]))
_NAMES = ("type", "object", "metadata", "items", "resourceVersion", "continue", "code", "message", "details", "causes")


@settings(max_examples=50)
@given(st.dictionaries(st.sampled_from(_NAMES), st.dictionaries(st.sampled_from(_NAMES), _VALUE) | _VALUE))
def test_also_what_looks_like_an_answer(value: dict[str, Any]) -> None:
    test_whatever_comes_it_is_read_or_garbled.hypothesis.inner_test(json.dumps(value).encode())
