"""Runs the demo server as a process of its own, and talks to it over real sockets."""

from __future__ import annotations

import http.client
import json
import re
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from types import TracebackType

DEADLINE = 5.0
"""Seconds after which something that should have happened has failed."""


class DemoServer:
    """`python -m backend` on a free port of the loopback address; killed at the end if it is still there."""

    def __init__(self, *flags: str, environment: dict[str, str] | None = None, fd_limit: int | None = None) -> None:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (fd_limit, fd_limit))

        self.process = subprocess.Popen(
            [sys.executable, "-m", "backend", "--host", "127.0.0.1", "--port", "0", *flags],
            stdout=subprocess.PIPE,
            env=environment,
            preexec_fn=None if fd_limit is None else limit,
            text=True,
        )
        match = re.search(r"listening on 127\.0\.0\.1:([0-9]+)$", self.read_line())
        assert match is not None
        self.port = int(match[1])

    def __enter__(self) -> DemoServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def read_line(self) -> str:
        """Return the next log line, as soon as it is there."""
        return self.process.stdout.readline().rstrip("\n")

    def read_rest(self) -> str:
        """Return what is logged until the process ends."""
        return self.process.stdout.read()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal and wait until the process acts on it, which it logs."""
        self.process.send_signal(number)
        assert number.name in self.read_line()

    def wait(self) -> int:
        """Return the exit code when the process has ended."""
        return self.process.wait(DEADLINE)

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), DEADLINE)

    def http(self) -> http.client.HTTPConnection:
        """Return a client for it that keeps its connection alive."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)

    def request(self, method: str, target: str, body: object = None) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Make one request on a connection of its own. A dict is sent as JSON. Returns status, fields and body."""
        client = self.http()
        try:
            client.request(method, target, json.dumps(body) if isinstance(body, dict) else body)
            response = client.getresponse()
            return response.status, response.headers, response.read()
        finally:
            client.close()

    def get(self, target: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Make one GET request; see `request`."""
        return self.request("GET", target)

    def exchange(self, data: bytes) -> bytes:
        """Send these bytes and our FIN, and return everything that comes back until the end."""
        with self.connect() as client:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            return read_to_end(client)

    def peak_memory(self) -> int:
        """Return the most bytes that were resident so far; without /proc, those that are resident now."""
        try:
            with open(f"/proc/{self.process.pid}/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) * 1024
        except FileNotFoundError:
            shown = subprocess.run(
                ["ps", "-o", "rss=", "-p", str(self.process.pid)], check=True, capture_output=True, text=True
            )
            return int(shown.stdout) * 1024


def read_to_end(client: socket.socket) -> bytes:
    """Return everything up to the peer's FIN."""
    received = bytearray()
    while data := client.recv(65536):
        received += data
    return bytes(received)


def eventually(condition: Callable[[], bool]) -> None:
    """Return as soon as `condition` holds; fail if it does not within the deadline."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
