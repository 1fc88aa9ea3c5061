"""What the terminal shows of a view, at any size."""

from __future__ import annotations

import io
from typing import Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from lb.stats_model import EndpointStats, LogEvent, Stats
from lb.top import View, view
from lb.top_screen import choose_columns, frame, state_of
from tests.test_stats_model import endpoint_stats, stats
from tests.test_top import times_of

EVENTS = [LogEvent("2026-11-24T09:30:00.123Z", "WARN", "proxy", f"endpoint {n} is set aside") for n in range(20)]


def some(count: int) -> list[EndpointStats]:
    """Return endpoints, of which the last is set aside and the one before it fails."""
    found = [
        endpoint_stats(
            f"10.0.0.{n}:8080",
            name=f"backend-5d9c8b7f4-{n:05d}",
            node="node-1",
            zone="zone-a",
            picks=100,
            responses={"2xx": 100},
            reuses=99,
            connects=1,
            since=75.0,
            active=3,
            times=times_of({100 + n % 50: 100}),
        )
        for n in range(1, count + 1)
    ]
    if count > 1:
        found[-2] = msgspec.structs.replace(found[-2], responses={"2xx": 50, "5xx": 50})
    if count:
        found[-1] = msgspec.structs.replace(
            found[-1], state="set aside", reason="connect refused", since=6.0, seconds_left=1.6
        )
    return found


def reading(count: int) -> Stats:
    made = stats(*some(count), uptime=100.0, exchanges=1000, ends={"ok": 990, "connect_refused": 10}, open=12)
    return msgspec.structs.replace(made, events=EVENTS)


def draw(shown: View | None, width: int, height: int | None, *, error: str = "", colours: bool = False) -> str:
    target = io.StringIO()
    system: Literal["standard"] | None = "standard" if colours else None
    console = Console(file=target, width=width, height=height or 100, force_terminal=colours, color_system=system)
    console.print(frame(shown, admin="127.0.0.1:8081", error=error, width=width, height=height))
    return target.getvalue()


def test_all_of_it_where_there_is_room() -> None:
    text = draw(view(None, reading(3)), 200, 40)
    for word in ("1.2.3", "127.0.0.1:8081", "up 1 min", "requests/s 10", "success 99.0 %", "in flight 12"):
        assert word in text
    assert "failed connect_refused 10" in text
    for title in ("endpoint", "state", "share/due", "req/s", "success", "p50", "p99", "active", "reuse", "weight"):
        assert f" {title}" in f" {text}"
    for word in ("backend-5d9c8b7f4-00001", "node-1", "zone-a", "50.0 %", "99%", "33%/0%"):
        assert word in text
    assert "set aside 6 s: connect refused, 2 s left" in text
    assert "available 1 min" in text
    assert "09:30:00 WARN proxy: endpoint 19 is set aside" in text


@pytest.mark.parametrize("width", [80, 100, 120])
def test_narrow_terminals_keep_what_matters(width: int) -> None:
    text = draw(view(None, reading(3)), width, 24)
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    for word in ("10.0.0.1:8080", "set aside 6 s: connect refused", "req/s", "success", "50.0 %", "p99"):
        assert word in text
    assert ("-00001" in text) is (width >= 100)
    assert ("share/due" in text) is (width >= 120)
    assert "zone-a" not in text


def test_the_worst_are_shown_where_not_all_can_be() -> None:
    text = draw(view(None, reading(50)), 100, 24)
    lines = text.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("endpoint "))
    assert lines[first + 1].startswith("10.0.0.50:8080")
    assert lines[first + 2].startswith("10.0.0.49:8080")
    shown = sum(line.startswith("10.0.0.") for line in lines)
    assert f"and {50 - shown} more" in text
    assert len(lines) <= 24


def test_all_of_them_where_there_is_no_end() -> None:
    text = draw(view(None, reading(50)), 100, None)
    assert sum(line.startswith("10.0.0.") for line in text.splitlines()) == 50
    assert text.index("10.0.0.1:8080") < text.index("10.0.0.50:8080"), "in the order of rotation"
    assert "more" not in text


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 60), st.integers(20, 220), st.integers(8, 60))
def test_it_fits(count: int, width: int, height: int) -> None:
    lines = draw(view(None, reading(count)), width, height).splitlines()
    assert len(lines) <= height
    assert all(len(line.rstrip()) <= width for line in lines)


@given(st.integers(0, 300))
def test_columns_fit_from_forty_seven_on(width: int) -> None:
    rows = view(None, reading(3)).rows
    columns = choose_columns(rows, width)
    taken = sum(wide for _, wide in columns) + 2 * (len(columns) - 1)
    assert taken <= max(width, 47)
    assert [column.title for column, _ in columns][:2] == ["endpoint", "state"]


def test_colours_say_nothing_that_words_do_not() -> None:
    shown = view(None, reading(3))
    assert "\x1b[" in draw(shown, 120, 40, colours=True)
    assert "\x1b" not in draw(shown, 120, 40)
    for row in shown.rows:
        assert state_of(row).startswith(row.state)


def test_nobody_answers() -> None:
    assert draw(None, 100, 24, error="Connection refused").split("\n")[:2] == [
        "127.0.0.1:8081 can't be asked: Connection refused",
        "trying again",
    ]
    text = draw(view(None, reading(2)), 100, 24, error="Connection refused")
    assert text.startswith(
        "127.0.0.1:8081 can't be asked: Connection refused\ntrying again; these are the last figures:"
    )
    assert "10.0.0.1:8080" in text


def test_without_endpoints_and_in_a_panic() -> None:
    assert "requests/s 0" in draw(view(None, stats()), 80, 24)
    assert "PANIC" in draw(view(None, stats(is_panicking=True)), 80, 24)
    assert "PANIC" not in draw(view(None, stats()), 80, 24)


def test_markup_in_names_is_text() -> None:
    made = msgspec.structs.replace(
        stats(endpoint_stats("[red]", name="[/x]")), events=[LogEvent("t", "INFO", "a", "[b]")]
    )
    text = draw(view(None, made), 120, 24)
    for word in ("[red]", "[/x]", "[b]"):
        assert word in text


def test_a_name_that_is_the_address_is_not_shown_twice() -> None:
    def titles(name: str) -> list[str]:
        rows = view(None, stats(endpoint_stats("10.0.0.1:80", name=name))).rows
        return [column.title for column, _ in choose_columns(rows, 120)]

    assert "pod" in titles("backend-1")
    assert "pod" not in titles("10.0.0.1")
