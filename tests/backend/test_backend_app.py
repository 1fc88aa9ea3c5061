from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.app import ECHO_LIMIT, ORDER_LIMIT, PIECE_LIMIT, App, Identity, Reply, Request, refusal

IDENTITY = Identity(pod="pod-1", ip="10.0.0.1", namespace="ns", node="node-1", service="backend")


def make_app(numbers: Iterable[float] = (), identity: Identity = IDENTITY) -> App:
    chance = iter(numbers)
    return App(identity, lambda: next(chance, 0.5))


def ask(app: App, method: str, target: str, body: bytes = b"", now: float = 0.0) -> Reply:
    request = Request(method, target, [(b"Host", b"x")], local_address="127.0.0.9")
    sink = app.request_head_received(request)
    for start in range(0, len(body), 1000):
        sink.feed(body[start : start + 1000])
    return app.request_received(request, sink, now)


def content(reply: Reply) -> bytes:
    pieces = []
    for offset in range(0, reply.size, PIECE_LIMIT):
        pieces.append(reply.piece(offset, min(PIECE_LIMIT, reply.size - offset)))
    return b"".join(pieces)


def data(reply: Reply) -> dict[str, object]:
    loaded = json.loads(content(reply))
    assert isinstance(loaded, dict)
    return loaded


def field(reply: Reply, name: bytes) -> bytes | None:
    values = [value for key, value in reply.fields if key.lower() == name]
    assert len(values) <= 1
    return values[0] if values else None


def test_get_says_who_serves_and_counts() -> None:
    app = make_app()
    reply = ask(app, "GET", "/")
    assert reply.status == 200
    assert field(reply, b"content-type") == b"application/json"
    assert field(reply, b"content-length") == b"%d" % len(content(reply))
    expected = {"pod": "pod-1", "ip": "10.0.0.1", "namespace": "ns", "node": "node-1", "service": "backend"}
    assert data(reply) == {**expected, "requests": 1}
    assert data(ask(app, "POST", "/any/path", b"x"))["requests"] == 2


def test_without_a_pod_ip_the_local_address_is_told() -> None:
    assert data(ask(make_app(identity=IDENTITY._replace(ip=None)), "GET", "/"))["ip"] == "127.0.0.9"


def test_probes_and_faults_are_not_counted() -> None:
    app = make_app()
    for target in ("/livez", "/readyz", "/fault"):
        ask(app, "GET", target)
    assert data(ask(app, "GET", "/"))["requests"] == 1


@pytest.mark.parametrize("target", ["/livez", "/readyz", "/readyz?status=500&error=100%&size=x"])
def test_probes_answer_200_whatever_the_query(target: str) -> None:
    reply = ask(make_app(), "GET", target)
    assert (reply.status, content(reply)) == (200, b"ok\n")


def test_while_draining_it_is_alive_and_not_ready() -> None:
    app = make_app()
    app.is_draining = True
    assert ask(app, "GET", "/livez").status == 200
    assert ask(app, "GET", "/readyz").status == 503
    assert ask(app, "GET", "/").status == 200


@pytest.mark.parametrize("target", ["/livez", "/readyz"])
def test_a_probe_with_another_method_is_refused(target: str) -> None:
    reply = ask(make_app(), "POST", target)
    assert (reply.status, field(reply, b"allow")) == (405, b"GET, HEAD")


@pytest.mark.parametrize(
    "target", ["/?size=3", "http://any.host/?size=3", "http://any.host?size=3", "/a://b/c?size=3", "*?size=3"]
)
def test_every_form_of_target_has_its_query_read(target: str) -> None:
    assert ask(make_app(), "GET", target).size == 3


@pytest.mark.parametrize("target", ["http://any.host/livez", "HTTP://any.host:80/livez?x=1", "/livez?x=http://y/z"])
def test_every_form_of_target_has_its_path_read(target: str) -> None:
    assert content(ask(make_app(), "GET", target)) == b"ok\n"


def test_connect_is_refused() -> None:
    assert ask(make_app(), "CONNECT", "any.host:443").status == 405


@pytest.mark.parametrize("path", ["/", "/any/path", "/echo"])
def test_the_load_of_the_query_is_passed_on(path: str) -> None:
    reply = ask(make_app(), "GET", f"{path}?size=70k&status=404&delay=1s&cpu=2s&chunked=1&close=1&drip=9")
    assert (reply.status, reply.size, reply.delay, reply.cpu, reply.drip) == (404, 71_680, 1.0, 2.0, 9)
    assert reply.is_close
    assert field(reply, b"content-length") is None
    assert content(reply).startswith(b"0123456789abcdef")
    assert len(content(reply)) == 71_680


