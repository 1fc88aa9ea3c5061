"""What our loop holds until the end of its turn, with transports that write down what they are told."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from lb.eventloop.held import HELD_BYTES, HeldWrites

Said = tuple[Any, ...]


class Mark:
    """Who wants to know when it was first written to."""

    written = 0.0


class Foreign:
    """A transport that is not ours: it has `write` alone."""

    def __init__(self, log: list[Said], name: str = "foreign") -> None:
        self.closing = False
        self.error: BaseException | None = None
        """What its next writes raise."""
        self.then: Callable[[], object] = lambda: None
        """Called behind a write."""
        self.name = name
        self.log = log

    def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.log.append((self.name, data))
        self.then()

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True
        self.log.append((self.name, "close"))


class Ours(Foreign):
    """A transport of ours, over a socket with room for `room` bytes."""

    def __init__(self, log: list[Said], name: str = "ours", room: int = 1 << 30) -> None:
        super().__init__(log, name)
        self._room = room
        self._send_now: Callable[[bytes], int] | None = self._send

    def _send(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        sent = min(len(data), self._room)
        self._room -= sent
        self.log.append((self.name, data[:sent]))
        self.then()
        return sent

    def _keep(self, data: bytes, sent: int) -> None:
        """As ours does: what comes behind is not sent directly."""
        self.log.append((self.name, "kept", data[sent:]))
        self._send_now = None

    def _fatal(self, error: BaseException) -> None:
        self.log.append((self.name, "fatal", error))
        self._send_now = None
        self.closing = True

    def close(self) -> None:
        super().close()
        self._send_now = None


Kind = type[Foreign]
KINDS = pytest.mark.parametrize("kind", [Ours, Foreign])


@pytest.fixture
def log() -> list[Said]:
    """What reached the transports, in its order."""
    return []


@pytest.fixture
def reports() -> list[dict[str, Any]]:
    """What the loop's exception handler was told."""
    return []


@pytest.fixture
def outbox(reports: list[dict[str, Any]]) -> HeldWrites:
    """Reports to `reports`."""
    return HeldWrites(reports.append)


LARGE = b"l" * (HELD_BYTES + 1)


@KINDS
def test_all_is_held_until_it_is_flushed_and_its_order_kept(outbox: HeldWrites, log: list[Said], kind: Kind) -> None:
    first, second, marks = kind(log, "first"), kind(log, "second"), [Mark(), Mark(), Mark()]
    outbox.write(first, b"1", marks[0])
    outbox.hold((second, b"2", marks[1]))
    outbox.write(first, b"3", marks[2])
    assert log == []
    assert not any(mark.written for mark in marks)
    outbox.flush()
    assert log == [("first", b"1"), ("second", b"2"), ("first", b"3")]
    assert all(mark.written for mark in marks)
    outbox.flush()
    assert len(log) == 3


@KINDS
def test_large_pieces_go_out_at_once_behind_what_is_held(outbox: HeldWrites, log: list[Said], kind: Kind) -> None:
    first, second, mark = kind(log, "first"), kind(log, "second"), Mark()
    outbox.write(first, LARGE[1:])
    assert log == []
    outbox.write(second, LARGE, mark)
    assert log == [("first", LARGE[1:]), ("second", LARGE)]
    assert mark.written


@KINDS
def test_it_is_closed_behind_what_was_written(outbox: HeldWrites, log: list[Said], kind: Kind) -> None:
    first, second = kind(log, "first"), kind(log, "second")
    outbox.write(first, b"1")
    outbox.close(first)
    outbox.close(second)
    assert log == []
    outbox.write(second, b"2")
    outbox.flush()
    assert log == [("first", b"1"), ("second", b"2"), ("first", "close"), ("second", "close")]
    outbox.flush()
    assert len(log) == 4


@KINDS
def test_it_is_closed_at_once_if_nothing_is_held(outbox: HeldWrites, log: list[Said], kind: Kind) -> None:
    transport = kind(log, "it")
    outbox.close(transport)
    assert log == [("it", "close")]


@KINDS
def test_one_that_closes_by_itself_meanwhile_is_not_closed_again(
    outbox: HeldWrites, log: list[Said], kind: Kind
) -> None:
    transport = kind(log, "it")
    outbox.write(kind(log, "other"), b"o")
    outbox.close(transport)
    transport.close()
    outbox.flush()
    assert log == [("it", "close"), ("other", b"o")]


