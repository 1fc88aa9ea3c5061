"""Every nasty response of the corpus: whole, byte by byte, and with another response behind it."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest

from tests.corpus_files import Entry, load
from tests.fakes import Client, Message, TruncatedError, eventually, pieces, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Action, Connection, response

RESPONSES = load("responses")
BAD = {name: entry for name, entry in RESPONSES.items() if entry.expect[0] == "502"}
CUT = {name: entry for name, entry in RESPONSES.items() if entry.expect[0] == "cut"}
PASSED = {name: entry for name, entry in RESPONSES.items() if entry.expect[0] == "passed"}

_MOST_PIECES = 400
_SMUGGLED = response(b"smuggled")


def ways(entry: Entry) -> list[list[bytes]]:
    """Return how it is sent: whole, with another one behind it, in pieces."""
    behind = [] if entry.options.get("trailing") == "no" or "end" in entry.options else [[entry.sent + _SMUGGLED]]
    return [[entry.sent], *behind, list(pieces(entry.sent, max(1, len(entry.sent) // _MOST_PIECES)))]


def answer(sent: list[bytes], entry: Entry) -> Action:
    def action(connection: Connection, message: Message) -> None:
        try:
            connection.send(*sent)
        except ConnectionError:
            # It is given up before its end.
            return
        if entry.options.get("end") == "close":
            connection.close()

    return action


def ask(entry: Entry, client: Client) -> str:
    method = entry.options.get("method", "GET")
    client.send(b"%b / HTTP/%b\r\nHost: x\r\n\r\n" % (method.encode(), entry.options.get("client", "1.1").encode()))
    return method


@pytest.mark.parametrize("name", BAD)
def test_it_is_a_502(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    entry = BAD[name]
    all_ways = ways(entry)
    a = endpoint(*[answer(sent, entry) for sent in all_ways])
    lb = balancer(a)
    client = lb.client()
    for count in range(1, len(all_ways) + 1):
        message = client.read_response(ask(entry, client))
        problem = json.loads(message.body)
        assert message.status == problem["status"] == 502
        assert entry.expect[1] == "*" or problem["reason"] == f"bad_response:{entry.expect[1]}"
        assert problem["reason"].startswith("bad_response")
        error = b'podlb; error=http_protocol_error; details="%b"' % problem["reason"].encode()
        assert message.get(b"proxy-status") == error
        # The client's own connection is as good as before; the endpoint's is not.
        assert message.get(b"connection") is None
        assert len(a.connections) == count
    eventually(lambda: a.open_connections == 0, "the end of the connections to the endpoint")
    assert client.get().body == b"ok"
    assert lb.ends() == {"bad_response": len(all_ways), "ok": 1}


@pytest.mark.parametrize("name", CUT)
def test_it_is_cut(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    entry = CUT[name]
    all_ways = ways(entry)
    a = endpoint(*[answer(sent, entry) for sent in all_ways])
    lb = balancer(a)
    for _ in all_ways:
        client = lb.client()
        method = ask(entry, client)
        with suppress(TruncatedError, ConnectionError):
            # Where the fault came with the head there is a reply.
            assert client.read_response(method).status == 502
    ends = lb.ends()
    assert sum(ends.values()) == len(all_ways)
    assert set(ends) == {entry.expect[1]}
    eventually(lambda: a.open_connections == 0, "the end of the connections to the endpoint")


def normal(raw: bytes) -> bytes:
    """Put the field that frames the body behind all others, where podlb writes it."""
    head, _, body = raw.partition(b"\r\n\r\n")
    start, *lines = head.split(b"\r\n")
    framing = [line for line in lines if line.lower().startswith((b"content-length:", b"transfer-encoding:"))]
    close = [line for line in lines if line == b"Connection: close"]
    rest = [line for line in lines if line not in framing and line not in close]
    return b"\r\n".join([start, *rest, *framing, *close, b"", body])


def as_received(message: Message) -> bytes:
    """Return the response as it would stand in the corpus: without the Date that podlb adds."""
    lines = [line for line in message.raw_head[:-4].split(b"\r\n") if not line.startswith(b"Date: ")]
    trailers = b"".join(b"\r\n%b: %b" % (name.title(), value) for name, value in message.trailers)
    return b"\r\n".join([*lines, b"", message.body]) + trailers


@pytest.mark.parametrize("name", PASSED)
def test_it_is_passed_on(name: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    entry = PASSED[name]
    assert entry.received is not None
    for number, sent in enumerate(ways(entry)):
        a = endpoint(answer(sent, entry))
        lb = balancer(a)
        client = lb.client()
        message = client.read_response(ask(entry, client))
        assert as_received(message) == normal(entry.received)
        assert message.get(b"date") is not None
        if entry.options.get("client") == "1.0":
            assert client.how_closed() == "fin"
        # What follows is answered by the endpoint, and never by what stood behind the first response.
        assert lb.client().exchange(request()).body == b"ok"
        has_smuggled = sent[0].endswith(_SMUGGLED)
        is_kept = entry.options["upstream"] == "kept" and not has_smuggled
        assert len(a.connections) == (1 if is_kept else 2), (number, "connections to the endpoint")
        assert lb.ends() == {"ok": 2}