def test_a_bad_value_is_answered_with_400_and_the_reason() -> None:
    reply = ask(make_app(), "GET", "/?delay=soon&status=503")
    assert reply.status == 400
    assert data(reply) == {"error": "delay: expected a duration such as 50ms or 1.5s, got 'soon'"}


def test_the_asked_share_of_requests_fails() -> None:
    app = make_app([0.049, 0.05, 0.9])
    statuses = [ask(app, "GET", "/?error=5%&status=201").status for _ in range(3)]
    assert statuses == [500, 201, 201]


@pytest.mark.parametrize("status", [204, 205, 304])
def test_a_status_without_body_has_none(status: int) -> None:
    reply = ask(make_app(), "GET", f"/?status={status}&size=10")
    assert (reply.status, reply.size) == (status, 0)
    assert field(reply, b"content-length") == (b"0" if status == 205 else None)


def test_head_has_the_fields_of_get_and_no_body() -> None:
    reply = ask(make_app(), "HEAD", "/?size=10")
    assert (reply.size, content(reply), field(reply, b"content-length")) == (0, b"", b"10")


@pytest.mark.parametrize(
    ("method", "target"), [("GET", "/?reset=1"), ("GET", "/echo?reset=1"), ("HEAD", "/?reset=1&size=9")]
)
def test_a_reset_without_a_body_comes_instead_of_a_reply(method: str, target: str) -> None:
    reply = ask(make_app(), method, target)
    assert reply.is_reset
    assert not reply.is_answered


def test_a_reset_with_a_size_comes_in_the_middle_of_the_body() -> None:
    reply = ask(make_app(), "GET", "/?reset=1&size=10")
    assert (reply.is_reset, reply.is_answered, reply.size, reply.cut_at) == (True, True, 10, 5)


def test_echo_tells_what_was_received() -> None:
    body = "häl\n".encode()
    reply = ask(make_app(), "PUT", "/echo?x=%20", body)
    assert data(reply) == {
        "method": "PUT",
        "target": "/echo?x=%20",
        "version": "1.1",
        "fields": [["Host", "x"]],
        "body": "häl\n",
        "bodyEncoding": "utf-8",
        "bodyLength": 5,
        "bodySha256": hashlib.sha256(body).hexdigest(),
        "bodyTruncated": False,
    }


def test_echo_tells_a_body_that_is_not_utf8_as_latin1() -> None:
    echo = data(ask(make_app(), "POST", "/echo", b"\xe9\x00\xff"))
    assert (echo["body"], echo["bodyEncoding"]) == ("\xe9\x00\xff", "latin-1")


def test_echo_tells_the_beginning_of_a_long_body() -> None:
    body = b"x" * (ECHO_LIMIT - 1) + "é".encode() + b"y" * 5000
    echo = data(ask(make_app(), "POST", "/echo", body))
    assert echo["bodyTruncated"] is True
    assert echo["bodyLength"] == len(body)
    assert echo["bodySha256"] == hashlib.sha256(body).hexdigest()
    # A character that the limit cuts is left out, and does not turn the text into Latin-1.
    assert (echo["bodyEncoding"], echo["body"]) == ("utf-8", "x" * (ECHO_LIMIT - 1))


def test_echo_tells_a_body_of_just_the_limit_whole() -> None:
    echo = data(ask(make_app(), "POST", "/echo", b"x" * ECHO_LIMIT))
    assert (echo["bodyTruncated"], len(str(echo["body"]))) == (False, ECHO_LIMIT)


def test_nothing_of_other_bodies_is_kept() -> None:
    sink = make_app().request_head_received(Request("POST", "/"))
    sink.feed(b"x" * 5000)
    assert (sink.length, bytes(sink.kept)) == (5000, b"")


def order(app: App, body: bytes, now: float = 0.0) -> Reply:
    return ask(app, "POST", "/fault", body, now)


def test_a_fault_is_ordered_shown_and_cleared() -> None:
    app = make_app()
    assert data(ask(app, "GET", "/fault")) == {"mode": None}
    reply = order(app, b'{"mode": "hang", "for": "30s", "share": 0.5}')
    shown = {"mode": "hang", "remaining": 30.0, "share": 0.5, "probes": False, "hits": 0}
    assert (reply.status, reply.is_fault_changed, data(reply)) == (200, True, shown)
    assert data(ask(app, "GET", "/fault", now=10.0)) == {**shown, "remaining": 20.0}
    reply = ask(app, "DELETE", "/fault")
    assert (reply.status, reply.is_fault_changed, data(reply)) == (200, True, {"mode": None})


