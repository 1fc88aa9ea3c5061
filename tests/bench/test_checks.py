from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from bench.backend import BULK_BODY, MEDIUM_BODY
from bench.checks import require_chunked_body, require_every_endpoint, require_whole_body
from bench.proc import BenchError, free_ports


def with_length(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


@contextlib.contextmanager
def answering(answers: Iterator[bytes] | list[bytes]) -> Iterator[int]:
    """The port of a server that gives one connection these answers, one for each request, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(ConnectionError):
                for answer in answers:
                    if not connection.recv(65536):
                        return
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            thread.join()


def test_the_backends_body_passes() -> None:
    with answering([with_length(BULK_BODY)]) as port:
        require_whole_body("it", port)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (with_length(BULK_BODY)[:-1], "no whole body.*IncompleteRead"),
        (with_length(BULK_BODY[:-1] + b"?"), "not the 1048576"),
        (with_length(b"", b"503 No"), "status 503 and 0 bytes"),
        (b"", "no whole body.*RemoteDisconnected"),
    ],
    ids=["truncated", "another byte", "refused", "closed"],
)
def test_another_body_than_the_backends_is_refused(answer: bytes, complaint: str) -> None:
    with answering([answer]) as port, pytest.raises(BenchError, match=complaint):
        require_whole_body("it", port)


def test_nobody_there_is_named() -> None:
    with pytest.raises(BenchError, match="it delivered no whole body on GET /1MiB: ConnectionRefusedError"):
        require_whole_body("it", free_ports(1)[0])


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n"


def test_a_body_in_chunks_passes() -> None:
    with answering([CHUNKED % (len(MEDIUM_BODY), MEDIUM_BODY)]) as port:
        require_chunked_body("it", port)


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (with_length(MEDIUM_BODY), "it answered GET /64KiB-chunked with the right body, but not in chunks"),
        (CHUNKED % (len(MEDIUM_BODY) - 1, MEDIUM_BODY[:-1]), "65535 bytes that are not the 65536"),
    ],
    ids=["announced", "short"],
)
def test_a_body_that_is_not_in_chunks_or_not_whole_is_refused(answer: bytes, complaint: str) -> None:
    with answering([answer]) as port, pytest.raises(BenchError, match=complaint):
        require_chunked_body("it", port)


def test_every_endpoint_has_to_answer() -> None:
    # One of them is asked only in the second round.
    order = [1, 2, 2, 1, 3]
    with answering([with_length(b"127.1.0.%d" % number) for number in order]) as port:
        require_every_endpoint("it", port, endpoints=3)
    with (
        answering([with_length(b"127.1.0.%d" % number) for number in (1, 2, 2, 1, 2, 1)]) as port,
        pytest.raises(BenchError, match="it sent 6 requests to 2 of 3 endpoints"),
    ):
        require_every_endpoint("it", port, endpoints=3)
