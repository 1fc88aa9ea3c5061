"""Where splicing can't be: it says so, or bytes are copied from then on, and none is lost."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
from typing import Any

import pytest

from lb.eventloop.splice import Pipe
from tests.eventloop.certificates import client_context, server_context
from tests.eventloop.conformance import DEADLINE, OnLoop, Recorder, attach, block, descriptors, turns
from tests.eventloop.splicing import PIPE_BYTES, End, RefusedSplices, Splices, in_pipe, new_way

UNFIT = [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM]


@pytest.mark.parametrize("error", UNFIT, ids=errno.errorcode.get)
@pytest.mark.parametrize("refused", [0, 2, 4])
def test_the_kernel_takes_nothing_from_the_source(
    on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch, refused: int, error: int
) -> None:
    """From then on bytes are received, as if no splice had begun; another one can't be."""
    data = block(4 * PIPE_BYTES)

    async def main() -> None:
        way = await new_way()
        splices = RefusedSplices(monkeypatch, refused, error)
        way.splice(len(data) + 1)
        await way.sender.send(data)
        await way.source.until(lambda: way.source.passed + len(way.source.received) == len(data))
        assert bool(way.source.passed) == bool(refused)
        assert await way.reader.read(way.source.passed) + bytes(way.source.received) == data
        assert splices.calls == refused + 1
        assert not way.source.transport.splice_to(way.target.transport, 1)
        assert way.target.transport.splice_to(way.source.transport, 1), "the other was not refused"
        await way.end()

    on_epoll(main)


