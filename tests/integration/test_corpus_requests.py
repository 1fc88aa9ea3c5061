"""Every nasty request of the corpus: whole, byte by byte, and with another request behind it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from tests.corpus_files import Entry, load
from tests.fakes import Client, Message, eventually, pieces, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Endpoint
from tests.integration.harness import Balancer

REQUESTS = load("requests")
REFUSED = {name: entry for name, entry in REQUESTS.items() if entry.expect[0] != "forwarded"}
FORWARDED = {name: entry for name, entry in REQUESTS.items() if entry.expect[0] == "forwarded"}

# A large one byte by byte would only take longer.
_MOST_PIECES = 400
_OURS = (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id")


def in_pieces(raw: bytes) -> list[bytes]:
    return list(pieces(raw, max(1, len(raw) // _MOST_PIECES)))


def method_of(entry: Entry) -> str:
    return "HEAD" if entry.sent.startswith(b"HEAD ") else "GET"


def check_refusal(entry: Entry, client: Client) -> None:
    status, what = int(entry.expect[0]), entry.expect[1]
    message = client.read_response(method_of(entry))
    problem = json.loads(message.body)
    assert (message.status, problem["status"]) == (status, status), problem
    assert problem["reason"].startswith("bad_request:")
    assert what == "*" or problem["reason"] == f"bad_request:{what}"
    assert message.get(b"content-type") == b"application/problem+json"
    assert message.get(b"connection") == b"close"
    assert message.get(b"proxy-status") == b'podlb; error=http_request_error; details="%b"' % problem["reason"].encode()
    assert client.how_closed() == "fin"


def check_nothing_reached(entry: Entry, lb: Balancer, a: Endpoint, count: int) -> None:
    what = entry.expect[1]
    assert lb.end_words() == {f"bad_request:{what}": count} if what != "*" else lb.ends() == {"bad_request": count}
    assert a.requests == []
    if entry.options.get("reaches") != "head":
        assert a.connections == []
        return
    # The fault is in the body: the endpoint may have its head, and then sees no end of it.
    assert len(a.heads) <= count
    eventually(lambda: a.open_connections == 0, "the end of the connections to the endpoint")


@pytest.mark.parametrize("name", REFUSED)
def test_it_is_refused(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    entry = REFUSED[name]
    a = endpoint()
    lb = balancer(a)
    behind = b"" if entry.options.get("trailing") == "no" else request("GET", "/behind")
    for sent in ([entry.sent], [entry.sent + behind], in_pieces(entry.sent + behind)):
        client = lb.client()
        # It may be refused before its end.
        with suppress(ConnectionError):
            client.send(*sent)
        check_refusal(entry, client)
    check_nothing_reached(entry, lb, a, 3)


def without_ours(message: Message) -> bytes:
    """Return the head as it would stand in the corpus: without the fields that podlb adds behind the others."""
    lines = message.raw_head[:-4].split(b"\r\n")
    kept = [line for line in lines if line.partition(b":")[0].lower() not in _OURS]
    via = [line for line in kept if line.startswith(b"Via: 1.") and line.endswith(b" podlb")]
    assert len(via) == 1
    kept.remove(via[0])
    trailers = b"".join(b"\r\n%b: %b" % (name.title(), value) for name, value in message.trailers)
    return b"\r\n".join([*kept, b"", message.body]) + trailers


def normal(raw: bytes) -> bytes:
    """Put the field that frames the body behind all others, where podlb writes it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    framing = [line for line in lines if line.lower().startswith((b"content-length:", b"transfer-encoding:"))]
    return b"\r\n".join([start, *[line for line in lines if line not in framing], *framing, b"", body])


@pytest.mark.parametrize("name", FORWARDED)
def test_it_is_forwarded(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    entry = FORWARDED[name]
    a = endpoint()
    lb = balancer(a)
    has_behind = entry.options.get("trailing") != "no"
    behind = request("GET", "/behind") if has_behind else b""
    for number, sent in enumerate([[entry.sent], [entry.sent + behind], in_pieces(entry.sent + behind)]):
        client = lb.client()
        client.send(*sent)
        assert client.read_response(method_of(entry)).status == 200
        if number and has_behind:
            assert client.read_response().status == 200
            assert a.requests.pop().target == b"/behind"
        received = a.requests.pop()
        assert entry.received is not None
        assert without_ours(received) == normal(entry.received)
        assert a.requests == []
        client.close()
    assert lb.ends() == {"ok": 5 if has_behind else 3}
