"""SHELL: writes the access log: chooses which entries, and hands their lines to the log's writer.

Lines are handed over together: for each by itself the writer's thread would have to be woken, and would take the
interpreter from the event loop, which triples what a small request costs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from lb.access_log import Entry, json_line, text_line

LATEST_SECONDS = 0.1
"""A line waits so long at most to be handed over."""
_BATCH_BYTES = 32768


class AccessLogger:
    """Writes a line for each entry, or for a share of them.

    `write` takes whole lines and never waits; `random` returns a number from 0 up to (not including) 1; `call_later`
    has the event loop call a function in so many seconds.
    """

    def __init__(
        self,
        form: Literal["text", "json"],
        sample: float,
        write: Callable[[bytes], None],
        *,
        random: Callable[[], float],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.form = form
        self._line = text_line if form == "text" else json_line
        self._sample = sample
        self._write = write
        self._random = random
        self._call_later = call_later
        self._lines: list[bytes] = []
        self._size = 0
        self._is_due = False

    def wants(self) -> bool:
        """Draw: is the next one written?"""
        return self._sample >= 1.0 or self._random() < self._sample

    def log(self, entry: Entry) -> None:
        """Write its line."""
        self.write(self._line(entry))

    def write(self, line: bytes) -> None:
        """Write a finished line, within `LATEST_SECONDS`."""
        self._lines.append(line)
        self._size += len(line)
        if self._size >= _BATCH_BYTES:
            self.flush()
        elif not self._is_due:
            self._is_due = True
            self._call_later(LATEST_SECONDS, self._is_time)

    def _is_time(self) -> None:
        self._is_due = False
        self.flush()

    def flush(self) -> None:
        """Hand over what waits."""
        if self._lines:
            data = b"".join(self._lines)
            self._lines.clear()
            self._size = 0
            self._write(data)
