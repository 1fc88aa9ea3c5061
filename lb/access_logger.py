"""SHELL: writes the access log: chooses which entries, and hands their lines to the log's writer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from lb.access_log import Entry, json_line, text_line


class AccessLogger:
    """Writes a line for each entry, or for a share of them.

    `write` takes a line and never waits; `random` returns a number from 0 up to (not including) 1.
    """

    def __init__(
        self,
        form: Literal["text", "json"],
        sample: float,
        write: Callable[[bytes], None],
        *,
        random: Callable[[], float],
    ) -> None:
        self._line = text_line if form == "text" else json_line
        self._sample = sample
        self._write = write
        self._random = random

    def wants(self) -> bool:
        """Draw: is the next one written?"""
        return self._sample >= 1.0 or self._random() < self._sample

    def log(self, entry: Entry) -> None:
        """Write its line."""
        self._write(self._line(entry))
