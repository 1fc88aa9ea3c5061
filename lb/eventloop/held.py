"""Small writes that wait for the end of the turn, and go out one behind the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any, Protocol

HELD_BYTES = 33792


class Written(Protocol):
    """Who wants to know when it was first written to."""

    written: float
    """On the loop's clock, in seconds; 0.0: not yet."""


Held = tuple[Any, bytes, Written | None]
"""A transport, bytes for it, and who is told when that was first done."""


class HeldWrites:
    """The writes that the loop does at the end of its turn. The order of each transport's is kept.

    `hold` takes one without a question asked: it is a list's own `append`. A function of ours in its place costs 0.1 µs
    a write.
    """

    def __init__(self, report: Callable[[dict[str, Any]], None]) -> None:
        """`report` is told of a write that fails: a loop's exception handler."""
        self._report = report
        self.turn_began = 0.0
        """When the turn began that goes on, on the loop's clock: whatever is handled in it was there by then."""
        self.after_flush: list[Callable[[], None]] = []
        """Called behind every flush."""
        self.held: list[Held] = []
        self._closing: list[Any] = []
        self._is_flushing = False
        self.hold = self.held.append

    def write(self, transport: Any, data: bytes, writer: Written | None = None) -> None:
        """Write `data` at the end of this turn, or at once if it is large: to hold it would cost memory."""
        if len(data) <= HELD_BYTES or self._is_flushing:
            self.hold((transport, data, writer))
            return
        self.flush()
        self._write_each([(transport, data, writer)])

    def close(self, transport: Any) -> None:
        """Close `transport` behind what was written to it."""
        if self.held or self._is_flushing:
            self._closing.append(transport)
        else:
            transport.close()

    def flush(self) -> None:
        """Write now, and close what is to be closed."""
        if self._is_flushing:
            # Called by somebody who was told of a write: the rest of those goes out first.
            return
        self._is_flushing = True
        try:
            held = self.held
            while held:
                # What is held while these are written comes behind them.
                now = iter(held[:])
                held.clear()
                try:
                    self._write_each(now)
                except BaseException:
                    # Somebody wants out (SystemExit): the rest waits for the next flush.
                    held[:0] = now
                    raise
        finally:
            self._is_flushing = False
        if self._closing:
            closing, self._closing = self._closing, []
            for transport in closing:
                if not transport.is_closing():
                    transport.close()
        for tell in self.after_flush:
            try:
                tell()
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                # The loop must not end of what somebody makes of it.
                self._report({"message": "Behind a flush", "exception": error})

    def _write_each(self, held: Iterable[Held]) -> None:
        """Write bytes to each transport, and tell who is given with them when.

        The same as `write` of each, except that one that is closing is passed over. Without a call a write it costs
        0.2 µs less each.
        """
        clock = time.monotonic
        for transport, data, writer in held:
            try:
                send = transport._send_now
            except AttributeError:
                # TLS, say: somebody else's transport over one of ours.
                send = None
            if send is not None:
                try:
                    sent = send(data)
                except (BlockingIOError, InterruptedError):
                    sent = 0
                except OSError as error:
                    transport._fatal(error)
                    continue
                if sent < len(data):
                    transport._keep(data, sent)
            elif transport.is_closing():
                continue
            else:
                try:
                    transport.write(data)
                except (SystemExit, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    # One that fails must not take the others with it.
                    self._report({"message": "A held write failed", "exception": error, "transport": transport})
                    continue
            if writer is not None and not writer.written:
                writer.written = clock()
