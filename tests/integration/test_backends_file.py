"""`backendsFile` is read again when it changes, and at SIGHUP; a broken file changes nothing."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from lb.discovery.file import FileSource
from tests.fakes import eventually
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import Endpoint
from tests.integration.processes import LoadBalancer

pytestmark = pytest.mark.any_parser


def write(path: Path, *endpoints: Endpoint) -> None:
    """Replace the file in one step."""
    new = path.with_suffix(".new")
    new.write_text(json.dumps([e.value.authority for e in endpoints]))
    new.rename(path)


@pytest.mark.one_variant
def test_a_process_follows_its_file(tmp_path: Path, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(name="a"), endpoint(name="b")
    path = tmp_path / "backends.json"
    write(path, a)
    with LoadBalancer(f"--backends-file={path}", "--max-connections=100", "--upstream-idle-timeout=600") as lb:
        client = lb.client()
        assert {client.get().body for _ in range(4)} == {b"a"}
        write(path, b)
        eventually(lambda: client.get().body == b"b", "the change")
        assert {client.get().body for _ in range(4)} == {b"b"}
        assert a.wait_for_end(0) == "fin"
        path.write_text("{broken")
        lb.wait_for(r"\[ERROR\].*backends\.json")
        assert {client.get().body for _ in range(4)} == {b"b"}
        write(path, a, b)
        lb.signal(signal.SIGHUP)
        eventually(lambda: client.get().body == b"a", "the change")
        assert {client.get().body for _ in range(4)} == {b"a", b"b"}
        client.close()
        lb.signal(signal.SIGTERM)
        assert lb.wait() == 0
        assert lb.errors == []


def test_it_is_read_again_when_asked_to(tmp_path: Path, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(name="a"), endpoint(name="b")
    path = tmp_path / "backends.json"
    write(path, a)
    # It never looks by itself: what follows comes of `reload` alone, which is what SIGHUP calls.
    lb = balancer(source=FileSource(str(path), 8080, poll_interval=3600.0))
    lb.expected_errors = [str(path)]
    client = lb.client()
    assert client.get().body == b"a"
    write(path, b)
    assert client.get().body == b"a"
    lb.call(lb.server.reload)
    eventually(lambda: client.get().body == b"b", "the change")

    path.write_text("[5]")
    lb.call(lb.server.reload)
    eventually(lambda: any("the last snapshot stays" in text for text in lb.warnings), "the complaint")
    assert client.get().body == b"b"

    path.unlink()
    lb.call(lb.server.reload)
    eventually(lambda: len([text for text in lb.warnings if "the last snapshot stays" in text]) == 2, "the complaint")
    assert client.get().body == b"b"

    write(path)
    lb.call(lb.server.reload)
    eventually(lambda: lb.service.snapshot == (), "the empty snapshot")
    client.send(b"GET /late HTTP/1.1\r\nHost: x\r\n\r\n")
    eventually(lambda: len(lb.service.waiting) == 1, "waiting")
    write(path, a)
    lb.call(lb.server.reload)
    assert client.read_response().body == b"a"


def test_it_looks_by_itself(tmp_path: Path, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(name="a"), endpoint(name="b")
    path = tmp_path / "backends.json"
    write(path, a)
    lb = balancer(source=FileSource(str(path), 8080, poll_interval=0.02))
    client = lb.client()
    for turn in range(6):
        now = (a, b)[turn % 2]
        write(path, now)
        eventually(lambda: client.get().body == now.name.encode(), "the change")  # noqa: B023
