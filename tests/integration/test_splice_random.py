"""Long and short bodies at random, at random paces, with ends at random: what arrives is right, and the books agree."""

from __future__ import annotations

import random
import threading
from contextlib import suppress

import pytest

from lb import metrics
from tests.eventloop.splicing import Splices
from tests.fakes import DEADLINE, Client, Message, TruncatedError, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Connection
from tests.integration.harness import Balancer, Variant
from tests.integration.long_bodies import assert_spliced, body_of, head_of

pytestmark = pytest.mark.any_parser

CLIENTS = 8
ROUNDS = 12
SIZES = [0, 1, 1000, 60_000, 65_536, 70_000, 131_072, 200_000, 1 << 20, 3 << 20]
BODIES = {size: body_of(size) for size in SIZES}


def send_at_random(sock: object, data: bytes, chance: random.Random) -> None:
    at = 0
    while at < len(data):
        size = chance.choice([1000, 50_000, 400_000, 4_000_000])
        sock.sendall(data[at : at + size])  # type: ignore[attr-defined]
        at += size


def answer(connection: Connection, message: Message) -> None:
    """Answer `/SIZE/SEED/HOW` with a body of that size, or end in its middle if HOW says so."""
    size, seed, how = message.target[1:].decode().split("/")
    chance = random.Random(int(seed))
    body = BODIES[int(size)]
    assert message.body == BODIES[len(message.body)]
    connection.send(head_of(len(body)))
    if how == "ok":
        send_at_random(connection.socket, body, chance)
    else:
        send_at_random(connection.socket, body[: len(body) // 2], chance)
        getattr(connection, how)()


class Asking:
    """A client that asks at random, on one connection as long as that lasts."""

    def __init__(self, lb: Balancer, chance: random.Random) -> None:
        self.lb = lb
        self.chance = chance
        self.complete = 0
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self) -> None:
        client = self.lb.client(seconds=3 * DEADLINE)
        try:
            for _ in range(ROUNDS):
                if not self.ask(client):
                    client.close()
                    client = self.lb.client(seconds=3 * DEADLINE)
        except BaseException as error:
            self.failure = error

    def ask(self, client: Client) -> bool:
        """Send one to three requests in one go, and read what comes. Returns whether the connection goes on."""
        chance = self.chance
        wanted = []
        raws = []
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            size = chance.choice(SIZES)
            how = chance.choice(["ok"] * 12 + ["reset", "close"]) if size else "ok"
            target = f"/{size}/{chance.randrange(1000)}/{how}"
            raws.append(request("PUT", target, body=BODIES[chance.choice(SIZES)]))
            wanted.append((size, how))
        leaves = chance.random() < 0.08
        data = b"".join(raws)
        sending = threading.Thread(target=self.send, args=(client, data[: len(data) // 2] if leaves else data))
        sending.start()
        try:
            for size, how in wanted:
                if leaves:
                    client.reset() if chance.random() < 0.5 else client.socket.shutdown(2)
                    return False
                try:
                    message = client.read_response("PUT")
                except (ConnectionError, TruncatedError):
                    # A reset can overtake the responses before it.
                    assert any(how != "ok" for _, how in wanted), "cut for nothing"
                    return False
                if message.status != 200:
                    assert how != "ok", message.body
                    return False
                assert how == "ok", "a truncated response looks like a whole one"
                assert message.body == BODIES[size]
                self.complete += 1
        finally:
            if not leaves:
                client.socket.settimeout(3 * DEADLINE)
            sending.join(3 * DEADLINE)
            assert not sending.is_alive()
        return True

    def send(self, client: Client, data: bytes) -> None:
        with suppress(OSError):
            send_at_random(client.socket, data, random.Random(len(data)))


@pytest.mark.timeout(40)
@pytest.mark.parametrize("seed", [1, *[pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 10)]])
def test_at_random(
    seed: int, variant: Variant, splices: Splices, balancer: MakeBalancer, endpoint: MakeEndpoint
) -> None:
    endpoints = [endpoint(default=answer) for _ in range(2)]
    lb = balancer(*endpoints)
    asking = [Asking(lb, random.Random(seed * 100 + number)) for number in range(CLIENTS)]
    for one in asking:
        one.thread.join(4 * DEADLINE)
        assert not one.thread.is_alive()
        if one.failure is not None:
            raise one.failure
    ends = lb.ends()
    assert set(ends) <= {"ok", "reset_in_body", "client_gone", "reset_before_head"}
    assert ends["ok"] >= sum(one.complete for one in asking) > CLIENTS * ROUNDS // 2
    assert lb.counter(metrics.EXCHANGES) == sum(ends.values())
    assert_spliced(splices, variant)
