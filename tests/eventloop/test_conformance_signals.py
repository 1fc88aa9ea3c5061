"""Signal handlers on every loop."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_a_signal_calls_its_handler(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[tuple[str, int]] = []
        here = threading.get_ident()
        before = signal.getsignal(signal.SIGUSR1)
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            loop.add_signal_handler(number, lambda name: calls.append((name, threading.get_ident())), number.name)
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: calls)
        # The same signal twice may be told of once.
        os.kill(os.getpid(), signal.SIGUSR2)
        await until(lambda: len(calls) == 2)
        assert calls == [("SIGUSR1", here), ("SIGUSR2", here)]
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            assert loop.remove_signal_handler(number)
            assert not loop.remove_signal_handler(number)
        assert signal.getsignal(signal.SIGUSR1) == before == signal.SIG_DFL

    on_loop(main)


def test_a_signal_wakes_a_loop_that_waits(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, woken.set)
        killer = threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1))
        loop.call_soon(killer.start)
        await woken.wait()
        killer.join()
        loop.remove_signal_handler(signal.SIGUSR1)

    on_loop(main)


def test_a_second_handler_replaces_the_first(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        first, second = asyncio.Event(), asyncio.Event()
        loop.add_signal_handler(signal.SIGUSR1, first.set)
        loop.add_signal_handler(signal.SIGUSR1, second.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await second.wait()
        assert not first.is_set()
        loop.remove_signal_handler(signal.SIGUSR1)

    on_loop(main)


def test_signals_that_can_not_be_handled(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        with pytest.raises(RuntimeError, match="cannot be caught"):
            loop.add_signal_handler(signal.SIGKILL, print)
        with pytest.raises(ValueError):
            loop.add_signal_handler(1000, print)
        with pytest.raises(TypeError):
            loop.add_signal_handler("SIGTERM", print)

        async def coroutine() -> None: ...

        with pytest.raises(TypeError):
            loop.add_signal_handler(signal.SIGUSR1, coroutine)

    on_loop(main)


@pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)
def test_closing_the_loop_gives_signals_back(on_loop: OnLoop) -> None:
    """uvloop leaves its own handler behind."""

    async def main() -> None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print)

    on_loop(main)
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    assert signal.set_wakeup_fd(-1) == -1


def test_signals_are_the_main_threads(on_loop: OnLoop) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        loop = on_loop.new()
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except (RuntimeError, ValueError) as error:
            errors.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert len(errors) == 1


def test_an_interrupt_from_the_keyboard_ends_a_runner(on_loop: OnLoop) -> None:
    cancelled: list[bool] = []

    async def wait() -> None:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    with pytest.raises(KeyboardInterrupt), asyncio.Runner(loop_factory=on_loop.new) as runner:
        runner.run(wait())
    assert cancelled == [True]
