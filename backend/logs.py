"""The log format: `[backend] 2026-11-23T06:25:01.123Z server.py:42 [INFO] listening on 0.0.0.0:8080`, on stdout.

Each line is flushed when it was written: a line about a request is out before the process can be killed for it.
"""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

_LEVELS = {"WARNING": "WARN", "CRITICAL": "ERROR"}


class LineFormatter(logging.Formatter):
    """Formats records as the lines that scripts rely on."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and a traceback below it if there is one."""
        time = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        level = _LEVELS.get(record.levelname, record.levelname)
        place = f"{record.filename}:{record.lineno}"
        line = f"[backend] {time}.{int(record.msecs):03d}Z {place} [{level}] {record.getMessage()}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class _StdoutHandler(logging.StreamHandler):  # type: ignore[type-arg]  # it is generic in the type stubs alone
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Lose the line: a stdout that was closed is no reason to stop serving."""


def set_up() -> None:
    """Send the log lines of this process to stdout."""
    handler = _StdoutHandler(sys.stdout)
    handler.setFormatter(LineFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def printable(text: str) -> str:
    r"""Return `text` with everything but visible ASCII written as `\x..`, so that a line can't be forged.

    A backslash is written so as well: what is read back is what was received.
    """
    return "".join(
        character if "!" <= character <= "~" and character != "\\" else f"\\x{ord(character):02x}" for character in text
    )
