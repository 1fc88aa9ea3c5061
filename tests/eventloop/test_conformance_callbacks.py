"""Callbacks and timers on every loop: order, cancelling, fairness, and what happens to their errors."""

from __future__ import annotations

import asyncio
import contextvars
import math
import time
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop, Recorder, attach, turns


def test_callbacks_run_in_the_order_in_which_they_were_asked_for(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[str] = []

        def first() -> None:
            ran.append("first")
            loop.call_soon(ran.append, "asked for by the first")

        loop.call_soon(first)
        loop.call_soon(ran.append, "second")
        for number in range(100):
            loop.call_soon(ran.append, str(number))
        assert ran == []
        await turns(3)
        assert ran == ["first", "second", *map(str, range(100)), "asked for by the first"]

    on_loop(main)


def test_a_cancelled_callback_does_not_run(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[int] = []
        handles = [loop.call_soon(ran.append, number) for number in range(4)]
        # The second is cancelled before its turn by a callback of the same turn.
        loop.call_soon(handles.append, loop.call_soon(ran.append, 4))
        handles[1].cancel()
        handles[1].cancel()
        assert handles[1].cancelled()
        assert not handles[0].cancelled()
        await turns(3)
        assert ran == [0, 2, 3, 4]

    on_loop(main)


def test_a_callback_can_cancel_the_next_one(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[str] = []
        loop.call_soon(lambda: after.cancel())
        after = loop.call_soon(ran.append, "never")
        await turns(3)
        assert ran == []

    on_loop(main)


def test_a_callback_that_asks_for_itself_does_not_starve_the_others(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder()
        peer = await attach(recorder)
        rounds = 0
        timed: list[int] = []

        def again() -> None:
            nonlocal rounds
            rounds += 1
            if not (recorder.received and timed) and rounds < 1_000_000:
                loop.call_soon(again)

        again()
        await peer.send(b"hello")
        loop.call_later(0.001, lambda: timed.append(rounds))
        await recorder.until(lambda: recorder.received)
        assert rounds <= 20
        while not timed:
            await asyncio.sleep(0)
        assert timed[0] < 1_000_000
        await recorder.end()
        peer.close()

    on_loop(main)


def test_a_callback_runs_in_its_context(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        variable = contextvars.ContextVar("variable", default="none")
        seen: list[str] = []
        variable.set("here")
        loop.call_soon(lambda: seen.append(variable.get()))
        elsewhere = contextvars.Context()
        elsewhere.run(variable.set, "there")
        loop.call_soon(lambda: seen.append(variable.get()), context=elsewhere)
        loop.call_soon_threadsafe(lambda: seen.append(variable.get()), context=elsewhere)
        loop.call_later(0, lambda: seen.append(variable.get()), context=elsewhere)
        variable.set("later")
        while len(seen) < 4:
            await asyncio.sleep(0)
        assert seen == ["here", "there", "there", "there"]

    on_loop(main)


def test_a_failing_callback_is_told_and_the_next_ones_run(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[str] = []

        def fail() -> None:
            raise ArithmeticError("out of fingers")

        loop.call_soon(fail)
        loop.call_soon(ran.append, "after")
        await turns(3)
        assert ran == ["after"]

    on_loop(main)
    assert isinstance(on_loop.take_error(), ArithmeticError)


@pytest.mark.parametrize("last", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_program_ends_the_loop(on_loop: OnLoop, last: type[BaseException]) -> None:
    loop = on_loop.new()
    ran: list[str] = []

    def leave() -> None:
        raise last

    try:
        loop.call_soon(leave)
        loop.call_soon(ran.append, "after")
        with pytest.raises(last):
            loop.run_forever()
        assert not loop.is_running()
        # It can go on from there.
        loop.run_until_complete(asyncio.sleep(0))
        assert ran == ["after"]
    finally:
        loop.close()


# Timers


def test_timers_run_in_the_order_of_their_times(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[float] = []
        steps = [5, 1, 4, 1, 3, 0, 2, 5, 1]
        while True:
            began = time.monotonic()
            base = loop.time() + 0.02
            timers = [loop.call_at(base + 0.004 * step, ran.append, step) for step in steps]
            if time.monotonic() - began < 0.002:
                break
            # Interrupted meanwhile. uvloop counts in whole milliseconds, from a time that it has looked up before each:
            # what is asked for later may come later by as much as lies between.
            for timer in timers:
                timer.cancel()
        while len(ran) < len(steps):
            await asyncio.sleep(0.001)
        assert ran == sorted(steps)

    on_loop(main)


def test_timers_of_the_same_time_run_in_the_order_in_which_they_were_asked_for(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[int] = []
        when = loop.time() + 0.005
        for number in range(50):
            loop.call_at(when, ran.append, number)
        while len(ran) < 50:
            await asyncio.sleep(0.001)
        assert sorted(ran) == list(range(50))
        if on_loop.name == "epoll":
            # asyncio's heap keeps no order among equals, and uvloop makes a number of milliseconds from now of each.
            assert ran == list(range(50))

    on_loop(main)


def test_a_timer_does_not_run_early(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for delay in (0.0, 0.0004, 0.001, 0.0105):
            began, done = time.monotonic(), loop.create_future()
            loop.call_later(delay, done.set_result, None)
            await done
            # uvloop counts in whole milliseconds, from the beginning of its turn.
            assert time.monotonic() - began >= delay - (0.002 if on_loop.name == "uvloop" else 0.0)

    on_loop(main)


def test_a_timer_tells_its_time(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        later, at = loop.call_later(100, print), loop.call_at(loop.time() + 100, print)
        for timer in (later, at):
            # uvloop counts in whole milliseconds.
            assert timer.when() == pytest.approx(loop.time() + 100, abs=1)
            timer.cancel()

    on_loop(main)


def test_a_cancelled_timer_does_not_run(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[str] = []
        gone = loop.call_later(0.001, ran.append, "gone")
        same = loop.call_later(0.002, ran.append, "cancelled by a callback")
        loop.call_later(0.001, same.cancel)
        gone.cancel()
        gone.cancel()
        assert gone.cancelled()
        await asyncio.sleep(0.01)
        assert ran == []
        same.cancel()

    on_loop(main)


def test_many_cancelled_timers_keep_nothing_back(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        handles = [loop.call_later(1000 + number, lambda: None) for number in range(5000)]
        kept = loop.create_future()
        loop.call_later(0.002, kept.set_result, "ran")
        for handle in handles:
            handle.cancel()
        assert await kept == "ran"

    on_loop(main)


def test_a_timer_in_the_past_runs_soon(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ran: list[int] = []
        loop.call_later(-5, ran.append, 1)
        loop.call_at(loop.time() - 5, ran.append, 2)
        while len(ran) < 2:
            await asyncio.sleep(0)
        assert sorted(ran) == [1, 2]

    on_loop(main)


def test_a_timer_that_is_far_away(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        far = [loop.call_later(delay, lambda: None) for delay in (3600, 1e6, 1e8)]
        await asyncio.sleep(0.001)
        for handle in far:
            handle.cancel()

    on_loop(main)


def test_times_that_are_none(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with pytest.raises(TypeError):
            loop.call_later(None, print)
        with pytest.raises(TypeError):
            loop.call_at(None, print)

    on_loop(main)


def test_the_clock_is_monotonic(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        instants = [loop.time() for _ in range(1000)]
        assert instants == sorted(instants)
        assert math.isclose(loop.time(), time.monotonic(), abs_tol=1)

    on_loop(main)


@pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)
@pytest.mark.parametrize("method", ["call_soon", "call_later", "call_at"])
def test_debug_mode_refuses_what_is_no_callback(on_loop: OnLoop, method: str) -> None:
    """uvloop finds out when it calls it."""

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        arguments = [] if method == "call_soon" else [0]

        async def coroutine() -> None: ...

        with pytest.raises(TypeError):
            getattr(loop, method)(*arguments, coroutine)
        with pytest.raises(TypeError):
            getattr(loop, method)(*arguments, "text")

    on_loop(main, debug=True)
