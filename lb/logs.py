"""The log: `[lb] 2026-11-23T06:25:01.123Z server.py:42 [INFO] listening on 0.0.0.0:8080`, on stdout.

Code logs with the standard library (`logging.getLogger(__name__)`). The calling thread makes the finished line and
puts it into a bounded queue; one writer thread takes it out and writes. So a slow, stopped or full stdout costs lines,
never time: what does not fit is dropped and counted, and a line says how many were lost once there is room again.

A message may quote what a peer sent. Control characters are escaped, so a record is one line whatever it contains and
no peer can forge another or talk to a terminal. Only a traceback has more lines; they are indented.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import threading
import traceback
from queue import Empty, SimpleQueue

from lb.timestamps import Timestamps

LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
"""The values of the key logLevel."""

QUEUE_LIMIT = 1_048_576
"""Bytes that may wait to be written: about 8,000 lines, a second or so of trouble told in full."""

LINE_LIMIT = 8192
"""Characters of one message; longer ones are cut, since a peer may choose their length."""

TRACEBACK_LIMIT = 100
"""Lines of one traceback; the last ones are kept."""

_LEVEL_NAMES = {logging.DEBUG: "DEBUG", logging.INFO: "INFO", logging.WARNING: "WARN", logging.ERROR: "ERROR"}

# A write of at most PIPE_BUF bytes to a pipe is not mixed with those of another process, and does not block once poll
# has said that the pipe is writable: lines stay whole and the thread can always be stopped. 512 is POSIX' least.
_WRITE_LIMIT = getattr(select, "PIPE_BUF", 512)
_POLL_MS = 200
_END = b""
_NOTICE = b"notice"

# C0, DEL, C1, what reorders or hides text (bidirectional marks, zero-width no-break space), line and paragraph
# separators, and lone surrogates, which have no encoding.
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def escape(text: str) -> str:
    r"""Return `text` with every character that could break or disguise a line as `\n`, `\x1b`, `\u2028`."""
    return _UNSAFE.sub(_escape_one, text)


def _escape_one(match: re.Match[str]) -> str:
    character = match.group()
    short = _SHORT.get(character)
    if short is not None:
        return short
    return f"\\x{ord(character):02x}" if character <= "\xff" else f"\\u{ord(character):04x}"


def level_name(record: logging.LogRecord) -> str:
    """Return the level as the log writes it: DEBUG, INFO, WARN, ERROR."""
    return _LEVEL_NAMES.get(record.levelno) or ("ERROR" if record.levelno > logging.ERROR else record.levelname)


class LineFormatter(logging.Formatter):
    """Makes a record into its line, without the final newline.

    An exception adds its type and text to the line; its traceback only `with_tracebacks`, indented below.
    """

    def __init__(self, component: str, *, with_tracebacks: bool = False) -> None:
        super().__init__()
        self._component = component
        self._with_tracebacks = with_tracebacks
        self._timestamps = Timestamps()

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = (
            f"[{self._component}] {self._timestamps.text(record.created)} "
            f"{escape(record.filename)}:{record.lineno} [{level_name(record)}] {escape(_cut(record.getMessage()))}"
        )
        if record.exc_info and record.exc_info[1] is not None:
            line += self._describe_exception(record.exc_info[1])
        return line

    def _describe_exception(self, error: BaseException) -> str:
        summary = _summary(error)
        if not self._with_tracebacks:
            return summary
        lines = "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LIMIT:]
        return summary + "".join(f"\n    {escape(_cut(line))}" for line in lines)


def one_line(record: logging.LogRecord) -> str:
    """Return what a record says as the log writes it, without the traceback. Raises what a wrong log call raises."""
    message = escape(_cut(record.getMessage()))
    return message + _summary(record.exc_info[1]) if record.exc_info and record.exc_info[1] is not None else message


def _summary(error: BaseException) -> str:
    return escape(_cut(f": {type(error).__name__}: {error}"))


def _cut(text: str) -> str:
    return text if len(text) <= LINE_LIMIT else f"{text[:LINE_LIMIT]}… ({len(text) - LINE_LIMIT} characters more)"


class LogWriter(logging.Handler):
    """A handler that never waits: it queues lines, and a thread of its own writes them to `fd`.

    `start_logging` makes one and attaches it to its loggers. The thread is a daemon: a reader that never reads
    can't keep the process alive. `fd` is neither closed nor made non-blocking (other processes share it); both kinds
    work.
    """

    def __init__(self, formatter: LineFormatter, fd: int) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._fd = fd
        # Its put() may be interrupted by another put() on the same thread (a destructor that logs); a lock may not.
        self._queue: SimpleQueue[bytes] = SimpleQueue()
        self._bytes_queued = 0
        self._bytes_taken = 0
        self._dropped = 0  # counted by those who log; the writer thread counts what a full disk refused
        self._refused = 0
        self._told = 0
        self._is_dropping = False
        self._is_closed = False
        self._gave_up = threading.Event()
        self._is_mid_line = False
        self._attached: list[tuple[logging.Logger, int, bool]] = []
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)
        self._thread = threading.Thread(target=self._run, name="log writer", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many lines were dropped so far because the queue, or the disk, was full."""
        return self._dropped + self._refused

    def attach(self, logger: logging.Logger, level: int) -> None:
        """Take over `logger` at `level`, and all below it, until `close`."""
        self._attached.append((logger, logger.level, logger.propagate))
        logger.addHandler(self)
        logger.setLevel(level)
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line; never raise, never wait."""
        try:
            line = self.format(record)
        except Exception as exc:  # a wrong log call, or an object whose __str__ fails, must not end what logs
            text = record.msg if isinstance(record.msg, str) else type(record.msg).__name__
            failed = f"{text} (this log call failed: {type(exc).__name__})"
            args = (record.name, record.levelno, record.pathname, record.lineno, failed, None, None)
            line = self.format(logging.LogRecord(*args))
        self._put(line.encode() + b"\n")

    def write_line(self, line: bytes) -> None:
        """Queue a finished line, or several, which end with a line break; never wait."""
        self._put(line)

    def close(self, timeout: float = 1.0) -> None:
        """Detach, write what waits, and end the thread; give up what is not written after `timeout` seconds."""
        for logger, level, propagate in self._attached:
            logger.removeHandler(self)
            logger.setLevel(level)
            logger.propagate = propagate
        self._attached.clear()
        if not self._is_closed:
            self._is_closed = True
            self._queue.put(_END)
        self._thread.join(timeout)
        self._gave_up.set()
        super().close()

    def _put(self, line: bytes) -> None:
        if self._is_closed:
            return
        waiting = self._bytes_queued - self._bytes_taken
        if waiting + len(line) > QUEUE_LIMIT or (self._is_dropping and waiting > QUEUE_LIMIT // 2):
            self._is_dropping = True  # until half is free: one notice for a long stretch, not one per line
            self._dropped += line.count(b"\n")
            return
        if self._is_dropping:
            self._is_dropping = False
            self._queue.put(_NOTICE)
        self._bytes_queued += len(line)
        self._queue.put(line)

    # The rest runs on the writer thread.

    def _run(self) -> None:
        pending: bytes | None = None
        try:
            while True:
                item = pending if pending is not None else self._take()
                pending = None
                if item is _END:
                    self._tell_dropped()
                    return
                if item is _NOTICE:
                    self._tell_dropped()
                    continue
                batch, pending = self._fill(item)
                if not self._write(batch):
                    self._refused += batch.count(b"\n")
        except OSError:
            # EPIPE, EIO or EBADF: nobody will ever read this again, and there is nowhere to say so.
            self._is_closed = True

    def _take(self) -> bytes:
        try:
            return self._queue.get_nowait()
        except Empty:
            self._tell_dropped()
            return self._queue.get()

    def _fill(self, line: bytes) -> tuple[bytes, bytes | None]:
        """Return `line` with those behind it that fit into one write, and the item that did not."""
        batch = [line]
        size = len(line)
        self._bytes_taken += size
        while True:
            try:
                item = self._queue.get_nowait()
            except Empty:
                return b"".join(batch), None
            if item is _END or item is _NOTICE or size + len(item) > _WRITE_LIMIT:
                return b"".join(batch), item
            batch.append(item)
            size += len(item)
            self._bytes_taken += len(item)

    def _tell_dropped(self) -> None:
        lost = self.dropped - self._told
        if not lost:
            return
        text = f"{lost} log line{'s' if lost > 1 else ''} dropped: this log was not read or stored fast enough"
        here = self._tell_dropped.__code__.co_firstlineno
        record = logging.LogRecord(__name__, logging.WARNING, __file__, here, text, None, None)
        if self._write(self.format(record).encode() + b"\n"):
            self._told += lost

    def _write(self, data: bytes) -> bool:
        """Write all of `data`; on a full disk drop it and return False. Raise OSError when `fd` is gone for good."""
        rest = memoryview(b"\n" + data if self._is_mid_line else data)
        while rest:
            if not self._wait_until_writable():
                return False
            try:
                written = os.write(self._fd, rest[:_WRITE_LIMIT])
            except BlockingIOError:
                continue
            except OSError as exc:
                if exc.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                return False
            rest = rest[written:]
            self._is_mid_line = bool(rest)
        return True

    def _wait_until_writable(self) -> bool:
        """Wait until `fd` takes bytes or reports an error; False when `close` has given up."""
        while not self._gave_up.is_set():
            if self._poll.poll(_POLL_MS):
                return True
        return False


def start_logging(level: str, component: str = "lb", fd: int = 1) -> LogWriter:
    """Send the logger `component` and asyncio's to `fd`, from `level` ("debug", "info", "warn", "error") up.

    asyncio's reports (a callback that raised, a task's lost exception) come from `warn` up. Tracebacks are written only
    at "debug". Raise ValueError for another level.
    """
    if level not in LEVELS:
        raise ValueError(f"log level {level!a}: one of {', '.join(LEVELS)} is needed")
    number = LEVELS[level]
    writer = LogWriter(LineFormatter(component, with_tracebacks=number <= logging.DEBUG), fd)
    writer.attach(logging.getLogger(component), number)
    writer.attach(logging.getLogger("asyncio"), max(number, logging.WARNING))
    return writer
