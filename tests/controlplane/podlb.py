"""podlb as a process of its own that follows a Service, seen from outside: its admin port, its log, its exit code."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.controlplane.apiserver import TOKEN
from tests.controlplane.objects import SERVICE
from tests.controlplane.plane import Plane
from tests.fakes import DEADLINE, Client, Message, eventually, free_port, request
from tests.integration.processes import PythonProcess

START_SECONDS = 15.0
"""For a start on a machine that is busy: the Kubernetes client takes half a second of CPU time to import."""


class Podlb(PythonProcess):
    """`python -m lb run` with Kubernetes discovery. It may be unable to start, which is for the test to see."""

    def __init__(
        self,
        kubeconfig: Path | None,
        namespace: str | None = None,
        *flags: str,
        service: str = SERVICE,
        module: str = "lb",
        **variables: str,
    ) -> None:
        self.admin_port = free_port()
        flags = (
            "run",
            "--discovery=kubernetes",
            "--host=127.0.0.1",
            "--port=0",
            f"--admin-port={self.admin_port}",
            f"--backend-service-name={service}",
            "--max-connections=100",
            *flags,
        )
        if kubeconfig is not None:
            flags += (f"--kubeconfig={kubeconfig}",)
        if namespace is not None:
            flags += (f"--namespace={namespace}",)
        # Nobody's own cluster may be meant by mistake.
        settings = {"HOME": "/nonexistent", "KUBECONFIG": "", "KUBERNETES_SERVICE_HOST": "", "POD_NAMESPACE": ""}
        self._clients: list[Client] = []
        super().__init__(module, *flags, environment=settings | variables)

    def __exit__(self, *error: object) -> None:
        for client in self._clients:
            client.close()
        super().__exit__(*error)
        assert not any(TOKEN in line for line in (*self.lines, *self.errors)), "the token is in the log"

    # Its pages

    def page(self, path: str) -> Message | None:
        """Return what the admin port answers, or None as long as it does not listen."""
        try:
            client = Client(self.admin_port)
        except ConnectionRefusedError:
            assert self.process.poll() is None, (self.lines, self.errors)
            return None
        try:
            return client.exchange(request("GET", path, "Connection: close", host="localhost"))
        finally:
            client.close()

    def is_ready(self) -> bool:
        answer = self.page("/readyz")
        return answer is not None and answer.status == 200

    def rows(self) -> list[dict[str, Any]]:
        answer = self.page("/endpoints")
        assert answer is not None
        rows: list[dict[str, Any]] = json.loads(answer.body)["endpoints"]
        return rows

    def rotation(self) -> set[str]:
        """Return the addresses and ports of those that requests may go to."""
        return {row["endpoint"] for row in self.rows() if row["state"] != "not ready"}

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric of discovery; zero when it is not there."""
        answer = self.page("/metrics")
        assert answer is not None
        wanted = ",".join(f'{key}="{value}"' for key, value in labels.items())
        pattern = rf"(?m)^podlb_discovery_{name}{re.escape(f'{{{wanted}}}' if wanted else '')} (\S+)$"
        found = re.search(pattern, answer.body.decode())
        return float(found[1]) if found else 0.0

    def restarts(self) -> dict[str, int]:
        """Return how often a watch began anew, by reason."""
        answer = self.page("/metrics")
        assert answer is not None
        pattern = r'(?m)^podlb_discovery_watch_restarts_total\{reason="(\w+)"\} (\S+)$'
        return {reason: int(float(count)) for reason, count in re.findall(pattern, answer.body.decode())}

    # What becomes of it

    def wait_until_ready(self, seconds: float = START_SECONDS) -> None:
        """Wait until it has a complete list, and listens."""
        eventually(self.is_ready, "readiness", seconds=seconds)
        eventually(lambda: self.find(r"listening on"), "the listener")

    def wait_for_rotation(self, addresses: Iterable[str], seconds: float = DEADLINE) -> None:
        """Wait until these, at port 8080 unless they say another, are in rotation, and no other."""
        expected = {address if ":" in address else f"{address}:8080" for address in addresses}
        eventually(lambda: self.rotation() == expected, f"{expected} in rotation", seconds=seconds)

    def client(self) -> Client:
        """Return a client connection to the balancer, which is closed at the end."""
        client = Client(int(self.wait_for(r"listening on 127\.0\.0\.1:([0-9]+)$")[1]))
        self._clients.append(client)
        return client

    def logged(self, pattern: str) -> list[str]:
        """Return the lines of the log that match."""
        return [line for line in self.lines if re.search(pattern, line)]

    def wait_for_line(self, pattern: str, seconds: float = DEADLINE) -> str:
        """Wait for a line of the log that matches, and return it. (Its effect may be seen before it is.)"""
        self.wait_for_lines(pattern, 1, seconds)
        return self.logged(pattern)[0]

    def wait_for_lines(self, pattern: str, count: int, seconds: float = DEADLINE) -> None:
        """Wait for so many lines of the log that match, at least."""
        eventually(lambda: len(self.logged(pattern)) >= count, f"the line {pattern!r}", seconds=seconds)

    def stop_in_time(self) -> None:
        """Ask it to stop, as Kubernetes does; nothing is open, so it has a second."""
        asked = time.monotonic()
        self.signal(signal.SIGTERM)
        assert self.wait() == 0, (self.lines, self.errors)
        took = time.monotonic() - asked
        assert took < 1.0, f"it took {took:.2f} s: {self.lines[-5:]}"
        assert self.errors == []

    def failure(self, seconds: float) -> str:
        """Wait for the exit of one that can't start; return its one line.

        `seconds` are what it has from when its ports are open: before that, a busy machine may take its time.
        """
        eventually(lambda: self.find("admin port on") or self.errors, "the admin port", seconds=START_SECONDS)
        began = time.monotonic()
        assert self.wait(START_SECONDS) == 1, (self.lines, self.errors)
        took = time.monotonic() - began
        assert took < seconds, f"it took {took:.2f} s"
        (line,) = self.errors
        assert line.startswith("podlb: "), line
        return line


def follow(plane: Plane, folder: Path, *flags: str, service: str = SERVICE) -> Podlb:
    """Start podlb with the credentials that it has on `plane`."""
    return Podlb(plane.kubeconfig(folder / "kubeconfig"), plane.namespace, *flags, service=service)
