"""What the tests of splicing share: two ends with plain peers behind them, and a count of what the kernel was asked."""

from __future__ import annotations

import array
import asyncio
import fcntl
import os
import termios
from collections.abc import Callable
from typing import Any

import pytest

from tests.eventloop.conformance import Peer, Recorder, attach

PIPE_BYTES = 262144


class End(Recorder):
    """One end of a splice, or of two: counts what was passed on without it, and holds back who feeds it."""

    def __init__(self, *, keep_open: bool = True) -> None:
        super().__init__(keep_open=keep_open)
        self.passed = 0
        self.then: Callable[[], object] | None = None
        """Called behind what was passed on."""
        self.fed_by: End | None = None
        """Whose reading is paused while too much is buffered here."""

    def note(self, event: str) -> None:
        if event == "spliced" and self.events[-1:] == ["spliced"]:
            self._changed.set()
        else:
            super().note(event)

    def spliced(self, count: int) -> None:
        assert count > 0
        self.passed += count
        self.note("spliced")
        if self.then is not None:
            self.then()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.fed_by is not None:
            self.fed_by.transport.pause_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self.fed_by is not None and not self.fed_by.transport.is_closing():
            self.fed_by.transport.resume_reading()


class Way:
    """From `sender` through `source` and `target` to `reader`."""

    def __init__(self, source: End, target: End, sender: Peer, reader: Peer) -> None:
        self.source = source
        self.target = target
        self.sender = sender
        self.reader = reader

    def splice(self, count: int) -> None:
        """Splice the next `count` bytes."""
        assert self.source.transport.splice_to(self.target.transport, count)

    async def until_passed(self, count: int) -> None:
        """Wait until `count` bytes were passed on."""
        await self.source.until(lambda: self.source.passed >= count)

    async def end(self) -> None:
        """Close everything."""
        self.sender.close()
        self.reader.close()
        for protocol in (self.source, self.target):
            if "lost" not in protocol.events:
                await protocol.end()


async def new_way(family: str = "tcp", *, buffers: int | None = None, source: End | None = None) -> Way:
    """Make one; `buffers` is about how many bytes the kernel keeps at each end."""
    source, target = source or End(), End()
    target.fed_by = source
    sender = await attach(source, family, buffers=buffers)
    reader = await attach(target, family, buffers=buffers)
    return Way(source, target, sender, reader)


class Splices:
    """Counts the calls of os.splice."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self.bytes = 0
        """How many bytes went into the pipe or out of it."""
        self._splice = getattr(os, "splice", None)
        monkeypatch.setattr(os, "splice", self._counted, raising=False)

    def _counted(self, *arguments: Any) -> int:
        assert self._splice is not None
        self.calls += 1
        moved: int = self._splice(*arguments)
        self.bytes += moved
        return moved


class RefusedSplices:
    """Refuses the call number `refused` of os.splice, and all behind it: 0 fills the pipe, 1 empties it, and so on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, refused: int, error: int) -> None:
        self.calls = 0
        self._refused = refused
        self._error = error
        self._splice = os.splice
        monkeypatch.setattr(os, "splice", self._maybe)

    def _maybe(self, *arguments: Any) -> int:
        self.calls += 1
        if self.calls > self._refused:
            raise OSError(self._error, os.strerror(self._error))
        return self._splice(*arguments)


def in_pipe() -> int:
    """Return how many bytes are in the pipe of the running loop."""
    loop: Any = asyncio.get_running_loop()
    count = array.array("i", [-1])
    fcntl.ioctl(loop._pipe._reader, termios.FIONREAD, count)
    return count[0]
