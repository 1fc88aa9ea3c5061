"""The clients of the idle scenario: connections that each made one request and then stay.

`python -m bench.idle_client PORT COUNT` prints `held COUNT` once every connection had its answer, waits for the end of
its standard input, and prints `lost N`: how many the server did not keep, or wrote to uncalled. What goes wrong before
that is one line and status 1.
"""

from __future__ import annotations

import contextlib
import re
import resource
import select
import socket
import struct
import sys
import time

from bench.proc import HOST

_ANSWER_TIMEOUT = 5.0
_ALL_ANSWERS_TIMEOUT = 60.0
_REQUEST = f"GET / HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
_LAST_MOMENT_MS = 100  # for an end that is under way
_CONTENT_LENGTH = re.compile(rb"^content-length: *(\d+)\r$", re.IGNORECASE | re.MULTILINE)
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)
_SPARE_FILES = 64


class AnswerError(Exception):
    """A connection did not get its answer; the text says what came instead."""


def raise_file_limit(count: int) -> None:
    """Let this process have so many connections open. OSError or ValueError when the system does not permit it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = count + _SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _answer_length(head: bytes) -> int:
    length = _CONTENT_LENGTH.search(head)
    if not head.startswith(b"HTTP/1.1 200 ") or length is None:
        raise AnswerError(f"the answer began with {head[:60]!r}")
    return len(head) + int(length[1])


def _read_answer(connection: socket.socket) -> None:
    received, needed = b"", 0
    while not needed or len(received) < needed:
        data = connection.recv(65536)
        if not data:
            raise AnswerError("it was closed before the answer was whole")
        received += data
        head, end, _ = received.partition(b"\r\n\r\n")
        if end:
            needed = _answer_length(head + end)


def open_connection(port: int) -> socket.socket:
    """A connection that had one answer. OSError or AnswerError when it had none."""
    connection = socket.create_connection((HOST, port), _ANSWER_TIMEOUT)
    # Thousands of addresses in TIME_WAIT would stand in the way of the next contender's.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    try:
        connection.sendall(_REQUEST)
        _read_answer(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def count_lost(connections: list[socket.socket]) -> int:
    """How many have something to read now: an end, a reset, or bytes nobody asked for."""
    poll = select.poll()
    for connection in connections:
        poll.register(connection, select.POLLIN)
    return len(poll.poll(_LAST_MOMENT_MS))


def main(port: int, count: int) -> str | None:
    """Hold the connections until standard input ends; returns what went wrong."""
    deadline = time.monotonic() + _ALL_ANSWERS_TIMEOUT
    with contextlib.ExitStack() as stack:
        connections: list[socket.socket] = []
        try:
            raise_file_limit(count)
            while len(connections) < count:
                if time.monotonic() > deadline:
                    raise AnswerError(f"still not asked for after {_ALL_ANSWERS_TIMEOUT:g} s")
                connections.append(stack.enter_context(open_connection(port)))
        except (OSError, ValueError, AnswerError) as error:
            return f"connection {len(connections) + 1} of {count}: {error}"
        print(f"held {count}", flush=True)
        sys.stdin.read()
        print(f"lost {count_lost(connections)}", flush=True)
    return None


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
