"""What podlb forwards, read by a real nginx and a real HAProxy behind it, is one and the same sequence of requests.

    client ─▶ podlb ─▶ nginx or HAProxy ─▶ recorder

Whatever the client sends: every request that podlb reads in it is answered once and in its turn, by the recorder, which
has then read the same method, target and body, and says which in its answer; or by the program in between, where it is
known to refuse what we forward. Nothing else reaches the recorder.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from lb.endpoint import make_endpoint
from lb.http1.head import HeadParser
from tests.fakes import DEADLINE, Message
from tests.fuzz.readers import LIMITS, podlb_requests
from tests.fuzz.runs import DURATIONS, Run
from tests.fuzz.streams import Streams
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, Endpoint, response
from tests.integration.harness import ALL_VARIANTS, Balancer
from tests.integration.programs import PROGRAMS

_PARSER = HeadParser(LIMITS)
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r]*\r\n((?:[^\r]+\r\n)*)\r\n")
_RECORDED = re.compile(rb"(?i)X-Recorded: ([^\r]*)\r\n")

# What they refuse although we forward it, by the request as it was sent. HAProxy: PRI, and Upgrade: websocket without
# the fields that go with it. nginx: methods with other letters, `OPTIONS *`, paths that lead above the root or have a
# malformed escape, a Host with an empty label, and Expect in two lines.
_REFUSED = {
    "haproxy": re.compile(rb"(?is)PRI |.*\nupgrade:"),
    "nginx": re.compile(
        rb"[A-Z_-]*[^A-Z_ -]|OPTIONS (?:\*|(?i:http)://[^/? ]+) |[A-Z_-]+ [^ ]*(?:%(?![0-9A-Fa-f]{2})|/\.\.)"
        rb"|(?is:.*(?:\nexpect:.*\nexpect:|\nhost:[ \t]*[^\r\n]*(?:\.\.|(?<![^: \t])\.)))"
    ),
}

Seen = tuple[bytes, bytes, bytes]


class Chain(NamedTuple):
    """podlb, and the recorder at the other end."""

    lb: Balancer
    recorder: Endpoint
    refused: re.Pattern[bytes]
    """What the program in between answers with 400 itself."""


@pytest.fixture(params=sorted(PROGRAMS))
def chain(
    request: pytest.FixtureRequest, tmp_path: Path, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> Iterator[Chain]:
    """Start everything."""
    program = PROGRAMS[request.param]
    if program.path is None:
        pytest.skip(f"{program.command} is not installed")
    recorder = endpoint(default=record)
    with program.behind(recorder.port, tmp_path) as port:
        lb = balancer(make_endpoint("127.0.0.1", port), abort_on_client_fin=False, endpoint_wait=0.0)
        lb.expected_errors = ["endpoint 127.0.0.1"]
        yield Chain(lb, recorder, _REFUSED[request.param])


def answers_to(data: bytes, port: int) -> bytes:
    """Send `data` and a FIN; return all that comes until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), DEADLINE) as sock:
        with suppress(ConnectionError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        pieces = []
        with suppress(ConnectionError):
            while piece := sock.recv(65536):
                pieces.append(piece)
        return b"".join(pieces)


def record(connection: Connection, message: Message) -> None:
    """Answer with what was asked."""
    what = f"X-Recorded: {message.method.decode()} {message.target.decode()} {len(message.body)}"
    connection.send(response(b"" if message.method == b"HEAD" else b"recorded", what, status="299 Recorded"))


def who_answered(head: re.Match[bytes]) -> bytes:
    """Return the request that the recorder answered, or who else did, with which status."""
    if recorded := _RECORDED.search(head[2]):
        return recorded[1]
    return (b"podlb " if b"Proxy-Status: podlb" in head[2] else b"between ") + head[1]


def problem(chain: Chain, data: bytes) -> str | None:
    """Say what became of `data` that should not, if anything did."""
    recorder = chain.recorder
    recorder.requests.clear()
    recorder.heads.clear()
    stream = podlb_requests(data, _PARSER)
    complete = [message for message in stream.messages if message.end >= 0]
    read: list[Seen] = [(m.start[0], m.sent.split(b" ")[1], m.body) for m in complete]
    answers = answers_to(data, chain.lb.port)
    chain.lb.wait_until_idle()
    seen: list[Seen] = [(m.method, m.target, m.body) for m in recorder.requests]
    by_whom = [who_answered(head) for head in _STATUS.finditer(answers) if not head[1].startswith(b"1")]
    story = f"podlb read {read}; {seen} arrived; answers: {by_whom}"
    arrived = iter(seen)
    for message, request, answer in zip(complete, read, by_whom, strict=False):
        if answer == b"between 400" and chain.refused.match(data[message.begin : message.end]):
            continue
        if answer != b"%b %b %d" % (*request[:2], len(request[2])) or next(arrived, None) != request:
            return f"{request} was answered by {answer!r}; {story}"
    if more := list(arrived):
        return f"{more} arrived too; {story}"
    if len(by_whom) < len(read) and not (by_whom and by_whom[-1].startswith(b"between ")):
        return f"not all were answered; {story}"
    if len(by_whom) > len(read) + 1:
        return f"more answers than requests; {story}"
    return None


@pytest.mark.one_variant
@pytest.mark.parametrize("seconds", DURATIONS)
def test_one_and_the_same_sequence(seconds: float, chain: Chain, request: pytest.FixtureRequest) -> None:
    # Two programs share the time; so do all the loops and parsers, if it runs on them.
    variants = len(ALL_VARIANTS) if request.config.getoption("--all-loops") and seconds > 1 else 1
    run = Run(seconds / 2 / variants, "forwarding")
    for number, random in run.inputs():
        streams = Streams(random, tag=b"n%d" % number)
        data = streams.requests()
        if problem(chain, data):
            run.fail(data, lambda smaller: problem(chain, smaller), streams.applied, tries=300)
        run.counts["arrived"] += len(chain.recorder.requests)
    run.report()
    assert run.is_single or run.counts["arrived"] > run.counts["inputs"] // 4
