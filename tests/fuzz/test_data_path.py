"""Any cuts of both streams, in any order, come to the same requests at the endpoint and the same responses."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from lb.http1.framing import UNTIL_CLOSE
from lb.http1.head import HeadParser
from tests.fakes import Message, TruncatedError, read_response
from tests.fuzz.messages import INTERIMS, Parts, response
from tests.fuzz.path import Answer, Path, stream_of
from tests.fuzz.readers import LIMITS, podlb_requests, podlb_responses
from tests.fuzz.streams import Streams

RANDOM = st.randoms(use_true_random=False)
PARSER = st.sampled_from(["auto", "h11"])


def cut(random: Random, data: bytes) -> list[bytes]:
    """Cut `data` into pieces, often small ones."""
    if random.randrange(5) == 0:
        return [data[at : at + 1] for at in range(len(data))]
    cuts = sorted(random.randint(0, len(data)) for _ in range(random.choice([0, 1, 2, 5, 12])))
    pieces = [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    return [piece for piece in pieces if piece]


class Script:
    """What the endpoint answers to its requests, whole or cut."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self.answers: list[tuple[list[bytes], Parts]] = []
        for _ in range(8):
            interims = [random.choice(INTERIMS) for _ in range(random.choice([0, 0, 0, 1, 2]))]
            self.answers.append((interims, response(random)))

    def whole(self, number: int, request: Message) -> Answer:
        interims, parts = self.answers[number]
        raw = parts.raw()
        if request.method == b"HEAD":
            # No body, so nothing for the end of the connection to end.
            return [b"".join([*interims, raw[: raw.find(b"\r\n\r\n") + 4]])], False
        return [b"".join([*interims, raw])], parts.framing == "close"

    def cut(self, number: int, request: Message) -> Answer:
        [data], closes = self.whole(number, request)
        return cut(self._random, data), closes


class Answered(NamedTuple):
    """A final response, as the client reads it."""

    status: int
    fields: list[tuple[bytes, bytes]]
    body: bytes
    trailers: list[tuple[bytes, bytes]]
    interims: list[int]


# What a Date says, which request gets which id, and whether a connection is kept, may differ.
_MAY_DIFFER = (b"date", b"x-request-id", b"connection")
# Which fault of a head is seen first depends on how much of it is here.
_REFUSALS = (400, 405, 414, 417, 431, 501, 505)
REFUSED = Answered(400, [], b"", [], [])


def answered(written: bytes, methods: list[str]) -> list[Answered]:
    """Read what a client is sent behind requests with `methods`; what is refused has no method any more."""
    stream = stream_of(written)
    responses = []
    while stream.buffer:
        before = stream.buffer
        method = methods[len(responses)] if len(responses) < len(methods) else "GET"
        try:
            message = read_response(stream, method)
        except TruncatedError:
            # It has a length and no body: a HEAD was refused for its body.
            stream.buffer = before
            message = read_response(stream, "HEAD")
            assert message.status == 400
        fields = [(name, value) for name, value in message.fields if name not in _MAY_DIFFER]
        interims = [interim.status for interim in message.interims]
        if b"proxy-status" in message.names and message.status in _REFUSALS:
            responses.append(REFUSED._replace(interims=interims))
        else:
            responses.append(Answered(message.status, fields, message.body, message.trailers, interims))
    return responses


def sent(message: Message) -> tuple[object, ...]:
    """Return what must be the same of a request at the endpoint."""
    fields = [pair for pair in message.fields if pair[0] != b"x-request-id"]
    return message.start, fields, message.body, message.trailers


class Outcome(NamedTuple):
    """What came of it on both sides."""

    forwarded: list[tuple[object, ...]]
    responses: list[Answered]
    closed: bool


def outcome(path: Path, methods: list[str]) -> Outcome:
    path.run()
    return Outcome(
        [sent(message) for message in path.forwarded], answered(path.client.written, methods), path.client.is_closing()
    )


@given(RANDOM, PARSER, st.sampled_from([0, 65]))
def test_any_cuts_and_interleavings_come_to_the_same(random: Random, parser: str, mutated: int) -> None:
    data = Streams(random, mutated=mutated).requests()
    script = Script(random)
    stream = podlb_requests(data, HeadParser(LIMITS, recogniser=parser == "auto"))
    complete = [message for message in stream.messages if message.end >= 0]
    methods = [message.start[0].decode() for message in stream.messages]

    expected = outcome(Path([data], script.whole, parser=parser, random=None), methods)
    # What the endpoint reads are the requests that the client sent, and each is answered by its own response.
    assert [(start[:2], body) for start, _, body, _ in expected.forwarded] == [
        ((message.sent.split(b" ")[0], message.sent.split(b" ")[1]), message.body) for message in complete
    ]
    for number, (interims, parts) in enumerate(script.answers[: len(complete)]):
        got = expected.responses[number]
        assert got.status == int(parts.start.split(b" ")[1])
        has_body = methods[number] != "HEAD" and parts.framing
        assert got.body == (parts.payload if has_body else b"")
        assert len(got.interims) == (len(interims) if complete[number].start[2] else 0)
    assert expected.responses[len(complete) :] == ([REFUSED] if stream.refused else [])

    path = Path(cut(random, data), script.cut, parser=parser, random=random)
    assert outcome(path, methods) == expected


def fate(path: Path) -> list[Answered] | str:
    """Return what the client has of a response that may be bad: all of it, or that it cannot take it for whole."""
    path.run()
    if path.client.is_aborted:
        return "bad"
    responses = answered(path.client.written, ["GET"])
    [final] = responses
    return "bad" if final.status == 502 and b"proxy-status" in dict(final.fields) else responses


@given(RANDOM, PARSER, st.sampled_from([0, 100]))
def test_a_response_in_any_pieces_is_the_same_response_or_as_bad(random: Random, parser: str, mutated: int) -> None:
    data = Streams(random, mutated=mutated).responses()

    def whole(number: int, request: Message) -> Answer:
        return [data], True

    def in_pieces(number: int, request: Message) -> Answer:
        return cut(random, data), True

    get = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
    expected = fate(Path([get], whole, parser=parser, random=None))
    stream = podlb_responses(data, HeadParser(LIMITS, recogniser=parser == "auto"))
    finals = [message for message in stream.messages if not message.start[0].startswith(b"1")]
    if finals and (finals[0].end >= 0 or finals[0].framing == UNTIL_CLOSE):
        assert isinstance(expected, list)
        assert (expected[0].status, expected[0].body) == (int(finals[0].start[0]), finals[0].body)
    else:
        # Refused, or cut short by the endpoint's FIN.
        assert expected == "bad"
    assert fate(Path([get], in_pieces, parser=parser, random=random)) == expected