@KINDS
@pytest.mark.parametrize("data", [b"small", LARGE])
def test_a_closing_one_is_passed_over(outbox: HeldWrites, log: list[Said], kind: Kind, data: bytes) -> None:
    closing, other, mark = kind(log, "closing"), kind(log, "other"), Mark()
    closing.close()
    outbox.write(closing, data, mark)
    outbox.write(other, b"o")
    outbox.flush()
    assert log == [("closing", "close"), ("other", b"o")]
    assert not mark.written


@KINDS
def test_what_is_held_during_a_flush_comes_behind_it_and_in_front_of_the_closes(
    outbox: HeldWrites, log: list[Said], kind: Kind
) -> None:
    first, second = kind(log, "first"), kind(log, "second")

    def answer() -> None:
        first.then = lambda: None
        outbox.write(first, b"3")

    first.then = answer
    outbox.write(first, b"1")
    outbox.write(second, b"2")
    outbox.close(second)
    outbox.flush()
    assert log == [("first", b"1"), ("second", b"2"), ("first", b"3"), ("second", "close")]


def test_a_partial_send_is_kept_and_what_follows_is_buffered_behind_it(outbox: HeldWrites, log: list[Said]) -> None:
    transport, marks = Ours(log, room=3), [Mark(), Mark()]
    outbox.write(transport, b"12345", marks[0])
    outbox.write(transport, b"678", marks[1])
    outbox.flush()
    assert log == [("ours", b"123"), ("ours", "kept", b"45"), ("ours", b"678")]
    assert all(mark.written for mark in marks)


@pytest.mark.parametrize("error", [BlockingIOError, InterruptedError])
def test_a_send_that_would_block_is_kept_whole(outbox: HeldWrites, log: list[Said], error: type[OSError]) -> None:
    transport, mark = Ours(log), Mark()
    transport.error = error()
    outbox.write(transport, b"123", mark)
    outbox.flush()
    assert log == [("ours", "kept", b"123")]
    assert mark.written


def test_a_failing_send_loses_its_transport_alone(
    outbox: HeldWrites, log: list[Said], reports: list[dict[str, Any]]
) -> None:
    failing, other, marks = Ours(log, "failing"), Ours(log, "other"), [Mark(), Mark(), Mark()]
    failing.error = error = ConnectionResetError()
    outbox.write(failing, b"1", marks[0])
    outbox.write(other, b"2", marks[1])
    outbox.write(failing, b"3", marks[2])
    outbox.flush()
    assert log == [("failing", "fatal", error), ("other", b"2")]
    assert [mark.written > 0.0 for mark in marks] == [False, True, False]
    assert reports == []


@KINDS
@pytest.mark.parametrize("data", [b"small", LARGE])
def test_a_failing_write_is_reported_and_the_others_are_written(
    outbox: HeldWrites, log: list[Said], reports: list[dict[str, Any]], kind: Kind, data: bytes
) -> None:
    failing, other, marks = kind(log, "failing"), kind(log, "other"), [Mark(), Mark()]
    failing.error = error = RuntimeError("Cannot call write() after write_eof()")
    if isinstance(failing, Ours):
        failing._send_now = None
    outbox.write(failing, data, marks[0])
    outbox.write(other, b"o", marks[1])
    outbox.close(other)
    outbox.flush()
    assert log == [("other", b"o"), ("other", "close")]
    assert [mark.written > 0.0 for mark in marks] == [False, True]
    (report,) = reports
    assert report["exception"] is error
    assert report["transport"] is failing
    assert report["message"]


@pytest.mark.parametrize("last", [SystemExit, KeyboardInterrupt])
def test_what_ends_the_program_is_not_held_up(
    outbox: HeldWrites, log: list[Said], reports: list[dict[str, Any]], last: type[BaseException]
) -> None:
    transport = Foreign(log)
    transport.error = last()
    outbox.write(transport, b"1")
    with pytest.raises(last):
        outbox.flush()
    assert reports == []


def test_a_mark_keeps_the_time_of_the_first_write(outbox: HeldWrites, log: list[Said]) -> None:
    transport, mark = Ours(log), Mark()
    before = time.monotonic()
    outbox.write(transport, b"1", mark)
    outbox.flush()
    first = mark.written
    assert before <= first <= time.monotonic()
    outbox.write(transport, b"2", mark)
    outbox.flush()
    assert mark.written == first


def test_whoever_wants_to_know_is_told_of_each_flush_behind_it(outbox: HeldWrites, log: list[Said]) -> None:
    outbox.after_flush.append(lambda: log.append(("flushed",)))
    outbox.write(Ours(log), b"1")
    outbox.flush()
    assert log == [("ours", b"1"), ("flushed",)]