@pytest.mark.parametrize("error", UNFIT, ids=errno.errorcode.get)
@pytest.mark.parametrize("refused", [1, 3])
def test_the_kernel_gives_nothing_to_the_target(
    on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch, refused: int, error: int
) -> None:
    data = block(4 * PIPE_BYTES)

    async def main() -> None:
        way = await new_way()
        RefusedEmptying(monkeypatch, refused // 2, error)
        way.splice(len(data))
        await asyncio.gather(way.sender.send(data), way.until_passed(len(data)))
        assert await way.reader.read(len(data)) == data
        assert way.source.received == b""
        assert in_pipe() == 0
        await way.end()

    on_epoll(main)


class RefusedEmptying:
    """Refuses to empty the pipe, from the time number `refused` on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: int, error: int) -> None:
        empty = Pipe.empty
        calls = 0

        def maybe(pipe: Pipe, fd: int, count: int) -> int:
            nonlocal calls
            calls += 1
            if calls > refused:
                raise OSError(error, os.strerror(error))
            return empty(pipe, fd, count)

        monkeypatch.setattr(Pipe, "empty", maybe)


def test_another_error_of_the_source(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        way = await new_way()
        RefusedSplices(monkeypatch, 0, errno.EIO)
        way.splice(1 << 20)
        await way.sender.send(b"data")
        await way.source.until("lost")
        assert isinstance(way.source.error, OSError)
        assert way.source.error.errno == errno.EIO
        await turns()
        assert way.target.events == ["made"]
        await way.end()

    on_epoll(main)


def test_another_error_of_the_target(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        way = await new_way()
        RefusedSplices(monkeypatch, 1, errno.EIO)
        way.splice(1 << 20)
        await way.sender.send(b"data")
        await way.target.until("lost")
        assert isinstance(way.target.error, OSError)
        assert way.target.error.errno == errno.EIO
        await turns()
        assert way.source.events == ["made", "spliced"]
        assert in_pipe() == 0
        await way.end()

    on_epoll(main)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE], ids=errno.errorcode.get)
def test_no_descriptor_for_a_pipe(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch, error: int) -> None:
    def refuse(flags: int) -> tuple[int, int]:
        raise OSError(error, os.strerror(error))

    async def main() -> None:
        way = await new_way()
        monkeypatch.setattr(os, "pipe2", refuse)
        assert not way.source.transport.splice_to(way.target.transport, 4)
        await way.sender.send(b"copy")
        await way.source.until(lambda: way.source.received == b"copy")
        monkeypatch.undo()
        # There is one again.
        way.splice(4)
        await way.sender.send(b"pass")
        assert await way.reader.read(4) == b"pass"
        await way.end()

    on_epoll(main)


def test_a_small_pipe_will_do(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has many pipes gets no larger one (fcntl(2), F_SETPIPE_SZ)."""
    data = block(2 << 20)
    control = fcntl.fcntl

    def refuse(fd: int, command: int, *arguments: Any) -> int:
        if command == fcntl.F_SETPIPE_SZ:
            return control(fd, command, 4096) and control(fd, 9999)
        return control(fd, command, *arguments)

    async def main() -> None:
        way = await new_way(buffers=64 << 10)
        monkeypatch.setattr(fcntl, "fcntl", refuse)
        way.splice(len(data))
        monkeypatch.undo()
        loop: Any = asyncio.get_running_loop()
        assert loop._pipe.size == 4096
        _, arrived = await asyncio.gather(way.sender.send(data), way.reader.read(len(data)))
        assert arrived == data
        await way.end()

    on_epoll(main)


def test_a_pipe_is_not_inherited_and_never_blocks() -> None:
    before = descriptors()
    pipe = Pipe()
    try:
        assert 4096 <= pipe.size <= PIPE_BYTES
        for fd in (pipe._reader, pipe._writer):
            assert not os.get_inheritable(fd)
            assert not os.get_blocking(fd)
    finally:
        pipe.close()
    assert descriptors() == before


def test_without_a_splice_there_is_no_pipe(on_epoll: OnLoop) -> None:
    async def main() -> None:
        way = await new_way()
        await way.sender.send(b"data")
        await way.source.until("data")
        loop: Any = asyncio.get_running_loop()
        assert loop._pipe is None
        await way.end()

    on_epoll(main)


def test_targets_and_counts_that_will_not_do(on_epoll: OnLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    splices = Splices(monkeypatch)

    async def main() -> None:
        way = await new_way()
        splice_to = way.source.transport.splice_to
        assert not splice_to(None, 4)
        assert not splice_to(object(), 4)
        assert not splice_to(way.reader.sock, 4)
        assert not splice_to(way.target.transport, 0)
        assert not splice_to(way.target.transport, -1)
        await way.sender.send(b"data")
        await way.source.until(lambda: way.source.received == b"data")
        await way.end()

    on_epoll(main)
    assert splices.calls == 0


def test_a_target_on_another_loop(on_epoll: OnLoop) -> None:
    """Or on a loop of another kind."""
    other, foreign = on_epoll.new(), asyncio.SelectorEventLoop()
    targets = []
    for loop in (other, foreign):
        target = Recorder()
        targets.append((loop, target, loop.run_until_complete(attach(target))))

    async def main() -> None:
        way = await new_way()
        for _, target, _ in targets:
            assert not way.source.transport.splice_to(target.transport, 4)
        await way.end()

    on_epoll(main)
    for loop, target, peer in targets:
        loop.run_until_complete(asyncio.wait_for(target.end(), DEADLINE))
        peer.close()
        loop.close()


@pytest.mark.parametrize("new", [0, 64], ids=["small", "large"])
def test_a_buffered_protocol_reads_for_itself(on_epoll: OnLoop, new: int) -> None:
    class Buffered(asyncio.BufferedProtocol):
        def __init__(self) -> None:
            self.buffer = bytearray(1024 + new)
            self.received = bytearray()
            self.changed = asyncio.Event()

        def get_buffer(self, sizehint: int) -> bytearray:
            return self.buffer

        def buffer_updated(self, count: int) -> None:
            self.received += self.buffer[:count]
            self.changed.set()

    async def main() -> None:
        way = await new_way()
        way.splice(1 << 20)
        await way.sender.send(b"passed on")
        assert await way.reader.read(9) == b"passed on"
        buffered = Buffered()
        way.source.transport.set_protocol(buffered)
        assert not way.source.transport.splice_to(way.target.transport, 4)
        await way.sender.send(b"received")
        await buffered.changed.wait()
        assert buffered.received == b"received"
        way.source.transport.set_protocol(way.source)
        way.splice(2)
        await way.sender.send(b"on")
        assert await way.reader.read(2) == b"on"
        await way.end()

    on_epoll(main)


@pytest.mark.parametrize("where", ["told", "between", "held"])
def test_another_protocol_receives(on_epoll: OnLoop, where: str) -> None:
    """set_protocol ends it: whoever comes is not told of what it has not asked for."""
    data = block(4 << 20)

    async def main() -> None:
        way = await new_way(buffers=256 << 10)
        first, second = way.source, End()

        def replace() -> None:
            first.then = None
            if where == "held":
                first.transport.pause_reading()
            second.transport = first.transport
            first.transport.set_protocol(second)

        way.splice(1 << 40)
        if where != "between":
            first.then = replace
        sending = asyncio.ensure_future(way.sender.send(data))
        await way.until_passed(1)
        if where == "between":
            replace()
        if where == "held":
            await turns()
            assert second.received == b""
            first.transport.resume_reading()
        assert await way.reader.read(first.passed) == data[: first.passed]
        await second.until(lambda: len(second.received) == len(data) - first.passed)
        await sending
        assert second.received == data[first.passed :]
        assert second.passed == 0
        way.source = second
        await way.end()

    on_epoll(main)


def test_over_tls(on_epoll: OnLoop) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        way = await new_way()
        served, client = Recorder(), Recorder()
        server = await loop.create_server(lambda: served, "127.0.0.1", 0, ssl=server_context())
        await loop.create_connection(lambda: client, *server.sockets[0].getsockname(), ssl=client_context())
        await served.until("made")
        assert not way.source.transport.splice_to(served.transport, 4)
        assert not hasattr(client.transport, "splice_to")
        await client.end()
        await served.until("lost")
        server.close()
        await server.wait_closed()
        await way.end()

    on_epoll(main)
