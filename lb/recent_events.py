"""SHELL: the last lines of the log, kept for those who ask the admin port.

It keeps what the log says, in the same words, and nothing that the log would not say.
"""

from __future__ import annotations

import logging
from collections import deque
from pathlib import PurePath

from lb.logs import level_name, one_line
from lb.stats_model import LogEvent
from lb.timestamps import Timestamps

KEPT = 50
LONGEST = 500
"""Characters that are kept of one message."""


class RecentEvents(logging.Handler):
    """Keeps the last `KEPT` records of level INFO and up, as text. Any thread may log and ask."""

    def __init__(self, kept: int = KEPT) -> None:
        super().__init__(logging.INFO)
        self._events: deque[LogEvent] = deque(maxlen=kept)
        self._timestamps = Timestamps()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record; never raise."""
        try:
            message = one_line(record)
        except Exception as error:  # a wrong log call, which the log tells in full
            message = f"(a log call failed: {type(error).__name__})"
        if len(message) > LONGEST:
            message = f"{message[: LONGEST - 1]}…"
        at = self._timestamps.text(record.created)
        self._events.append(LogEvent(at, level_name(record), PurePath(record.filename).stem, message))

    def last(self) -> list[LogEvent]:
        """Return what is kept, the oldest first."""
        return list(self._events)
