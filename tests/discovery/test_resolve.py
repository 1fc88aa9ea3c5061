"""From backends to endpoints."""

from __future__ import annotations

import asyncio
import logging
import random
import socket
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb.config import Backend
from lb.discovery import resolve as resolve_module
from lb.discovery.resolve import NameTable, Publisher, explain_failures, resolve_name
from lb.endpoint import Snapshot
from tests.discovery.fakes import FakeNames, endpoints

WEB = Backend("web", 80)


@pytest.mark.asyncio
async def test_an_address_asks_no_name_server() -> None:
    names = FakeNames()
    snapshot = await NameTable(names).resolve([Backend("10.0.0.2", 80), Backend("::1", 81), Backend("10.0.0.1", 80)])
    assert snapshot == endpoints("10.0.0.2:80", "[::1]:81", "10.0.0.1:80")
    assert names.asked == []


@pytest.mark.asyncio
async def test_a_name_is_all_its_addresses_sorted_at_its_place() -> None:
    names = FakeNames(web=["10.0.0.10", "::1", "10.0.0.9", "10.0.0.10"])
    snapshot = await NameTable(names).resolve([Backend("10.0.0.20", 80), WEB, Backend("10.0.0.1", 80)])
    assert snapshot == endpoints("10.0.0.20:80", "10.0.0.9:80 web", "10.0.0.10:80 web", "[::1]:80 web", "10.0.0.1:80")


@settings(deadline=None)
@given(st.lists(st.ip_addresses().map(str), min_size=1, unique=True), st.randoms(use_true_random=False))
def test_the_order_of_answers_does_not_matter(addresses: list[str], shuffler: random.Random) -> None:
    table = NameTable(names := FakeNames(web=addresses))
    before = asyncio.run(table.resolve([WEB]))
    names.answers["web"] = shuffler.sample(addresses, len(addresses))
    assert asyncio.run(table.resolve([WEB])) == before
    assert {endpoint.address for endpoint in before} == set(addresses)


@pytest.mark.asyncio
async def test_one_address_twice_is_one_endpoint_and_the_first_gives_its_name() -> None:
    names = FakeNames(a=["10.0.0.1"], b=["10.0.0.1", "10.0.0.2"])
    snapshot = await NameTable(names).resolve([Backend("a", 80), Backend("b", 80), Backend("a", 81)])
    assert snapshot == endpoints("10.0.0.1:80 a", "10.0.0.2:80 b", "10.0.0.1:81 a")
    assert sorted(names.asked) == ["a", "b"]  # once each, not once per port


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "Name or service not known"),
        (OSError("odd"), "odd"),
        (UnicodeError("label too long"), "not a valid name"),
        ([], "it has no address"),
    ],
)
@pytest.mark.asyncio
async def test_a_name_that_fails_keeps_its_addresses_and_is_warned_about_once(
    caplog: pytest.LogCaptureFixture, failure: list[str] | Exception, reason: str
) -> None:
    caplog.set_level(logging.INFO, "lb")
    table = NameTable(names := FakeNames(web=["10.0.0.1"]))
    before = await table.resolve([WEB])
    names.answers["web"] = failure
    for _ in range(3):
        assert await table.resolve([WEB]) == before
    assert table.failures == {"web": reason}
    assert caplog.messages == [
        f"backend name web can't be resolved: {reason}; its last addresses stay in use: 10.0.0.1"
    ]
    names.answers["web"] = ["10.0.0.2"]
    assert await table.resolve([WEB]) == endpoints("10.0.0.2:80 web")
    assert table.failures == {}
    assert caplog.messages[1:] == ["backend name web is resolved again: 10.0.0.2"]


@pytest.mark.asyncio
async def test_a_name_that_never_worked_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    table = NameTable(FakeNames())
    assert await table.resolve([WEB, Backend("10.0.0.1", 80)]) == endpoints("10.0.0.1:80")
    assert "web can't be resolved: Name or service not known; it is left out until it can" in caplog.text
    assert explain_failures(table.failures) == (
        "none of the backends' names can be resolved (web: Name or service not known): correct them, or give addresses"
    )


