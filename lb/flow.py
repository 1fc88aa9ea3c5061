"""Back-pressure: a reader stops while what it reads cannot be passed on."""

from __future__ import annotations

from typing import Protocol

WRITER_FULL, BACKLOG, NOT_CONNECTED = 1, 2, 4
ANY_REASON = WRITER_FULL | BACKLOG | NOT_CONNECTED


class Reader(Protocol):
    """The part of a transport that reads."""

    def pause_reading(self) -> None:
        """Stop reading."""

    def resume_reading(self) -> None:
        """Read on."""

    def is_closing(self) -> bool:
        """Is it closed or closing?"""


class Flow:
    """One direction: whoever reads it is held for as long as there is any reason to.

    The reasons are bits: WRITER_FULL (the other side takes no more), BACKLOG (enough is buffered for later),
    NOT_CONNECTED (there is no other side yet).
    """

    __slots__ = ("_is_spliced", "held", "reader")

    def __init__(self) -> None:
        self.reader: Reader | None = None
        """Who feeds this direction. On the hot path it is set directly, by whoever has seen that nothing is held."""
        self._is_spliced = False
        """Was the reader asked to splice, since it was last told to stop?"""
        self.held = 0
        """The reasons for which reading is paused; 0 if it is not."""

    def couple(self, reader: Reader) -> None:
        """Let `reader` feed this direction from now on."""
        self.reader = reader
        if self.held:
            reader.pause_reading()

    def uncouple(self) -> None:
        """The reader no longer feeds this direction: it is free to read, and stays so."""
        reader, self.reader = self.reader, None
        if self.held and reader is not None and not reader.is_closing():
            reader.resume_reading()

    def hold(self, reason: int) -> None:
        """Stop reading, for `reason`."""
        before, self.held = self.held, self.held | reason
        if not before and self.reader is not None:
            self.reader.pause_reading()

    def release(self, reason: int) -> None:
        """`reason` no longer holds; read on if no other does."""
        if self.held:
            self.held &= ~reason
            if not self.held and self.reader is not None and not self.reader.is_closing():
                self.reader.resume_reading()

    def splice(self, writer: object, count: int) -> None:
        """Let the next `count` bytes go from the reader to `writer` without us, where the transports can do that.

        Whoever reads is told of them by its method `spliced`. What holds the reader holds it all the same.
        """
        splice_to = getattr(self.reader, "splice_to", None)
        self._is_spliced = splice_to is not None and splice_to(writer, count)

    def unsplice(self) -> None:
        """Nothing more may go to that writer: the reader's bytes come to us again."""
        if self._is_spliced:
            self._is_spliced = False
            end_splice = getattr(self.reader, "end_splice", None)
            if end_splice is not None:
                end_splice()
