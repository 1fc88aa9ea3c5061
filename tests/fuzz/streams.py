"""Streams of requests and of responses, as they are valid or made to deceive; each is known by its seed."""

from __future__ import annotations

from random import Random

from tests.fuzz.messages import CRLF, INTERIMS, Parts, request, response
from tests.fuzz.mutations import NASTY, REQUEST_MUTATIONS, RESPONSE_MUTATIONS, Mutation


class Streams:
    """Makes streams. `mutated` is how many of a hundred are bent."""

    def __init__(self, random: Random, *, tag: bytes = b"t", mutated: int = 65) -> None:
        self._random = random
        self._tag = tag
        """Stands in every target, so that a request is known again."""
        self._mutated = mutated
        self.applied: list[str] = []
        """How the last one was bent."""

    def requests(self) -> bytes:
        """Return a client's stream of one to four requests."""
        random = self._random
        messages = [request(random, b"%b-%d" % (self._tag, at)) for at in range(random.choice([1, 1, 2, 2, 3, 4]))]
        between = [random.choice([b"", b"", b"", b"", CRLF, CRLF + CRLF]) for _ in messages]
        return self._finish(messages, between, REQUEST_MUTATIONS)

    def responses(self) -> bytes:
        """Return an endpoint's stream of one to three final responses to GET, and 1xx before them."""
        random = self._random
        messages = [response(random) for _ in range(random.choice([1, 1, 2, 3]))]
        between = [b"".join(random.choice(INTERIMS) for _ in range(random.choice([0, 0, 0, 1, 2]))) for _ in messages]
        return self._finish(messages, between, RESPONSE_MUTATIONS)

    def _finish(self, messages: list[Parts], between: list[bytes], mutations: dict[str, Mutation]) -> bytes:
        random = self._random
        self.applied = []
        bends = random.choice([1, 1, 1, 2, 3]) if random.randrange(100) < self._mutated else 0
        in_bytes = 0
        for _ in range(bends):
            if random.randrange(4) == 0:
                in_bytes += 1
                continue
            name = random.choice(list(mutations))
            mutations[name](random, random.choice(messages))
            self.applied.append(name)
        data = b"".join(before + message.raw() for before, message in zip(between, messages, strict=True))
        for _ in range(in_bytes):
            data = self._bend_bytes(data)
        return data

    def _bend_bytes(self, data: bytes) -> bytes:
        random = self._random
        at = random.randint(0, len(data))
        what = random.choice(["insert", "insert", "replace", "replace", "delete", "cut", "repeat", "flip"])
        self.applied.append(f"{what} bytes")
        if what == "insert":
            return data[:at] + random.choice(NASTY) + data[at:]
        if what == "replace":
            return data[:at] + random.choice(NASTY) + data[at + 1 :]
        if what == "delete":
            return data[:at] + data[at + random.choice([1, 1, 2, 5]) :]
        if what == "cut":
            return data[:at]
        if what == "repeat":
            return data[:at] + data[max(0, at - random.choice([1, 2, 10, 40])) :]
        return data[:at] + bytes(byte ^ (1 << random.randrange(8)) for byte in data[at : at + 1]) + data[at + 1 :]