@pytest.mark.asyncio
async def test_a_name_that_is_no_longer_listed_is_forgotten() -> None:
    table = NameTable(names := FakeNames(web=["10.0.0.1"]))
    await table.resolve([WEB])
    assert await table.resolve([]) == ()
    del names.answers["web"]
    assert await table.resolve([WEB]) == ()


@pytest.mark.asyncio
async def test_a_name_server_that_is_silent_counts_as_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolve_module, "LOOKUP_TIMEOUT", 0.001)

    async def silent(name: str) -> list[str]:
        return await asyncio.get_running_loop().create_future()

    table = NameTable(silent)
    assert await table.resolve([WEB]) == ()
    assert table.failures == {"web": "no answer within 0.001 s"}


@pytest.mark.asyncio
async def test_names_are_looked_up_at_the_same_time() -> None:
    waiting: dict[str, asyncio.Future[list[str]]] = {}
    all_asked = asyncio.Event()

    async def slow(name: str) -> list[str]:
        waiting[name] = asyncio.get_running_loop().create_future()
        if len(waiting) == 2:
            all_asked.set()
        return await waiting[name]

    resolving = asyncio.create_task(NameTable(slow).resolve([Backend("a", 1), Backend("b", 1)]))
    await asyncio.wait_for(all_asked.wait(), 5)
    waiting["b"].set_result(["10.0.0.2"])
    waiting["a"].set_result(["10.0.0.1"])
    assert await resolving == endpoints("10.0.0.1:1 a", "10.0.0.2:1 b")


@pytest.mark.asyncio
async def test_the_system_resolver_knows_localhost() -> None:
    addresses = await resolve_name("localhost")
    assert addresses
    assert set(addresses) <= {"127.0.0.1", "::1"}


@pytest.fixture
def published() -> list[Snapshot]:
    return []


@pytest.fixture
def publisher(published: list[Snapshot]) -> Publisher:
    return Publisher(published.append)


def test_only_a_new_snapshot_is_published(publisher: Publisher, published: list[Snapshot]) -> None:
    one, other = endpoints("10.0.0.1:80"), endpoints("10.0.0.2:80")
    for snapshot in (one, one, other, other, one, (), ()):
        publisher.offer(snapshot)
    assert published == [one, other, one, ()]
    assert publisher.snapshot == ()


def test_an_empty_first_snapshot_is_published(publisher: Publisher, published: list[Snapshot]) -> None:
    publisher.offer(())
    assert published == [()]


def test_each_change_is_one_line(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lb")
    publisher.offer(endpoints("10.0.0.1:80", "10.0.0.2:80 web"))
    publisher.offer(endpoints("10.0.0.2:80 web", "10.0.0.3:80 web", "[::1]:80"))
    publisher.offer(endpoints("[::1]:80", "10.0.0.2:80 web", "10.0.0.3:80 web"))  # the order is no news
    assert caplog.messages == [
        "endpoints found: 2: 10.0.0.1:80, 10.0.0.2:80 (web)",
        "endpoint removed: 10.0.0.1:80",
        "endpoint added: 10.0.0.3:80 (web)",
        "endpoint added: [::1]:80",
    ]


@pytest.mark.parametrize(
    ("number", "check"),
    [(0, lambda text: text == "endpoints found: 0"), (12, lambda text: text.endswith("10.0.0.9:80 and 2 more"))],
)
def test_the_first_line_is_short(
    publisher: Publisher, caplog: pytest.LogCaptureFixture, number: int, check: Callable[[str], bool]
) -> None:
    caplog.set_level(logging.INFO, "lb")
    publisher.offer(endpoints(*(f"10.0.0.{last}:80" for last in range(number))))
    assert check(caplog.messages[0])