@pytest.mark.parametrize(
    ("body", "status"), [(b"{}", 400), (b"x", 400), (b'{"mode": "hang"}' + b" " * ORDER_LIMIT, 413)]
)
def test_a_bad_order_is_refused(body: bytes, status: int) -> None:
    app = make_app()
    reply = order(app, body)
    assert (reply.status, reply.is_fault_changed) == (status, False)
    assert data(reply)["error"]
    assert not ask(app, "GET", "/").is_held


def test_a_fault_with_another_method_is_refused() -> None:
    reply = ask(make_app(), "PUT", "/fault", b'{"mode": "hang"}')
    assert (reply.status, field(reply, b"allow")) == (405, b"GET, HEAD, POST, DELETE")


def test_hang_holds_a_request_until_it_is_over() -> None:
    app = make_app()
    order(app, b'{"mode": "hang", "for": "1s"}')
    reply = ask(app, "GET", "/")
    assert (reply.is_held, reply.is_answered) == (True, False)
    assert not ask(app, "GET", "/livez").is_held
    reply = ask(app, "GET", "/", now=1.0)
    assert (reply.is_held, data(reply)["requests"]) == (False, 1)


def test_hang_holds_probes_if_told() -> None:
    app = make_app()
    order(app, b'{"mode": "hang", "probes": true}')
    assert ask(app, "GET", "/livez").is_held


def test_reset_answers_with_a_reset() -> None:
    app = make_app()
    order(app, b'{"mode": "reset"}')
    reply = ask(app, "GET", "/?size=100")
    assert (reply.is_reset, reply.is_answered) == (True, False)


def test_fast503_answers_at_once() -> None:
    app = make_app()
    order(app, b'{"mode": "fast503"}')
    reply = ask(app, "GET", "/?delay=10s&status=200")
    assert (reply.status, reply.delay) == (503, 0.0)
    assert data(reply) == {"error": "fault: fast503"}


def test_slow_adds_its_delay() -> None:
    app = make_app()
    order(app, b'{"mode": "slow", "delay": "3s"}')
    assert ask(app, "GET", "/?delay=1s").delay == 4.0
    assert ask(app, "GET", "/readyz").delay == 0.0


def test_a_certain_exit_comes_after_its_answer() -> None:
    app = make_app()
    reply = order(app, b'{"mode": "exit", "for": "30s"}')
    assert (reply.status, reply.is_answered, reply.is_exit) == (200, True, True)


def test_an_uncertain_exit_comes_instead_of_an_answer() -> None:
    app = make_app([0.6, 0.4])
    assert not order(app, b'{"mode": "exit", "share": 0.5}').is_exit
    assert not ask(app, "GET", "/").is_exit
    reply = ask(app, "GET", "/")
    assert (reply.is_answered, reply.is_exit) == (False, True)


@pytest.mark.parametrize("mode", ["hang", "reset", "fast503", "slow"])
def test_a_fault_can_always_be_cleared(mode: str) -> None:
    app = make_app()
    order(app, b'{"mode": "%s", "probes": true}' % mode.encode())
    reply = ask(app, "DELETE", "/fault")
    assert (reply.status, reply.is_held, reply.is_reset, reply.delay) == (200, False, False, 0.0)
    assert ask(app, "GET", "/").status == 200


def test_a_refusal_closes() -> None:
    reply = refusal(431, "too long")
    assert (reply.status, reply.is_close, data(reply)) == (431, True, {"error": "too long"})


@given(
    st.sampled_from(["GET", "HEAD", "POST", "DELETE", "OPTIONS", "CONNECT", "X"]),
    st.sampled_from(["/", "/echo", "/livez", "/fault", "*", "http://x/", "x:1"]),
    st.text(alphabet="&=%sizedelaytrpcu0123456789km.", max_size=40),
    st.binary(max_size=50),
)
def test_every_request_has_a_reply_that_can_be_sent(method: str, path: str, query: str, body: bytes) -> None:
    reply = ask(make_app(), method, f"{path}?{query}", body)
    assert 200 <= reply.status <= 599
    assert reply.cut_at <= reply.size
    length = field(reply, b"content-length")
    if reply.content is not None:
        assert len(reply.content) == reply.size
        assert method == "HEAD" or length in (None, b"%d" % reply.size)
