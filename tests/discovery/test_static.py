"""The source for `backends`."""

from __future__ import annotations

import asyncio
import logging

import pytest

from lb.config import Backend
from lb.discovery import DiscoveryError, Source
from lb.discovery.static import StaticSource
from lb.endpoint import Snapshot
from tests.discovery.fakes import FakeNames, FakeSleep, endpoints

pytestmark = pytest.mark.asyncio

WEB = Backend("web", 80)
FIXED = Backend("10.0.0.9", 80)


async def test_addresses_are_published_once_and_leave_nothing_running() -> None:
    published: list[Snapshot] = []
    sleep = FakeSleep()
    source: Source = StaticSource([FIXED, Backend("::1", 81)], resolve=FakeNames(), sleep=sleep)
    await source.start(published.append)
    assert published == [endpoints("10.0.0.9:80", "[::1]:81")]
    assert len(asyncio.all_tasks()) == 1
    await source.stop()
    assert sleep.asked == []


async def test_names_are_looked_up_again_and_only_changes_are_published() -> None:
    published: list[Snapshot] = []
    names, sleep = FakeNames(web=["10.0.0.1"]), FakeSleep()
    source = StaticSource([WEB], resolve=names, sleep=sleep)
    await source.start(published.append)
    await sleep.end_one(3)
    assert published == [endpoints("10.0.0.1:80 web")]
    assert names.asked == ["web"] * 4
    names.answers["web"] = ["10.0.0.2", "10.0.0.1"]
    await sleep.end_one()
    assert published[1:] == [endpoints("10.0.0.1:80 web", "10.0.0.2:80 web")]
    assert set(sleep.asked) == {30.0}
    await source.stop()
    assert len(asyncio.all_tasks()) == 1


async def test_a_name_that_fails_later_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lb")
    published: list[Snapshot] = []
    names, sleep = FakeNames(web=["10.0.0.1"]), FakeSleep()
    source = StaticSource([WEB], resolve=names, sleep=sleep)
    await source.start(published.append)
    names.answers["web"] = OSError("down")
    await sleep.end_one(3)
    names.answers["web"] = ["10.0.0.1"]
    await sleep.end_one(2)
    assert len(published) == 1
    assert len(caplog.messages) == 3  # found, fails, works again
    await source.stop()


async def test_a_start_without_any_endpoint_names_name_and_reason() -> None:
    published: list[Snapshot] = []
    source = StaticSource([WEB, Backend("db", 1)], resolve=FakeNames(db=OSError("refused")), sleep=FakeSleep())
    with pytest.raises(DiscoveryError) as caught:
        await source.start(published.append)
    assert "web: Name or service not known; db: refused" in str(caught.value)
    assert published == []
    assert len(asyncio.all_tasks()) == 1
    await source.stop()


async def test_a_start_with_some_endpoints_goes_on_and_finds_the_rest_later() -> None:
    published: list[Snapshot] = []
    names, sleep = FakeNames(), FakeSleep()
    source = StaticSource([WEB, FIXED], resolve=names, sleep=sleep)
    await source.start(published.append)
    names.answers["web"] = ["10.0.0.1"]
    await sleep.end_one()
    assert published == [endpoints("10.0.0.9:80"), endpoints("10.0.0.1:80 web", "10.0.0.9:80")]
    await source.stop()


async def test_nothing_is_published_after_stop() -> None:
    published: list[Snapshot] = []
    answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def resolve(name: str) -> list[str]:
        if not published:
            return ["10.0.0.1"]
        asked.set()
        return await asyncio.shield(answer)

    sleep = FakeSleep()
    source = StaticSource([WEB], resolve=resolve, sleep=sleep)
    await source.start(published.append)
    ending = asyncio.create_task(sleep.end_one())
    await asyncio.wait_for(asked.wait(), 5)
    await source.stop()
    answer.set_result(["10.0.0.2"])
    await asyncio.sleep(0)
    ending.cancel()
    await asyncio.wait([ending])
    assert len(published) == 1
    assert len(asyncio.all_tasks()) == 1


async def test_stop_without_start_and_twice_is_fine() -> None:
    source = StaticSource([WEB], resolve=FakeNames(web=["10.0.0.1"]), sleep=FakeSleep())
    await source.stop()
    await source.start(lambda snapshot: None)
    await source.stop()
    await source.stop()


async def test_an_unforeseen_error_does_not_end_the_looking(caplog: pytest.LogCaptureFixture) -> None:
    published: list[Snapshot] = []
    names, sleep = FakeNames(web=["10.0.0.1"]), FakeSleep()
    source = StaticSource([WEB], resolve=names, sleep=sleep)
    await source.start(published.append)
    names.answers["web"] = ZeroDivisionError()
    await sleep.end_one()
    assert "the last snapshot stays" in caplog.text
    names.answers["web"] = ["10.0.0.2"]
    await sleep.end_one()
    assert published[-1] == endpoints("10.0.0.2:80 web")
    await source.stop()
