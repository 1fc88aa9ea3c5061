"""Answers that a thread makes, one after the other."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from lb.works import BUSY, FAILED, LIMIT, STOPPING, Answer, Make, Works
from tests.fakes import DEADLINE

pytestmark = pytest.mark.asyncio

PAGE: Answer = (200, b"text/plain", b"page")


class Bench:
    """Orders, what was prepared for them, and what was told."""

    def __init__(self) -> None:
        self.works = Works(asyncio.get_running_loop())
        self.go_on = threading.Event()
        self.prepared: list[str] = []
        self.told: list[tuple[str, Answer]] = []

    def order(self, name: str, *, waits: bool = False) -> object:
        def prepare() -> Make:
            self.prepared.append(name)
            return make

        def make() -> Answer:
            if waits:
                assert self.go_on.wait(DEADLINE)
            if name == "bad":
                raise RuntimeError("no")
            return PAGE

        return self.works.order(prepare, lambda answer: self.told.append((name, answer)))

    async def until_told(self, count: int) -> None:
        async with asyncio.timeout(DEADLINE):
            while len(self.told) < count:
                await asyncio.sleep(0.001)


async def test_one_after_the_other() -> None:
    bench = Bench()
    bench.order("a", waits=True)
    bench.order("b")
    # What is told of is read when its turn has come: what waits costs nothing.
    assert bench.prepared == ["a"]
    bench.go_on.set()
    await bench.until_told(2)
    assert bench.prepared == ["a", "b"]
    assert bench.told == [("a", PAGE), ("b", PAGE)]
    bench.works.close()


async def test_who_is_gone_gets_nothing_and_costs_nothing() -> None:
    bench = Bench()
    orders = [bench.order(name, waits=name == "a") for name in "abc"]
    for order in orders[:2]:
        bench.works.cancel(order)  # type: ignore[arg-type]
    bench.go_on.set()
    await bench.until_told(1)
    assert bench.told == [("c", PAGE)]
    assert bench.prepared == ["a", "c"]
    bench.works.cancel(orders[2])  # type: ignore[arg-type]
    bench.works.close()


async def test_when_too_many_wait() -> None:
    bench = Bench()
    for number in range(LIMIT + 1):
        assert bench.order(str(number), waits=True) is not None
    assert bench.order("late") is None
    assert bench.told == [("late", BUSY)]
    bench.go_on.set()
    await bench.until_told(LIMIT + 2)
    assert bench.order("again") is not None
    await bench.until_told(LIMIT + 3)
    assert bench.told[-1] == ("again", PAGE)
    bench.works.close()


async def test_what_fails_is_told_too(caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench()

    def unprepared() -> Make:
        raise RuntimeError("not read")

    with caplog.at_level(logging.ERROR, "lb"):
        assert bench.works.order(unprepared, lambda answer: bench.told.append(("first", answer))) is None
        bench.order("bad")
        bench.order("good")
        await bench.until_told(3)
    assert bench.told == [("first", FAILED), ("bad", FAILED), ("good", PAGE)]
    assert len(caplog.records) == 2
    bench.works.close()


async def test_when_it_stops() -> None:
    bench = Bench()
    bench.order("a", waits=True)
    bench.order("b")
    bench.works.close()
    assert bench.order("c") is None
    assert bench.told == [("c", STOPPING)]
    bench.go_on.set()
    await bench.until_told(2)
    assert bench.told[1:] == [("a", PAGE)]
    assert bench.prepared == ["a"]
