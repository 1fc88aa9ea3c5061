"""`retryOn` with `503` and `timeout`: another endpoint is asked, where that can do no harm."""

from __future__ import annotations

import pytest

from lb import metrics
from tests.fakes import Message, chunked, eventually, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, Endpoint, never, respond, respond_and_close, response
from tests.integration.tunnels import ManualClock

BUSY = response(b"busy", "Retry-After: 7", status="503 Service Unavailable")
ON_503 = {"retry_on": ("connect", "reset", "503")}
ON_TIMEOUT = {"retry_on": ("connect", "reset", "timeout"), "response_timeout": 10.0}

SHAPES = {
    "counted": respond(BUSY),
    "chunked": respond(b"HTTP/1.1 503 X\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(b"busy")),
    "until close": respond_and_close(b"HTTP/1.1 503 X\r\n\r\nbusy"),
    "large": respond(response(b"b" * 300_000, status="503 X")),
    "only begun": respond(b"HTTP/1.1 503 X\r\nContent-Length: 9\r\n\r\nb"),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_another_endpoint_answers_instead(shape: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(default=SHAPES[shape]), endpoint(name="good")
    lb = balancer(a, b, **ON_503)
    client = lb.client()
    for _ in range(4):
        message = client.get()
        assert (message.status, message.body) == (200, b"good")
    assert lb.ends() == {"ok": 4}
    assert len(a.requests) == lb.endpoint_counter(a.value, metrics.RESPONSES + 4) == 2
    assert lb.endpoint_counter(b.value, metrics.RETRIES) == 2


def test_a_connection_whose_503_was_complete_is_used_again(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(default=respond(BUSY)), endpoint()
    client = balancer(a, b, **ON_503).client()
    for _ in range(6):
        assert client.get().status == 200
    assert len(a.requests) == 3
    assert len(a.connections) == 1


def test_by_default_it_is_delivered(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(default=respond(BUSY)), endpoint(default=respond(BUSY))
    message = balancer(a, b).client().get()
    assert (message.status, message.body, message.get(b"retry-after")) == (503, b"busy", b"7")
    assert len(a.requests) + len(b.requests) == 1


@pytest.mark.parametrize(
    ("method", "body", "is_retried"),
    [("HEAD", b"", True), ("PUT", b"abc", True), ("DELETE", b"", True), ("POST", b"abc", False), ("PATCH", b"", False)],
)
def test_only_idempotent_methods(
    method: str, body: bytes, is_retried: bool, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    a, b = endpoint(default=respond(BUSY)), endpoint(default=respond(BUSY))
    lb = balancer(a, b, **ON_503)
    assert lb.client().exchange(request(method, "/", body=body)).status == 503
    assert len(a.requests) + len(b.requests) == (2 if is_retried else 1)
    assert {m.body for m in [*a.requests, *b.requests]} == {body}


def test_when_all_were_tried_the_last_503_is_delivered(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = [endpoint(default=respond(BUSY)) for _ in range(3)]
    lb = balancer(*endpoints, retries=10, **ON_503)
    message = lb.client().get()
    assert (message.status, message.body) == (503, b"busy")
    assert message.get(b"proxy-status") is None, "it is the endpoint's own"
    assert [len(e.requests) for e in endpoints] == [1, 1, 1]
    assert lb.ends() == {"ok": 1}


def test_at_most_retries(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = [endpoint(default=respond(BUSY)) for _ in range(5)]
    assert balancer(*endpoints, retries=2, **ON_503).client().get().status == 503
    assert sum(len(e.requests) for e in endpoints) == 3


def test_one_that_is_set_aside_is_not_asked(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    dead, a = endpoint(is_up=False), endpoint(default=respond(BUSY))
    lb = balancer(dead, a, **ON_503)
    client = lb.client()
    while lb.state(dead.value)[0] != "set aside":
        assert client.get().status == 503
    asked = len(a.requests)
    assert client.get().status == 503
    assert len(a.requests) == asked + 1
    assert lb.endpoint_counter(dead.value, metrics.CONNECT_FAILURES) == 1


def test_a_body_that_is_not_held_any_more(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(default=respond(BUSY)), endpoint(default=respond(BUSY))
    lb = balancer(a, b, retry_body_limit=10, **ON_503)
    assert lb.client().exchange(request("PUT", "/", body=b"x" * 100)).status == 503
    assert len(a.requests) + len(b.requests) == 1


def test_not_behind_an_interim_response(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    action = respond(b"HTTP/1.1 103 Early Hints\r\n\r\n" + BUSY)
    a, b = endpoint(default=action), endpoint(default=action)
    message = balancer(a, b, **ON_503).client().get()
    assert (message.status, len(message.interims)) == (503, 1)
    assert len(a.requests) + len(b.requests) == 1


def test_pipelined_requests_stay_in_order(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(default=respond(BUSY)), endpoint(name="good")
    client = balancer(a, b, **ON_503).client()
    client.send(request("GET", "/1") + request("POST", "/2", body=b"x") + request("GET", "/3"))
    statuses = [client.read_response().status for _ in range(3)]
    assert statuses[0] == statuses[2] == 200
    assert statuses[1] in (200, 503), "a POST goes to one only"


def test_a_503_that_comes_before_the_end_of_the_body(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """What was sent of the body is sent to the other as well, and the rest follows."""

    def refuse_early(connection: Connection) -> None:
        if connection.read_head() is not None:
            connection.send(BUSY)
            connection.wait_for_end()

    a, b = endpoint(script=refuse_early), endpoint(name="good")
    client = balancer(a, b, **ON_503).client()
    raw = request("PUT", "/", body=b"0123456789")
    for _ in range(2):  # one of them comes to a first
        before = len(b.heads)
        client.send(raw[:-5])
        eventually(lambda: len(b.heads) > before, "its head at the other")  # noqa: B023
        client.send(raw[-5:])
        assert client.read_response().body == b"good"
    assert len(a.heads) == 1
    assert a.wait_for_end(0) in ("fin", "reset")
    assert [m.body for m in b.requests] == [b"0123456789"] * 2


def test_a_chunked_body_is_sent_again(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(default=respond(BUSY)), endpoint(name="good")
    client = balancer(a, b, **ON_503).client()
    raw = request("PUT", "/", "Transfer-Encoding: chunked") + chunked(b"abc", b"def", trailers=b"A: b\r\n")
    for _ in range(2):
        assert client.exchange(raw).body == b"good"
    assert [(m.body, m.trailers) for m in [*a.requests, *b.requests]] == [(b"abcdef", [(b"a", b"b")])] * 3


def test_it_is_not_sent_again_to_who_answered_503(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """The other can't be reached: nobody is left to ask, and it is not waited for."""
    a, dead = endpoint(default=respond(BUSY)), endpoint(is_up=False)
    lb = balancer(a, dead, endpoint_wait=60.0, **ON_503)
    while lb.call(lambda: lb.service.policy.pick(None, (), 0.0)) != dead.value:
        pass  # now it is the turn of a
    message = lb.client().get()
    assert (message.status, message.get(b"retry-after")) == (503, b"1")
    assert len(a.requests) == 1
    assert lb.endpoint_counter(dead.value, metrics.CONNECT_FAILURES) == 1
    assert lb.ends() == {"connect_refused": 1}


def test_a_client_that_leaves_during_the_second_attempt(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(default=respond(BUSY)), endpoint(default=never)
    lb = balancer(a, b, **ON_503)
    for _ in range(2):
        before = len(b.requests)
        client = lb.client()
        client.send(request())
        b.wait_for_requests(before + 1)
        client.reset()
        assert b.wait_for_end(before) == "reset"
    assert len(a.requests) == 1
    assert lb.ends() == {"client_gone": 2}


# Time-outs


def wait_for_a_request(*endpoints: Endpoint) -> None:
    eventually(lambda: any(e.requests for e in endpoints), "the request")


def test_an_endpoint_that_does_not_answer_in_time(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    a, b = endpoint(default=never), endpoint(name="good")
    lb = balancer(a, b, clock=clock, **ON_TIMEOUT)
    client = lb.client()
    for method, body in (("GET", None), ("PUT", b"abc")):
        for _ in range(2):  # one of them comes to a first
            before = len(a.requests)
            client.send(request(method, "/", body=body))
            eventually(lambda: len(a.requests) > before or not client.is_silent(), "the request, or its answer")  # noqa: B023
            if len(a.requests) > before:
                assert client.is_silent()
                clock.pass_(lb, 11)
            assert client.read_response().body == b"good"
    assert [m.method for m in a.requests] == [b"GET", b"PUT"]
    assert [m.body for m in b.requests] == [b"", b"", b"abc", b"abc"]
    assert [a.wait_for_end(number) for number in (0, 1)] == ["reset", "reset"]
    assert lb.ends() == {"ok": 4}
    assert lb.endpoint_counter(b.value, metrics.RETRIES) == 2


def test_a_post_that_is_not_answered_in_time(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    a, b = endpoint(default=never), endpoint(default=never)
    lb = balancer(a, b, clock=clock, **ON_TIMEOUT)
    client = lb.client()
    client.send(request("POST", "/", body=b"abc"))
    wait_for_a_request(a, b)
    clock.pass_(lb, 11)
    assert client.read_response().status == 504
    assert len(a.requests) + len(b.requests) == 1


def test_no_time_out_goes_elsewhere_behind_an_interim_response(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()

    def hint_and_stop(connection: Connection, message: Message) -> None:
        connection.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        never(connection, message)

    a, b = endpoint(default=hint_and_stop), endpoint(default=hint_and_stop)
    lb = balancer(a, b, clock=clock, **ON_TIMEOUT)
    client = lb.client()
    client.send(request())
    eventually(lambda: not client.is_silent(), "the interim response")
    clock.pass_(lb, 11)
    message = client.read_response()
    assert (message.status, len(message.interims)) == (504, 1)
    assert len(a.requests) + len(b.requests) == 1


def test_a_503_behind_a_time_out(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """Both are asked for, and count against the same retries."""
    clock = ManualClock()
    endpoints = [endpoint(default=never), endpoint(default=respond(BUSY)), endpoint(default=respond(BUSY))]
    lb = balancer(*endpoints, clock=clock, retry_on=("503", "timeout"), retries=1, response_timeout=10.0)
    client = lb.client()
    for _ in range(3):  # one of them comes first to the one that is silent
        before = len(endpoints[0].requests)
        client.send(request())
        eventually(lambda: len(endpoints[0].requests) > before or not client.is_silent(), "the request")  # noqa: B023
        if len(endpoints[0].requests) > before:
            clock.pass_(lb, 11)
        assert client.read_response().status in (503, 504)
    assert sum(len(e.requests) for e in endpoints) == 6


def test_by_default_a_time_out_is_the_end(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    a, b = endpoint(default=never), endpoint(default=never)
    lb = balancer(a, b, clock=clock, response_timeout=10.0)
    client = lb.client()
    client.send(request())
    wait_for_a_request(a, b)
    clock.pass_(lb, 11)
    assert client.read_response().status == 504
    assert lb.ends() == {"response_timeout": 1}
    assert len(a.requests) + len(b.requests) == 1


def test_when_nobody_answers_in_time(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    clock = ManualClock()
    a, b = endpoint(default=never), endpoint(default=never)
    lb = balancer(a, b, clock=clock, **ON_TIMEOUT)
    client = lb.client()
    client.send(request())
    wait_for_a_request(a, b)
    clock.pass_(lb, 11)
    a.wait_for_requests(1)
    b.wait_for_requests(1)
    clock.pass_(lb, 11)
    assert client.read_response().status == 504
    assert lb.ends() == {"response_timeout": 1}
