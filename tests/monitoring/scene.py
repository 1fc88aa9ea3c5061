"""What Prometheus scrapes in these tests: three podlb processes, of which one has a bad day and one follows a Service.

A Prometheus takes five seconds until it scrapes for the first time, so all tests share one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.controlplane.apiserver import ApiServer
from tests.controlplane.objects import endpoint_slice, ready
from tests.controlplane.plane import FakePlane
from tests.controlplane.podlb import Podlb, follow
from tests.deploy.monitoring import document, write_rules
from tests.fakes import Client, Message, request
from tests.integration.endpoint import Connection, Endpoint, reset, respond, respond_and_close, response
from tests.integration.processes import LoadBalancer
from tests.monitoring.prometheus import Prometheus, Target

NAMESPACE = "podlb"
ROUNDS = 12
"""How often each kind of request is sent at a time."""

# It does not come in one piece.
LONG = response(b"x" * 500_000)


def labels(pod: str) -> dict[str, str]:
    """Return what the operator knows of a target: also the name of its port, as `endpoint`."""
    return {"namespace": NAMESPACE, "pod": pod, "endpoint": "probe"}


def relabelings() -> list[dict[str, object]]:
    """Return the ServiceMonitor's relabelings, of which it has none that Prometheus would write in another way."""
    (scraped,) = document("servicemonitor.yaml")["spec"]["endpoints"]
    assert all(rule.keys() <= {"action", "regex"} for rule in scraped["relabelings"])
    return list(scraped["relabelings"])


class Scene:
    """Three podlb processes and the Prometheus that scrapes them, with the rules of the overlay."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        enter = stack.enter_context
        self.quiet_endpoint = enter(Endpoint(name="quiet"))
        self.recorder = enter(Endpoint(default=respond(response(b"", "Content-Type: text/plain; version=0.0.4"))))
        """What Prometheus asks of this one tells what it asks of every target."""
        # The answers of one endpoint of the pod that has a bad day; another resets, a third is down.
        self._answers = [respond(LONG), respond_and_close(response()), respond(response(status="503 Busy"))]
        mixed = enter(Endpoint(default=self._answer))
        resetting = enter(Endpoint(default=reset))
        down = enter(Endpoint(is_up=False))
        followed = enter(Endpoint())
        self.apiserver = enter(ApiServer())
        self.slice = endpoint_slice("one", [ready(followed.host, pod="backend-1")])
        """The slice that one podlb follows."""
        self.apiserver.put("podlb", self.slice)
        self.quiet = enter(LoadBalancer(_backends(self.quiet_endpoint)))
        self.troubled = enter(LoadBalancer(_backends(mixed, resetting, down)))
        self.following: Podlb = enter(follow(FakePlane(self.apiserver), folder, f"--backend-port={followed.port}"))
        self.following.wait_until_ready()
        self.quiet_target = Target(self.quiet.probe_port, labels("lb-1"))
        self.troubled_target = Target(self.troubled.probe_port, labels("lb-2"))
        self.following_target = Target(self.following.admin_port, labels("lb-3"))
        self.podlb_targets = (self.quiet_target, self.troubled_target, self.following_target)
        self.prometheus = enter(
            Prometheus(
                folder,
                *self.podlb_targets,
                Target(self.recorder.port, {"job": "recorder"}),
                rule_files=[write_rules(folder)],
                relabelings=relabelings(),
            )
        )

    def wait_until_scraped(self) -> None:
        """Wait until what has happened until now is known to Prometheus."""
        for target in self.podlb_targets:
            self.prometheus.wait_until_scraped(target)

    def have_a_bad_day(self) -> None:
        """Let everything happen that a panel shows; twice, so that what was new the first time has a rate."""
        for _ in range(2):
            self.wait_until_scraped()
            for _ in range(ROUNDS):
                for port in (self.troubled.port, int(self.following.wait_for(r"listening on \S+:([0-9]+)$")[1])):
                    send(port, request())
            send(self.troubled.port, b"GET / HTTP/1.1\r\n\r\n")
            self.apiserver.open_watch().cut(reset=True)
            self.apiserver.open_watch()
        self.wait_until_scraped()

    def _answer(self, connection: Connection, message: Message) -> None:
        self._answers.append(answer := self._answers.pop(0))
        answer(connection, message)


def send(port: int, data: bytes) -> int:
    """Send a request on a connection of its own; return the status of what comes back."""
    client = Client(port)
    try:
        return client.exchange(data).status
    finally:
        client.close()


@contextmanager
def scene(folder: Path) -> Iterator[Scene]:
    """Set it up; Prometheus has scraped everything once by then."""
    with ExitStack() as stack:
        made = Scene(stack, folder)
        made.wait_until_scraped()
        yield made


def _backends(*endpoints: Endpoint) -> str:
    return "--backends=" + ",".join(f"{endpoint.host}:{endpoint.port}" for endpoint in endpoints)
