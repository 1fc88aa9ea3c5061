"""What the log is told, and how often."""

from __future__ import annotations

import pytest

from lb.discovery.notices import Notices


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def notices(clock: Clock, caplog: pytest.LogCaptureFixture) -> Notices:
    caplog.set_level("DEBUG")
    return Notices(clock)


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [f"{record.levelname} {record.getMessage()}" for record in caplog.records]


def test_what_lasts_is_told_once(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    for text in ("one", "two", "one", "two"):
        notices.warn_once(text)
    assert told(caplog) == ["WARNING one", "WARNING two"]


def test_not_without_end(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    """A fault whose text is another each time."""
    for number in range(2000):
        notices.warn_once(str(number))
    assert len(caplog.records) == 1000


@pytest.mark.parametrize("count", [0, 1, 200])
def test_changes_are_told_one_by_one(count: int, notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    notices.changes([f"pod {number}" for number in range(count)])
    assert told(caplog) == [f"INFO pod {number}" for number in range(count)]


def test_of_very_many_the_number(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    notices.changes([f"pod {number}" for number in range(203)])
    assert told(caplog)[199:] == ["INFO pod 199", "INFO 3 more endpoints were added, updated or deleted"]


def test_an_outage_is_told_by_its_beginning_and_its_end(
    notices: Notices, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    notices.answered()
    notices.away("no answer", has_list=True)
    clock.now += 1.5
    notices.away("no connection", has_list=True)
    clock.now += 1.0
    notices.answered()
    notices.answered()
    assert told(caplog) == [
        "WARNING no answer; the endpoints that are known stay in use, and it is tried again",
        "DEBUG no connection",
        "INFO the API server answers again, after 2.5 s",
    ]


def test_at_a_start_nothing_stays_in_use(notices: Notices, caplog: pytest.LogCaptureFixture) -> None:
    notices.away("no answer", has_list=False)
    assert told(caplog) == ["WARNING no answer; it is tried again"]
