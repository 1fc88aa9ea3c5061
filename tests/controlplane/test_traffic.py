"""Requests while the endpoints of a Service change, from the slice to the connection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.controlplane.apiserver import ApiServer
from tests.controlplane.objects import Object, endpoint_slice, not_ready, port, ready, terminating
from tests.controlplane.plane import FakePlane
from tests.controlplane.podlb import Podlb, follow
from tests.fakes import DEADLINE, Message, eventually
from tests.integration.endpoint import Connection, Endpoint, response

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

CLOSE_SECONDS = 0.1
MakePod = Callable[..., Endpoint]


@pytest.fixture
def pod() -> Iterator[MakePod]:
    """Make endpoints that answer with their names; they stop after podlb has."""
    with ExitStack() as stack:
        yield lambda *actions, **options: stack.enter_context(Endpoint(*actions, **options))


def put(apiserver: ApiServer, *made: tuple[Endpoint, Object]) -> None:
    """Replace the slices by one for each pod, whose port is its own."""
    wanted = {pod.name: endpoint_slice(pod.name, [state], [port(pod.port)]) for pod, state in made}
    for name in {key[2] for key in apiserver.store.backup().objects} - wanted.keys():
        apiserver.delete("podlb", name)
    apiserver.put("podlb", *wanted.values())


def as_ready(pod: Endpoint) -> tuple[Endpoint, Object]:
    return pod, ready("127.0.0.1", pod=pod.name)


def start(apiserver: ApiServer, folder: Path, *flags: str) -> Podlb:
    return follow(FakePlane(apiserver), folder, "--backend-port=http", "--upstream-idle-timeout=600", *flags)


class Slow:
    """Answers when it is told to."""

    def __init__(self) -> None:
        self.goes_on = threading.Event()

    def __call__(self, connection: Connection, message: Message) -> None:
        assert self.goes_on.wait(DEADLINE)
        connection.send(response(b"late"))


def test_an_endpoint_that_goes_gets_no_new_request_and_finishes_what_it_has(
    apiserver: ApiServer, tmp_path: Path, pod: MakePod
) -> None:
    slow = Slow()
    leaving, staying = pod(slow, name="leaving"), pod(name="staying")
    put(apiserver, as_ready(leaving))
    with start(apiserver, tmp_path) as podlb:
        podlb.wait_until_ready()
        busy, other = podlb.client(), podlb.client()
        busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        leaving.wait_for_requests(1)
        assert other.get().body == b"leaving"
        # One connection is in use, the other idle.
        assert len(leaving.connections) == 2
        put(apiserver, as_ready(staying))
        changed = time.monotonic()
        assert leaving.wait_for_end(1) == "fin"
        assert time.monotonic() - changed < CLOSE_SECONDS
        assert {other.get().body for _ in range(10)} == {b"staying"}
        slow.goes_on.set()
        assert busy.read_response().body == b"late"
        assert leaving.wait_for_end(0) == "fin"
        assert len(leaving.requests) == 2


def test_a_new_pod_at_the_address_of_an_old_one_gets_connections_of_its_own(
    apiserver: ApiServer, tmp_path: Path, pod: MakePod
) -> None:
    first = pod(name="first")
    put(apiserver, as_ready(first))
    with start(apiserver, tmp_path) as podlb:
        podlb.wait_until_ready()
        client = podlb.client()
        assert client.get().status == 200
        put(apiserver, (first, ready("127.0.0.1", pod="second")))
        assert first.wait_for_end(0) == "fin"
        podlb.wait_for_line(r"endpoint added: pod second at")
        podlb.wait_for_line(r"endpoint deleted: pod first at")
        assert client.get().status == 200
        assert len(first.connections) == 2


def test_while_one_is_ready_those_that_terminate_get_nothing_and_then_all(
    apiserver: ApiServer, tmp_path: Path, pod: MakePod
) -> None:
    going, here = pod(name="going"), pod(name="here")
    put(apiserver, (going, terminating("127.0.0.1", pod="going")), as_ready(here))
    with start(apiserver, tmp_path) as podlb:
        podlb.wait_until_ready()
        client = podlb.client()
        assert {client.get().body for _ in range(10)} == {b"here"}
        put(apiserver, (going, terminating("127.0.0.1", pod="going")))
        podlb.wait_for_rotation([f"127.0.0.1:{going.port}"])
        assert {client.get().body for _ in range(10)} == {b"going"}


def test_a_request_that_waits_is_served_as_soon_as_a_pod_is_ready(
    apiserver: ApiServer, tmp_path: Path, pod: MakePod
) -> None:
    late = pod(name="late")
    put(apiserver, (late, not_ready("127.0.0.1", pod="late")))
    with start(apiserver, tmp_path, "--endpoint-wait=8") as podlb:
        podlb.wait_until_ready()
        client = podlb.client()
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        # It was not ready before, so it is not to be used now: the request waits.
        eventually(lambda: b"podlb_waiting 1" in _metrics(podlb), "the waiting request")
        assert late.connections == []
        put(apiserver, as_ready(late))
        began = time.monotonic()
        assert client.read_response().body == b"late"
        assert time.monotonic() - began < 0.2


def _metrics(podlb: Podlb) -> bytes:
    answer = podlb.page("/metrics")
    assert answer is not None
    return answer.body


def all_unready(apiserver: ApiServer, *pods: Endpoint) -> None:
    """What the slices say when the kubelet is dead: every condition false."""
    put(apiserver, *((pod, not_ready("127.0.0.1", pod=pod.name)) for pod in pods))


def test_when_none_is_ready_any_more_those_that_were_and_answer_are_used(
    apiserver: ApiServer, tmp_path: Path, pod: MakePod
) -> None:
    alive, dead, never = pod(name="alive"), pod(name="dead"), pod(name="never")
    put(apiserver, as_ready(alive), as_ready(dead), (never, not_ready("127.0.0.1", pod="never")))
    with start(apiserver, tmp_path) as podlb:
        podlb.wait_until_ready()
        client = podlb.client()
        assert {client.get().body for _ in range(10)} == {b"alive", b"dead"}
        assert podlb.metric("panic") == 0
        dead.down()
        all_unready(apiserver, alive, dead, never)
        eventually(lambda: podlb.metric("panic") == 1, "panic")
        assert {client.get().body for _ in range(10)} == {b"alive"}
        assert never.connections == []
        warning = podlb.wait_for_line(r"\[WARN\].*ready")
        assert podlb.logged(r"\[WARN\].*ready") == [warning]
        put(apiserver, as_ready(never))
        eventually(lambda: podlb.metric("panic") == 0, "the end of panic")
        assert {client.get().body for _ in range(10)} == {b"never"}


def test_without_panic_what_is_not_ready_is_not_used(apiserver: ApiServer, tmp_path: Path, pod: MakePod) -> None:
    alive = pod(name="alive")
    put(apiserver, as_ready(alive))
    with start(apiserver, tmp_path, "--panic=false", "--endpoint-wait=0") as podlb:
        podlb.wait_until_ready()
        client = podlb.client()
        assert client.get().status == 200
        all_unready(apiserver, alive)
        podlb.wait_for_rotation([])
        assert client.get().status == 503
        assert podlb.metric("panic") == 0


def test_a_scale_down_to_nothing_is_no_reason_to_panic(apiserver: ApiServer, tmp_path: Path, pod: MakePod) -> None:
    alive = pod(name="alive")
    put(apiserver, as_ready(alive))
    with start(apiserver, tmp_path, "--endpoint-wait=0") as podlb:
        podlb.wait_until_ready()
        client = podlb.client()
        assert client.get().status == 200
        put(apiserver)
        podlb.wait_for_rotation([])
        assert client.get().status == 503
        assert podlb.metric("panic") == 0
