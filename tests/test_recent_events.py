"""The last lines of the log, as they are kept for the admin port."""

from __future__ import annotations

import logging
import sys
import threading

from hypothesis import given
from hypothesis import strategies as st

from lb.logs import LineFormatter
from lb.recent_events import KEPT, LONGEST, RecentEvents
from lb.stats_model import LogEvent


def record(message: str, *args: object, level: int = logging.INFO, created: float = 0.0) -> logging.LogRecord:
    made = logging.LogRecord("lb.server", level, "/x/server.py", 42, message, args, None)
    made.created = created
    return made


def test_an_event_in_its_parts() -> None:
    events = RecentEvents()
    events.handle(record("listening on %s", "0.0.0.0:8080", created=1795415101.123))
    assert events.last() == [LogEvent("2026-11-23T06:25:01.123Z", "INFO", "server", "listening on 0.0.0.0:8080")]


def test_from_info_up_and_of_the_logger_it_is_attached_to() -> None:
    events = RecentEvents()
    logger = logging.getLogger("lb.test_recent_events")
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    logger.addHandler(events)
    try:
        logger.debug("quiet")
        logger.info("told")
        logger.warning("loud")
        logging.getLogger("asyncio").error("elsewhere")
    finally:
        logger.removeHandler(events)
    assert [(event.level, event.message) for event in events.last()] == [("INFO", "told"), ("WARN", "loud")]


def test_the_last_ones_are_kept() -> None:
    events = RecentEvents()
    for number in range(KEPT + 7):
        events.emit(record("%d", number))
    assert [event.message for event in events.last()] == [str(number) for number in range(7, KEPT + 7)]


@given(st.text(max_size=50))
def test_it_says_what_the_log_says(message: str) -> None:
    made = record("%s", message)
    events = RecentEvents()
    events.emit(made)
    (event,) = events.last()
    assert LineFormatter("lb").format(made) == f"[lb] {event.time} server.py:42 [INFO] {event.message}"
    assert "\n" not in event.message
    assert "\x1b" not in event.message


def test_an_exception_is_told_without_its_traceback() -> None:
    events = RecentEvents()
    try:
        raise ValueError("of no use\nat all")
    except ValueError:
        made = record("it failed")
        made.exc_info = sys.exc_info()
    events.emit(made)
    assert events.last()[0].message == r"it failed: ValueError: of no use\nat all"


def test_a_wrong_log_call_ends_nothing() -> None:
    events = RecentEvents()
    events.emit(record("%d", "no number"))
    assert events.last()[0].message == "(a log call failed: TypeError)"


def test_a_long_message_is_cut() -> None:
    events = RecentEvents()
    events.emit(record("x" * 100_000))
    message = events.last()[0].message
    assert (len(message), message[-1]) == (LONGEST, "…")


def test_many_threads_at_once() -> None:
    events = RecentEvents(kept=10)
    threads = [
        threading.Thread(target=lambda: [events.handle(record("x")) for _ in range(500)], daemon=True) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert len(events.last()) <= 10
    assert len(events.last()) == 10
