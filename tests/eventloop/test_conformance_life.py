"""The life of a loop of every kind: run, stop, close; threads, the executor, names, generators, unhandled errors."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop, turns


def test_run_until_complete(on_loop: OnLoop) -> None:
    loop = on_loop.new()

    async def fail() -> None:
        raise ArithmeticError("out of fingers")

    try:
        assert not loop.is_running()
        assert loop.run_until_complete(asyncio.sleep(0, "result")) == "result"
        with pytest.raises(ArithmeticError):
            loop.run_until_complete(fail())
        future = loop.create_future()
        loop.call_soon(future.set_result, 5)
        assert loop.run_until_complete(future) == 5
        never = loop.create_future()
        loop.call_soon(loop.stop)
        with pytest.raises(RuntimeError, match="stopped before Future completed"):
            loop.run_until_complete(never)
    finally:
        loop.close()


def test_stop_lets_the_turn_end(on_loop: OnLoop) -> None:
    loop = on_loop.new()
    ran: list[str] = []
    try:
        loop.call_soon(loop.stop)
        loop.call_soon(ran.append, "same turn")
        loop.call_soon(loop.call_soon, ran.append, "next turn")
        loop.run_forever()
        # uvloop stops in the turn after.
        assert ran == ["same turn", "next turn"][: 2 if on_loop.name == "uvloop" else 1]
        loop.stop()
        loop.run_forever()
        assert ran == ["same turn", "next turn"]
    finally:
        loop.close()


def test_a_loop_runs_once_at_a_time(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert loop.is_running()
        with pytest.raises(RuntimeError, match="running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="running"):
            loop.close()
        other = on_loop.new()
        with pytest.raises(RuntimeError, match="while another loop is running"):
            other.run_forever()
        other.close()

    on_loop(main)


def test_a_closed_loop_refuses_everything(on_loop: OnLoop) -> None:
    loop = on_loop.new()
    assert not loop.is_closed()
    loop.close()
    loop.close()
    assert loop.is_closed()
    future: asyncio.Future[None] = asyncio.Future(loop=loop)
    for call in (
        lambda: loop.call_soon(print),
        lambda: loop.call_soon_threadsafe(print),
        lambda: loop.call_later(1, print),
        lambda: loop.call_at(1, print),
        lambda: loop.run_in_executor(None, print),
        lambda: loop.run_forever(),
        lambda: loop.run_until_complete(future),
    ):
        with pytest.raises(RuntimeError, match="closed"):
            call()


def test_a_runner_of_it(on_loop: OnLoop) -> None:
    async def kind() -> type:
        return type(asyncio.get_running_loop())

    loop = on_loop.new()
    expected = type(loop)
    loop.close()
    with asyncio.Runner(loop_factory=on_loop.new) as runner:
        assert runner.run(kind()) is expected
        assert runner.run(kind()) is expected
        left_behind: list[str] = []

        async def leave() -> None:
            async def stay() -> None:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    left_behind.append("cancelled")
                    raise

            tasks.append(asyncio.create_task(stay()))
            await turns(2)

        tasks: list[asyncio.Task[None]] = []
        runner.run(leave())
        loop = runner.get_loop()
    assert left_behind == ["cancelled"]
    assert loop.is_closed()


def test_a_runner_waits_for_generators_and_the_executor(on_loop: OnLoop) -> None:
    ended: list[str] = []
    may_end = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            ended.append("generator")

    def work() -> None:
        assert may_end.wait(5)
        ended.append("executor")

    async def main() -> None:
        generators.append(numbers())
        assert await anext(generators[0]) == 0
        asyncio.get_running_loop().run_in_executor(None, work)
        asyncio.get_running_loop().call_soon(may_end.set)

    generators: list[AsyncIterator[int]] = []
    with asyncio.Runner(loop_factory=on_loop.new) as runner:
        runner.run(main())
    assert sorted(ended) == ["executor", "generator"]


def test_a_generator_begun_behind_the_end_is_warned_of(on_loop: OnLoop) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1

    async def main() -> None:
        await asyncio.get_running_loop().shutdown_asyncgens()
        late = numbers()
        with pytest.warns(ResourceWarning, match="shutdown_asyncgens"):
            assert await anext(late) == 1
        await late.aclose()  # type: ignore[attr-defined]

    on_loop(main)


# Threads


def test_many_threads_call_at_once(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        calls: list[tuple[int, int]] = []
        here = threading.get_ident()
        wrong: list[int] = []

        def called(thread: int, number: int) -> None:
            calls.append((thread, number))
            if threading.get_ident() != here:
                wrong.append(thread)
            if len(calls) == 8 * 500:
                done.set()

        def call(thread: int) -> None:
            for number in range(500):
                loop.call_soon_threadsafe(called, thread, number)

        done = asyncio.Event()
        threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        await done.wait()
        for thread in threads:
            thread.join()
        assert not wrong
        for number in range(8):
            assert [call[1] for call in calls if call[0] == number] == list(range(500))

    on_loop(main)


def test_a_thread_wakes_a_loop_that_waits(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(20):
            woken = loop.create_future()
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set_result, None))
            # It is awaited with nothing else to wake the loop but the deadline of the test.
            loop.call_soon(thread.start)
            await woken
            thread.join()

    on_loop(main)


def test_a_coroutine_from_another_thread(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()

        def ask() -> str:
            return asyncio.run_coroutine_threadsafe(asyncio.sleep(0.001, "answer"), loop).result(5)

        assert await loop.run_in_executor(None, ask) == "answer"

    on_loop(main)


def test_each_thread_has_its_own_loop(on_loop: OnLoop) -> None:
    def run() -> int:
        async def main() -> int:
            await asyncio.sleep(0.001)
            return threading.get_ident()

        with asyncio.Runner(loop_factory=on_loop.new) as runner:
            return runner.run(main())

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        results = [future.result(5) for future in [threads.submit(run) for _ in range(8)]]
    assert all(result != threading.get_ident() for result in results)


def test_debug_mode_refuses_calls_from_other_threads(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            for call in (lambda: loop.call_soon(print), lambda: loop.call_later(1, print)):
                with pytest.raises(RuntimeError, match="other than the current one"):
                    await asyncio.wrap_future(threads.submit(call))

    on_loop(main, debug=True)


# The executor and names


def test_the_executor(on_loop: OnLoop) -> None:
    def fail() -> None:
        raise ArithmeticError("out of fingers")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert await loop.run_in_executor(None, lambda: threading.get_ident()) != threading.get_ident()
        assert await loop.run_in_executor(None, max, 3, 7) == 7
        with pytest.raises(ArithmeticError):
            await loop.run_in_executor(None, fail)
        assert await asyncio.gather(*(loop.run_in_executor(None, abs, -n) for n in range(50))) == list(range(50))
        with concurrent.futures.ThreadPoolExecutor(1, "own") as own:
            assert (await loop.run_in_executor(own, lambda: threading.current_thread().name)).startswith("own")
            loop.set_default_executor(own)
            assert (await loop.run_in_executor(None, lambda: threading.current_thread().name)).startswith("own")
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="shutdown"):
            await loop.run_in_executor(None, print)

    on_loop(main)


def test_names(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        assert await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM) == [
            (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))
        ]
        found = await loop.getaddrinfo("localhost", 80, family=socket.AF_INET, type=socket.SOCK_STREAM)
        assert ("127.0.0.1", 80) in [entry[4] for entry in found]
        with pytest.raises(socket.gaierror):
            await loop.getaddrinfo("127.0.0.1", "no-such-service")
        assert await loop.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV) == (
            "127.0.0.1",
            "80",
        )

    on_loop(main)


# The exception handler


def test_the_exception_handler_can_be_replaced(on_loop: OnLoop, caplog: pytest.LogCaptureFixture) -> None:
    def failing(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        raise LookupError("in the handler")

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        context = {"message": "it went wrong", "exception": ArithmeticError("out of fingers")}
        told: list[tuple[object, object]] = []
        loop.set_exception_handler(lambda *arguments: told.append(arguments))
        loop.call_exception_handler(context)
        assert told == [(loop, context)]
        for handler in (None, failing):
            loop.set_exception_handler(handler)
            assert loop.get_exception_handler() is handler
            loop.call_exception_handler(context)
        with pytest.raises(TypeError):
            loop.set_exception_handler("text")

    on_loop(main)
    first, second = (record for record in caplog.records if record.name == "asyncio")
    assert first.getMessage().startswith("it went wrong")
    assert "error in exception handler" in second.getMessage().lower()


def test_a_task_whose_error_nobody_took_is_told_of(on_loop: OnLoop) -> None:
    async def fail() -> None:
        raise ArithmeticError("out of fingers")

    async def main() -> None:
        task: asyncio.Task[None] | None = asyncio.create_task(fail())
        await turns(3)
        del task

    on_loop(main)
    assert isinstance(on_loop.take_error(), ArithmeticError)


def test_a_task_factory(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        made: list[Any] = []

        def make(loop: Any, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
            made.append(asyncio.Task(coroutine, loop=loop, **options))
            return made[-1]

        loop.set_task_factory(make)
        assert loop.get_task_factory() is make
        assert await asyncio.create_task(asyncio.sleep(0, "result"), name="named") == "result"
        assert [task.get_name() for task in made] == ["named"]
        loop.set_task_factory(None)

    on_loop(main)
