"""The API server of the tests as a program of its own, for measurements: its work must not be counted as podlb's.

Its arguments are where to write a kubeconfig, and how many endpoints a slice has. Then it obeys lines on stdin, and
answers each with a line when that is done: `update` replaces every endpoint of every slice; `events N` changes one
slice after the other, N times; `reconnect N` ends or cuts the watch, N times, and waits for the next one each time.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Self

from tests.controlplane.apiserver import ApiServer
from tests.controlplane.objects import Object, endpoint_slice, ready
from tests.fakes import eventually
from tests.integration.processes import ROOT

NAMESPACE = "podlb"
SLICES, ENDPOINTS_EACH = 20, 100
_BURST = 200
"""Events between two looks at how far the watch is."""


def filled_slice(number: int, generation: int, count: int = ENDPOINTS_EACH) -> Object:
    """Return slice `number`, with `count` endpoints that no other generation has."""
    return endpoint_slice(
        f"backend-service-{number:02}",
        [
            ready(
                f"10.{generation % 250}.{number}.{at + 1}",
                pod=f"backend-7d9f8c6b54-{generation:05}-{number:02}-{at:03}",
                uid=f"{generation:08x}-{number:04x}-4000-8000-{at:012x}",
            )
            for at in range(count)
        ],
    )


class Feeder:
    """The program, seen from the test."""

    def __init__(self, kubeconfig: Path, endpoints_each: int = ENDPOINTS_EACH) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.controlplane.feeder", str(kubeconfig), str(endpoints_each)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the API server has ended"
        return line.strip()

    def ask(self, order: str) -> str:
        """Give an order, and return the answer when it is carried out."""
        assert self._process.stdin is not None
        print(order, file=self._process.stdin, flush=True)
        return self._read()


class Service:
    """What the API server holds of podlb's Service."""

    def __init__(self, server: ApiServer, endpoints_each: int) -> None:
        self._server = server
        self._endpoints_each = endpoints_each
        self.generation = 0

    def put(self, number: int) -> None:
        """Give slice `number` the endpoints of this generation."""
        self._server.put(NAMESPACE, filled_slice(number, self.generation, self._endpoints_each))

    def update(self) -> None:
        """Replace everything, in one go."""
        slices = [filled_slice(number, self.generation, self._endpoints_each) for number in range(SLICES)]
        self._server.put(NAMESPACE, *slices)

    def events(self, count: int) -> None:
        """Change one slice after the other, so many times in all."""
        for number in range(count):
            if number % SLICES == 0:
                self.generation += 1
            self.put(number % SLICES)
            if number % _BURST == _BURST - 1:
                self._wait_for_watch()
        self._wait_for_watch()

    def _wait_for_watch(self) -> None:
        server = self._server
        eventually(lambda: server.open_watch().version == server.store.version, "the watch's progress", seconds=60.0)
        # Everybody has been told.
        server.store.drop_events()

    def reconnect(self, count: int) -> None:
        """End the watch, in order and otherwise, and wait for the next."""
        server = self._server
        for number in range(count):
            watch = server.open_watch(seconds=60.0)
            server.requests.clear()
            if number % 3:
                watch.cut(reset=number % 3 == 1)
            else:
                watch.end()
            server.wait_for("watch", seconds=60.0)
            eventually(lambda: watch not in server.watches, "the end of the watch")  # noqa: B023


def main() -> None:
    """Serve until stdin ends."""
    with ApiServer() as server:
        service = Service(server, int(sys.argv[2]))
        service.update()
        server.kubeconfig(Path(sys.argv[1]), NAMESPACE)
        print("ready", flush=True)
        for line in sys.stdin:
            order, _, count = line.strip().partition(" ")
            if order == "update":
                service.generation += 1
                service.update()
            elif order == "events":
                service.events(int(count))
            elif order == "reconnect":
                service.reconnect(int(count))
            print(service.generation, flush=True)


if __name__ == "__main__":
    main()
