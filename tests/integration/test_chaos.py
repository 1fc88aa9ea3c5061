"""Everything at random: whatever endpoints and clients do to each other, the books of the balancer are right.

Each exchange ends exactly once, no callback raises, nothing stays open, and no request that is not idempotent is
delivered twice: the harness and the endpoints see to that. A seed gives the same choices again, not the same timing.
"""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from contextlib import suppress

import pytest

from tests.fakes import Client, Message, TruncatedError, chunked, eventually, pieces, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection, Endpoint, response

CLIENTS = 12
ROUNDS = 20
SEEDS = [int(seed) for seed in os.environ.get("CHAOS_SEEDS", "1,2").split(",")]


class Answers:
    """What endpoints do, at random."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lock = threading.Lock()

    def __call__(self, connection: Connection, message: Message) -> None:
        with self._lock:
            dice = self._random.random()
            size = self._random.choice([0, 10, 5000, 300_000])
        body = b"x" * size
        head = b"HTTP/1.1 200 OK\r\n"
        if dice < 0.35:
            connection.send(response(body))
        elif dice < 0.5:
            connection.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + chunked(*pieces(body, 9999)))
        elif dice < 0.56:
            connection.send(b"HTTP/1.1 103 X\r\n\r\n", response(body))
        elif dice < 0.62:
            connection.send(head + b"\r\n" + body)
            connection.close()
        elif dice < 0.7:
            connection.close()
        elif dice < 0.78:
            connection.reset()
        elif dice < 0.84:
            connection.send(head + b"Content-Length: 100\r\n\r\nabc")
            connection.reset()
        elif dice < 0.9:
            connection.send(response(body), b"unasked for")
        elif dice < 0.95:
            connection.send(b"nonsense\r\n\r\n")
        else:
            connection.send(response(body, "Connection: close"))
            connection.close()


class Visitor:
    """One client that does this and that, at random."""

    def __init__(self, seed: int, number: int) -> None:
        self._random = random.Random(f"{seed} {number}")
        self._name = f"{number}"
        self._count = 0

    def visit(self, client: Client) -> None:
        """Use a connection until it ends."""
        choose = self._random.choice
        for _ in range(self._random.randrange(1, 5)):
            raws = [self._request() for _ in range(self._random.randrange(1, 4))]
            data = b"".join(raw for raw, _ in raws)
            if choose([False, False, True]):
                client.send(*pieces(data, choose([1, 7, 1000])) if len(data) < 5000 else [data])
            else:
                client.send(data)
            behaviour = self._random.random()
            if behaviour < 0.1:
                client.reset()
                return
            if behaviour < 0.2:
                client.fin()
            elif behaviour < 0.25:
                return
            for _, method in raws:
                message = client.read_response(method)
                if message.get(b"connection") == b"close":
                    return

    def _request(self) -> tuple[bytes, str]:
        self._count += 1
        method = self._random.choice(["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "BAD"])
        identity = f"X-Request-Id: {self._name}-{self._count}"
        if method == "BAD":
            return request("GET", "/", "A : b"), "GET"
        if method not in ("POST", "PUT"):
            return request(method, "/", identity), method
        body = b"y" * self._random.choice([0, 1, 1000, 200_000])
        if self._random.random() < 0.5:
            return request(method, "/", identity, body=body), method
        return request(method, "/", identity, "Transfer-Encoding: chunked") + chunked(*pieces(body, 30_000)), method


def delivered(endpoints: list[Endpoint], method: bytes) -> Counter[bytes | None]:
    return Counter(m.get(b"x-request-id") for e in endpoints for m in e.heads if m.method == method)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_books_are_right(seed: int, quick_set_aside: float, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    endpoints = [endpoint(default=Answers(seed * 10 + number)) for number in range(3)]
    lb = balancer(
        *endpoints,
        endpoint_wait=1.0,
        body_idle_timeout=2.0,
        response_timeout=2.0,
        abort_on_client_fin=bool(seed % 2),
        retry_body_limit=65536 if seed % 3 else 100,
        max_connections=10_000 if seed % 4 else 5,
    )
    stop = threading.Event()

    def disturb() -> None:
        """Take endpoints down and bring them up, and change the snapshot."""
        dice = random.Random(seed)
        while not stop.wait(0.03):
            victim = dice.choice(endpoints)
            if dice.random() < 0.5:
                victim.stop_listening()
                stop.wait(0.03)
                victim.up()
            else:
                lb.publish(*[e.value for e in endpoints if e is not victim])
                stop.wait(0.02)
                lb.publish(*[e.value for e in endpoints])

    stuck: list[str] = []

    def visits(number: int) -> None:
        visitor = Visitor(seed, number)
        for turn in range(ROUNDS):
            client = Client(lb.port)
            try:
                with suppress(ConnectionError, TruncatedError):
                    visitor.visit(client)
            except TimeoutError:  # every time-out of the balancer is shorter
                stuck.append(f"client {number}, connection {turn}")
            client.close()

    threads = [threading.Thread(target=visits, args=(number,)) for number in range(CLIENTS)]
    disturbance = threading.Thread(target=disturb)
    for thread in (*threads, disturbance):
        thread.start()
    for thread in threads:
        thread.join(9)
        assert not thread.is_alive()
    stop.set()
    disturbance.join()
    assert stuck == []
    lb.wait_until_idle()
    eventually(
        lambda: sum(e.open_connections for e in endpoints) == sum(lb.idle(e.value) for e in endpoints),
        "the end of all connections to endpoints but those that idle",
    )
    assert max(delivered(endpoints, b"POST").values()) == 1
    ends = lb.ends()
    assert ends["ok"] > 20
    assert sum(ends.values()) >= CLIENTS * ROUNDS // 2
