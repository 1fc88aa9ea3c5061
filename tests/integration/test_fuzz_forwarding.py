"""What podlb forwards, read by a real nginx and a real HAProxy behind it, is one and the same sequence of requests.

    client ─▶ podlb ─▶ nginx or HAProxy ─▶ recorder

Whatever the client sends: every request that podlb reads in it is answered exactly once, by the recorder, which then
has the same method, target and body, in the same order; or by the program in between, which refuses more than we do.
Nothing reaches the recorder that podlb did not read.
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
from tests.fakes import DEADLINE
from tests.fuzz.readers import LIMITS, podlb_requests
from tests.fuzz.runs import DURATIONS, Run
from tests.fuzz.streams import Streams
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Endpoint, respond, response
from tests.integration.harness import Balancer
from tests.integration.programs import PROGRAMS

_PARSER = HeadParser(LIMITS)
_STATUS = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r]*\r\n((?:[^\r]+\r\n)*)\r\n")

Seen = tuple[bytes, bytes, bytes]


class Chain(NamedTuple):
    """podlb, and the recorder at the other end."""

    lb: Balancer
    recorder: Endpoint


@pytest.fixture(params=sorted(PROGRAMS))
def chain(
    request: pytest.FixtureRequest, tmp_path: Path, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> Iterator[Chain]:
    """Start everything."""
    program = PROGRAMS[request.param]
    if program.path is None:
        pytest.skip(f"{program.command} is not installed")
    recorder = endpoint(default=respond(response(b"recorded", status="299 Recorded")))
    with program.behind(recorder.port, tmp_path) as port:
        lb = balancer(make_endpoint("127.0.0.1", port), abort_on_client_fin=False, endpoint_wait=0.0)
        lb.expected_errors = ["endpoint 127.0.0.1"]
        yield Chain(lb, recorder)


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
    left = iter(read)
    if not all(request in left for request in seen):
        return f"podlb read {read}, and {seen} arrived; answered: {answers!r}"
    finals = [found for found in _STATUS.finditer(answers) if not found[1].startswith(b"1")]
    ours = sum(b"Proxy-Status: podlb" in found[2] for found in finals)
    recorded = sum(found[1] == b"299" for found in finals)
    between = len(finals) - ours - recorded
    if recorded != len(seen):
        return f"{len(seen)} requests arrived, and {recorded} of their responses came back: {answers!r}"
    if recorded + between < len(read) and not ours:
        return f"podlb read {read}, and only {recorded + between} were answered: {answers!r}"
    return None


@pytest.mark.one_variant
@pytest.mark.parametrize("seconds", DURATIONS)
def test_one_and_the_same_sequence(seconds: float, chain: Chain) -> None:
    run = Run(seconds / 2, "forwarding")
    for number, random in run.inputs():
        streams = Streams(random, tag=b"n%d" % number)
        data = streams.requests()
        if problem(chain, data):
            run.fail(data, lambda smaller: problem(chain, smaller), streams.applied, tries=300)
        run.counts["arrived"] += len(chain.recorder.requests)
    run.report()
    assert run.counts["arrived"] > run.counts["inputs"] // 4
