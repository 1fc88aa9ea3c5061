"""Back-pressure: who is held, and why."""

from __future__ import annotations

from lb.flow import ANY_REASON, BACKLOG, NOT_CONNECTED, WRITER_FULL, Flow


class Reader:
    """Stands in for the reading side of a transport."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.closing = False

    def pause_reading(self) -> None:
        self.calls.append("pause")

    def resume_reading(self) -> None:
        self.calls.append("resume")

    def is_closing(self) -> bool:
        return self.closing


def coupled() -> tuple[Flow, Reader]:
    flow, reader = Flow(), Reader()
    flow.couple(reader)
    return flow, reader


def test_the_reasons_are_different_bits() -> None:
    reasons = [WRITER_FULL, BACKLOG, NOT_CONNECTED]
    for reason in reasons:
        assert reason & (reason - 1) == 0
    assert sum(reasons) == WRITER_FULL | BACKLOG | NOT_CONNECTED


def test_at_first_nothing_is_held() -> None:
    flow, reader = coupled()
    assert not flow.held
    assert reader.calls == []


def test_held_and_released() -> None:
    flow, reader = coupled()
    flow.hold(WRITER_FULL)
    assert flow.held
    assert reader.calls == ["pause"]
    flow.release(WRITER_FULL)
    assert not flow.held
    assert reader.calls == ["pause", "resume"]


def test_the_same_reason_counts_once() -> None:
    flow, reader = coupled()
    flow.hold(BACKLOG)
    flow.hold(BACKLOG)
    assert reader.calls == ["pause"]
    flow.release(BACKLOG)
    assert reader.calls == ["pause", "resume"]
    flow.release(BACKLOG)
    assert reader.calls == ["pause", "resume"]


def test_it_is_held_as_long_as_there_is_any_reason() -> None:
    flow, reader = coupled()
    flow.hold(WRITER_FULL)
    flow.hold(BACKLOG)
    flow.hold(NOT_CONNECTED)
    flow.release(WRITER_FULL)
    flow.release(NOT_CONNECTED)
    assert flow.held
    assert reader.calls == ["pause"]
    flow.release(BACKLOG)
    assert not flow.held
    assert reader.calls == ["pause", "resume"]


def test_a_reason_that_did_not_hold_releases_nothing() -> None:
    flow, reader = coupled()
    flow.hold(WRITER_FULL)
    flow.release(BACKLOG)
    assert flow.held
    assert reader.calls == ["pause"]


def test_all_reasons_can_be_released_together() -> None:
    flow, reader = coupled()
    for reason in (WRITER_FULL, BACKLOG, NOT_CONNECTED):
        flow.hold(reason)
    flow.release(ANY_REASON)
    assert not flow.held
    assert reader.calls == ["pause", "resume"]


def test_a_closing_reader_is_left_alone() -> None:
    flow, reader = coupled()
    flow.hold(WRITER_FULL)
    reader.closing = True
    flow.release(WRITER_FULL)
    assert not flow.held
    assert reader.calls == ["pause"]


class TestCoupling:
    def test_a_reader_that_comes_while_it_is_held_is_paused(self) -> None:
        flow, reader = Flow(), Reader()
        flow.hold(WRITER_FULL)
        flow.couple(reader)
        assert reader.calls == ["pause"]
        flow.release(WRITER_FULL)
        assert reader.calls == ["pause", "resume"]

    def test_holding_without_a_reader_is_remembered(self) -> None:
        flow = Flow()
        flow.hold(NOT_CONNECTED)
        assert flow.held
        flow.release(NOT_CONNECTED)
        assert not flow.held

    def test_a_reader_that_leaves_is_free(self) -> None:
        flow, reader = coupled()
        flow.hold(WRITER_FULL)
        flow.uncouple()
        assert reader.calls == ["pause", "resume"]
        # It no longer has anything to do with this direction, which is still held.
        assert flow.held
        flow.release(WRITER_FULL)
        flow.hold(WRITER_FULL)
        assert reader.calls == ["pause", "resume"]

    def test_a_reader_that_was_not_held_leaves_as_it_is(self) -> None:
        flow, reader = coupled()
        flow.uncouple()
        assert reader.calls == []

    def test_a_closing_reader_leaves_as_it_is(self) -> None:
        flow, reader = coupled()
        flow.hold(WRITER_FULL)
        reader.closing = True
        flow.uncouple()
        assert reader.calls == ["pause"]

    def test_the_next_reader_is_held_for_the_same_reasons(self) -> None:
        flow, first = coupled()
        flow.hold(WRITER_FULL)
        flow.uncouple()
        second = Reader()
        flow.couple(second)
        assert second.calls == ["pause"]
        flow.release(WRITER_FULL)
        assert second.calls == ["pause", "resume"]
        assert first.calls == ["pause", "resume"]

    def test_uncoupling_without_a_reader_is_no_matter(self) -> None:
        flow = Flow()
        flow.hold(BACKLOG)
        flow.uncouple()
        assert flow.held


class SplicingReader(Reader):
    """A reader that can splice, if `agrees`."""

    def __init__(self, *, agrees: bool = True) -> None:
        super().__init__()
        self.agrees = agrees

    def splice_to(self, target: object, count: int) -> bool:
        self.calls.append(f"splice {count} to {target}")
        return self.agrees

    def end_splice(self) -> None:
        self.calls.append("end")


class TestSplicing:
    def test_the_reader_splices_to_the_writer_until_it_is_told(self) -> None:
        flow, reader = Flow(), SplicingReader()
        flow.couple(reader)
        flow.splice("writer", 5)
        assert reader.calls == ["splice 5 to writer"]
        flow.unsplice()
        flow.unsplice()
        assert reader.calls == ["splice 5 to writer", "end"]

    def test_a_reader_that_can_not_goes_on_as_before(self) -> None:
        flow, reader = coupled()
        flow.splice("writer", 5)
        flow.unsplice()
        assert reader.calls == []

    def test_a_reader_that_will_not_is_not_told_to_end(self) -> None:
        flow, reader = Flow(), SplicingReader(agrees=False)
        flow.couple(reader)
        flow.splice("writer", 5)
        flow.unsplice()
        assert reader.calls == ["splice 5 to writer"]

    def test_it_is_held_all_the_same(self) -> None:
        flow, reader = Flow(), SplicingReader()
        flow.couple(reader)
        flow.splice("writer", 5)
        flow.hold(WRITER_FULL)
        flow.unsplice()
        flow.release(WRITER_FULL)
        assert reader.calls == ["splice 5 to writer", "pause", "end", "resume"]

    def test_without_a_reader_nothing_happens(self) -> None:
        flow = Flow()
        flow.splice("writer", 5)
        flow.unsplice()
        flow, reader = Flow(), SplicingReader()
        flow.couple(reader)
        flow.splice("writer", 5)
        flow.uncouple()
        flow.unsplice()
        assert reader.calls == ["splice 5 to writer"]
