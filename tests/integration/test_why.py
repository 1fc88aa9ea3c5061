"""Why a request went as it did, asked of the admin port and by the command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.fakes import Message, free_port, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import close
from tests.integration.harness import Variant
from tests.integration.processes import ROOT, LoadBalancer
from tests.integration.test_admin import Ports


def story(ports: Ports, request_id: bytes) -> str:
    message = ports.admin(f"/why/{request_id.decode()}")
    assert message.status == 200
    return message.body.decode()


def id_of(message: Message) -> bytes:
    return str(json.loads(message.body)["requestId"]).encode()


def test_a_failure(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    one, two = endpoint(is_up=False), endpoint(is_up=False)
    ports = Ports(balancer, one.value, two.value, endpoint_wait=0)
    answer = ports.lb.client().get("/cart")
    found = story(ports, id_of(answer))
    assert "GET /cart: 503, connect_refused, after 0." in found
    for dead in (one, two):
        assert f"  {dead.value.authority}: refused\n" in found
        assert f"    {dead.value.authority} -: set aside (connect refused), " in found
    assert "endpoints then: 2 (2 set aside)" in found
    listed = ports.admin("/why").body.decode().splitlines()
    assert listed[0].startswith(id_of(answer).decode())
    assert len(listed) == 2


def test_one_that_went_well_at_the_second_try(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    bad, good = endpoint(default=close), endpoint()
    ports = Ports(balancer, bad, good)
    client = ports.lb.client()
    for _ in range(4):
        assert client.get().status == 200
    ports.lb.wait_until_idle()
    stories = [story(ports, seen.get(b"x-request-id") or b"") for seen in good.requests if is_known(ports, seen)]
    assert stories
    for found in stories:
        assert f"  {bad.value.authority}: connection lost\n" in found
        assert f"200, ok by {good.value.authority}" in found
        assert f"  {good.value.authority}: given the request" in found


def is_known(ports: Ports, seen: Message) -> bool:
    return ports.admin(f"/why/{(seen.get(b'x-request-id') or b'').decode()}").status == 200


def test_a_head_that_was_refused(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    ports = Ports(balancer, endpoint())
    answer = ports.lb.client().exchange(b"GET / HTTP/1.1\r\n\r\n")
    assert "400, bad_request:host" in story(ports, id_of(answer))


def test_some_of_those_that_go_well_are_remembered(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    ports = Ports(balancer, a)
    client = ports.lb.client()
    for _ in range(1100):
        assert client.get().status == 200
    ports.lb.wait_until_idle()
    known = ports.lb.server.proxy.history.recorder._by_id
    assert len(known) == 2
    assert ports.lb.server.proxy.on_exchange_ended is None, "nobody else pays"
    assert f"200, ok by {a.value.authority}" in story(ports, next(iter(known)))


def test_one_that_is_not_remembered(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    ports = Ports(balancer, endpoint())
    message = ports.admin("/why/nobody")
    assert message.status == 404
    assert b"not remembered" in message.body
    assert b"no request has failed" in ports.admin("/why").body
    assert ports.probe("/why").status == 404, "only on the admin port"


def ask(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lb", "why", *arguments], capture_output=True, text=True, timeout=15, cwd=ROOT
    )


@pytest.mark.one_variant
def test_the_command(variant: Variant) -> None:
    with LoadBalancer(f"--backends=127.0.0.1:{free_port()}", "--endpoint-wait=0", f"--loop={variant.loop}") as lb:
        client = lb.client()
        answer = client.exchange(request("GET", "/from-outside"))
        client.close()
        told = json.loads(answer.body)["explain"].split()
        assert told[:2] == ["podlb", "why"]
        admin = f"--admin=127.0.0.1:{lb.admin_port}"
        found = ask(told[2], admin)
        assert (found.returncode, found.stderr) == (0, "")
        assert "GET /from-outside: 503, connect_refused" in found.stdout
        assert found.stdout.splitlines()[0] in ask(admin).stdout
        unknown = ask("nobody", admin)
        assert (unknown.returncode, unknown.stdout) == (1, "")
        assert unknown.stderr.startswith("podlb: this request is not remembered")


@pytest.mark.parametrize("admin", ["127.0.0.1:1", "127.0.0.1", "x:y:z"])
def test_nobody_to_ask(admin: str) -> None:
    found = ask("id", f"--admin={admin}")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(f"podlb: the admin port at {admin} can't be asked: ")
    assert len(found.stderr.splitlines()) == 1
