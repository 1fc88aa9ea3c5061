"""Backends are killed and started again under load: no GET fails, no socket errors, no POST is delivered twice."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.fakes import DEADLINE
from tests.integration.harness import Variant
from tests.integration.processes import Backend, LoadBalancer

KILLS = 21
PACE = 0.004
"""Seconds between two requests of a thread: a bounded load, of which something is always in flight."""


class Load:
    """Threads that send requests until they are told to stop, and what came of it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.gets: Counter[int] = Counter()
        self.posts: dict[str, int] = {}
        """Request id to status."""
        self.socket_errors: list[str] = []

    def start(self, target: Callable[[int], None], count: int) -> None:
        for number in range(count):
            thread = threading.Thread(target=target, args=(number,))
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(2 * DEADLINE)
            assert not thread.is_alive()

    def _connections(self, *, is_kept: bool) -> Iterator[http.client.HTTPConnection]:
        """Yield the connection for the next request, until it is time to stop."""
        connection = None
        while not self._stop.wait(PACE):
            if connection is None or not is_kept:
                if connection is not None:
                    connection.close()
                connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=2 * DEADLINE)
            yield connection
        if connection is not None:
            connection.close()

    def _request(self, connection: http.client.HTTPConnection, method: str, number: str) -> int:
        body = b"x" * 100 if method == "POST" else None
        try:
            connection.request(method, "/", body=body, headers={"X-Request-Id": number})
            response = connection.getresponse()
            response.read()
        except (OSError, http.client.HTTPException) as error:
            with self._lock:
                self.socket_errors.append(f"{method}: {error!r}")
            connection.close()
            return 0
        return response.status

    def get(self, number: int) -> None:
        """GETs: an even thread keeps its connection, an odd one makes one for each."""
        for count, connection in enumerate(self._connections(is_kept=number % 2 == 0)):
            status = self._request(connection, "GET", f"get-{number}-{count}")
            with self._lock:
                self.gets[status] += 1

    def post(self, number: int) -> None:
        """POSTs, each with an id of its own."""
        for count, connection in enumerate(self._connections(is_kept=number % 2 == 0)):
            request_id = f"post-{number}-{count}"
            status = self._request(connection, "POST", request_id)
            with self._lock:
                self.posts[request_id] = status


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.slow
@pytest.mark.one_variant
@pytest.mark.timeout(60)
def test_kill_and_restart_under_load(variant: Variant) -> None:
    with ExitStack() as stack:
        backends = [stack.enter_context(Backend("--log-requests")) for _ in range(3)]
        lines: list[str] = []
        names = ",".join(f"127.0.0.1:{backend.port}" for backend in backends)
        lb = LoadBalancer(
            f"--backends={names}",
            f"--loop={variant.loop}",
            f"--parser={variant.parser}",
            "--max-connections=200",
        )
        stack.enter_context(lb)
        load = Load(lb.port)
        load.start(load.get, 4)
        load.start(load.post, 3)
        try:
            for kill in range(KILLS):
                at = kill % 3
                victim = backends[at]
                victim.signal(signal.SIGKILL)
                assert victim.wait() == -signal.SIGKILL
                assert is_gone(victim.pid)
                lines += victim.lines
                # While it is away, requests go on.
                served = sum(load.gets.values())
                backends[at] = stack.enter_context(Backend("--log-requests", port=victim.port))
                assert sum(load.gets.values()) > served
        finally:
            load.stop()
        for backend in backends:
            backend.kill()
            lines += backend.lines

        assert load.socket_errors == []
        assert set(load.gets) == {200}, load.gets
        assert load.gets[200] > 500
        assert set(load.posts.values()) <= {200, 502}
        delivered = Counter(match[1] for line in lines if (match := re.search(r"request POST / id=(\S+)", line)))
        twice = {request_id: count for request_id, count in delivered.items() if count > 1}
        assert twice == {}
        answered = {request_id for request_id, status in load.posts.items() if status == 200}
        assert answered <= set(delivered), "what was answered was delivered"
        assert len(answered) > 500
        assert lb.errors == []
        assert lb.find(r"\[ERROR\]") is None
        lb.signal(signal.SIGTERM)
        assert lb.wait() == 0
