"""add_reader and add_writer on every loop."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from typing import Any

import pytest

from tests.eventloop.conformance import OnLoop, Recorder, attach, socket_pair, turns


async def until(condition: Any) -> None:
    while not condition():
        await asyncio.sleep(0)


def test_a_reader_is_called_as_long_as_there_is_something(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        calls: list[tuple[str, bytes]] = []

        def readable(name: str) -> None:
            calls.append((name, ours.recv(1)))

        loop.add_reader(ours, readable, "name")
        await turns()
        assert calls == []
        theirs.sendall(b"abc")
        await until(lambda: len(calls) == 3)
        assert calls == [("name", b"a"), ("name", b"b"), ("name", b"c")]
        loop.remove_reader(ours)
        theirs.sendall(b"d")
        await turns()
        assert len(calls) == 3
        ours.close()
        theirs.close()

    on_loop(main)


def test_a_reader_is_told_of_the_end_and_of_a_reset(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        for family in ("tcp", "unix"):
            ours, theirs = socket_pair(family)
            ended = asyncio.Event()
            loop.add_reader(ours, ended.set)
            theirs.close()
            await ended.wait()
            loop.remove_reader(ours)
            assert ours.recv(1) == b""
            ours.close()

    on_loop(main)


def test_a_writer_is_called_as_long_as_there_is_room(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair("unix")
        calls = 0

        def writable() -> None:
            nonlocal calls
            calls += 1

        loop.add_writer(ours.fileno(), writable)
        await until(lambda: calls >= 3)
        with suppress(BlockingIOError):
            while True:
                ours.send(bytes(1 << 16))
        await turns()
        calls = 0
        await turns()
        assert calls == 0
        theirs.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                theirs.recv(1 << 16)
        await until(lambda: calls)
        loop.remove_writer(ours.fileno())
        ours.close()
        theirs.close()

    on_loop(main)


def test_a_reader_and_a_writer_of_one_descriptor(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        read, written = asyncio.Event(), asyncio.Event()
        loop.add_reader(ours, read.set)
        loop.add_writer(ours, written.set)
        await written.wait()
        assert not read.is_set()
        loop.remove_writer(ours)
        theirs.sendall(b"x")
        await read.wait()
        written.clear()
        await turns()
        assert not written.is_set()
        loop.remove_reader(ours)
        ours.close()
        theirs.close()

    on_loop(main)


def test_a_second_reader_replaces_the_first(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        first, second = asyncio.Event(), asyncio.Event()
        loop.add_reader(ours, first.set)
        loop.add_reader(ours, second.set)
        theirs.sendall(b"x")
        await second.wait()
        assert not first.is_set()
        loop.remove_reader(ours)
        ours.close()
        theirs.close()

    on_loop(main)


def test_a_reader_can_take_itself_and_others_out(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        pairs = [socket_pair() for _ in range(10)]
        calls: list[int] = []

        def readable(number: int) -> None:
            calls.append(number)
            for ours, _ in pairs:
                loop.remove_reader(ours)

        for number, (ours, theirs) in enumerate(pairs):
            theirs.sendall(b"x")
            loop.add_reader(ours, readable, number)
        await turns()
        assert len(calls) == 1
        for pair in pairs:
            for sock in pair:
                sock.close()

    on_loop(main)


def test_a_descriptor_number_that_is_used_again(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        numbers = set()
        for _ in range(5):
            ours, theirs = socket_pair()
            numbers.add(ours.fileno())
            readable = asyncio.Event()
            loop.add_reader(ours, readable.set)
            await turns(2)
            theirs.sendall(b"x")
            await readable.wait()
            loop.remove_reader(ours)
            ours.close()
            theirs.close()
            await turns(2)
        assert len(numbers) < 5

    on_loop(main)


def test_a_failing_reader_is_told_of(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()

        def fail() -> None:
            loop.remove_reader(ours)
            raise ArithmeticError("out of fingers")

        loop.add_reader(ours, fail)
        theirs.sendall(b"x")
        await until(lambda: on_loop.errors)
        ours.close()
        theirs.close()

    on_loop(main)
    assert isinstance(on_loop.take_error(), ArithmeticError)


@pytest.mark.parametrize("on_loop", ["epoll", "asyncio"], indirect=True)
def test_taking_out_tells_whether_there_was_one(on_loop: OnLoop) -> None:
    """uvloop says nothing when there was."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket_pair()
        for add, remove in (loop.add_reader, loop.remove_reader), (loop.add_writer, loop.remove_writer):
            assert remove(ours) is False
            add(ours, print)
            assert remove(ours) is True
            assert remove(ours) is False
        ours.close()
        theirs.close()

    on_loop(main)


def test_pipes_can_be_watched(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading, writing = os.pipe()
        done = loop.create_future()
        loop.add_reader(reading, lambda: done.done() or done.set_result(os.read(reading, 10)))
        os.write(writing, b"through")
        assert await done == b"through"
        loop.remove_reader(reading)
        os.close(reading)
        os.close(writing)

    on_loop(main)


def test_the_descriptor_of_a_transport_is_its_own(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        recorder = Recorder()
        peer = await attach(recorder)
        number = recorder.transport.get_extra_info("socket").fileno()
        for call in (
            lambda: loop.add_reader(number, print),
            lambda: loop.add_writer(number, print),
            lambda: loop.remove_reader(number),
            lambda: loop.remove_writer(number),
        ):
            with pytest.raises(RuntimeError, match="used by transport"):
                call()
        await peer.send(b"fine")
        await recorder.until("data")
        await recorder.end()
        peer.close()

    on_loop(main)


@pytest.mark.parametrize("wrong", ["text", None, -1])
def test_what_is_no_descriptor(on_loop: OnLoop, wrong: Any) -> None:
    async def main() -> None:
        with pytest.raises((ValueError, TypeError, OSError)):
            asyncio.get_running_loop().add_reader(wrong, print)

    on_loop(main)


def test_socket_objects_and_numbers_are_the_same(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        loop.add_reader(ours, print)
        loop.remove_reader(ours.fileno())
        loop.add_writer(ours.fileno(), lambda: None)
        loop.remove_writer(ours)
        ours.close()
        theirs.close()

    on_loop(main)
