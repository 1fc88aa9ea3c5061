"""SHELL: instants as text, for the log and the access log. (It reads no clock, but asks `time` for the calendar.)"""

from __future__ import annotations

import time


class Timestamps:
    """Formats instants: 2026-11-23T06:25:01.123Z. The text of a second is kept for all that fall into it."""

    def __init__(self) -> None:
        self._second = (-1, "")

    def text(self, at: float) -> str:
        """Return the text of `at`, in seconds since 1970."""
        second, milliseconds = divmod(int(at * 1000), 1000)
        known, text = self._second
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{milliseconds:03d}Z"
