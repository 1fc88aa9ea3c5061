"""How far a run is: lines for a pipe, a bar on a terminal, and what it reckons."""

from __future__ import annotations

import builtins
import contextlib
import dataclasses
import io
import os
import pty
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from bench import cli, idle, measure, progress
from bench.load import SCENARIOS
from bench.peers import PEERS
from bench.proc import Cores


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def bar(clock: Clock, planned: float, width: int = 100) -> tuple[progress.Bar, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=width, color_system=None)
    return progress.Bar(console, progress.Pace(planned, clock)), out


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_pipe_gets_the_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", out := io.StringIO())
    with progress.shown(60.0) as show:
        show.began("small, round 1 of 11", "haproxy", 2)
        show.line("small: round 1")
    assert out.getvalue() == "small: round 1\n"


def test_without_rich_a_terminal_gets_the_lines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without_rich(
        name: str,
        globals: Mapping[str, Any] | None = None,
        locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] = (),
        level: int = 0,
    ) -> Any:
        if name.partition(".")[0] == "rich":
            raise ImportError(name)
        return found(name, globals, locals, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    monkeypatch.setattr(sys, "stderr", out := Terminal())
    with progress.shown(60.0) as show:
        show.began("small, round 1 of 11", "haproxy", 2)
        show.line("small: round 1")
    assert out.getvalue() == "small: round 1\n"


@pytest.mark.parametrize(("kind", "drawn"), [("xterm-256color", True), ("dumb", False)])
def test_a_terminal_gets_a_bar_if_it_can_show_one(kind: str, drawn: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    master, slave = pty.openpty()
    monkeypatch.setenv("TERM", kind)
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with progress.shown(60.0) as show:
            show.began("small, round 1 of 11", "haproxy", 2)
            show.line("small: round 1")
    written = []
    with os.fdopen(master, "rb", buffering=0) as reader, contextlib.suppress(OSError):
        # A terminal hands over its bytes piece by piece. Behind the last of them Linux has EIO, others an end.
        while piece := reader.read(65536):
            written.append(piece)
    text = b"".join(written).decode()
    assert ("small, round 1 of 11: haproxy" in text) is drawn
    assert "small: round 1\r\n" in text


def test_the_bar_says_what_is_under_load_and_for_how_long() -> None:
    clock = Clock()
    shown, out = bar(clock, planned=40.0)
    with shown:
        shown.began("small, round 1 of 2", "haproxy", 10)
        assert "small, round 1 of 2: haproxy" in out.getvalue()
        assert "0:00, 0:40 left" in out.getvalue()
        clock.now += 12
        shown.line("small: round 1 of 2, [CPU] µs/req")
        shown.began("small, round 2 of 2", "podlb-epoll", 10)
    text = out.getvalue()
    assert "[CPU] µs/req\n" in text
    assert "small, round 2 of 2: podlb-epoll" in text
    # 10 s of the plan took 12: the other 30 will take 36.
    assert "0:12, 0:36 left" in text


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, SystemExit])
def test_the_bar_leaves_a_clean_terminal_however_it_ends(end: type[BaseException] | None) -> None:
    shown, out = bar(Clock(), planned=40.0)

    def block() -> None:
        with shown:
            shown.began("small, round 1 of 2", "haproxy", 10)
            if end is not None:
                raise end

    if end is None:
        block()
    else:
        with pytest.raises(end):
            block()
    hidden, shown_again, erased = "\x1b[?25l", "\x1b[?25h", "\x1b[2K"
    text = out.getvalue()
    assert text.count(hidden) == text.count(shown_again) == 1
    # Behind the last picture the line is erased, and nothing is written any more.
    assert erased in text[text.rindex("left") :]
    assert "haproxy" not in text[text.rindex(erased) :]


def test_a_narrow_terminal_has_room_for_what_ctrl_c_echoes() -> None:
    shown, out = bar(Clock(), planned=40.0, width=40)
    with shown:
        shown.began("upstream-connect, round 1 of 2", "podlb-epoll-h11", 10)
        (line,) = re.findall(r"upstream-connect[^\n\x1b]*", out.getvalue())
        assert 30 < cell_len(line) <= 38


def test_starting_the_contenders_does_not_count_for_the_pace() -> None:
    clock = Clock()
    pace = progress.Pace(100.0, clock)
    clock.now += 30
    pace.began(10)
    assert (pace.elapsed, pace.left) == (30.0, 100.0)
    clock.now += 11
    pace.began(10)
    assert (pace.elapsed, pace.left) == (41.0, pytest.approx(99.0))


def test_more_than_was_planned_leaves_nothing() -> None:
    pace = progress.Pace(10.0, Clock())
    for _ in range(3):
        pace.began(10)
    assert (pace.done, pace.left) == (10.0, 0.0)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (7.4, "0:07"), (59.6, "1:00"), (3599.4, "59:59"), (3723, "1:02:03")]
)
def test_times_are_written_as_people_read_them(seconds: float, text: str) -> None:
    assert progress.clock_time(seconds) == text


def test_each_load_is_told_before_it_begins_and_they_add_up_to_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    peers = [PEERS[name] for name in ("haproxy", "haproxy-splice", "podlb-asyncio")]
    bulk = dataclasses.replace(SCENARIOS["bulk"], check=None)
    plan = measure.Plan([SCENARIOS["small"], bulk], rounds=2, seconds=3)
    told: list[tuple[str, str, float]] = []

    class Everyone:
        def __enter__(self) -> list[measure.Contender]:
            return [measure.Contender(peer, None, 0, None) for peer in peers]  # type: ignore[arg-type]

        def __exit__(self, *_: object) -> None: ...

    def sample(contender: measure.Contender, scenario: Any, turn: int, *_: Any) -> measure.Sample:
        assert told[-1][:2] == (f"{scenario.name}, round {turn + 1} of 2", contender.peer.name)
        return measure.Sample(scenario.name, contender.peer.name, turn, 1, 3.0, 0.1, 1.0, 1.0, 1, 0, 0, 1, 0)

    monkeypatch.setattr(measure, "running", lambda *_, **_behind: Everyone())
    monkeypatch.setattr(measure, "_warm_up", lambda *_: None)
    monkeypatch.setattr(measure, "_measure", sample)
    lines: list[str] = []
    measure.run(peers, plan, Cores(None, None), lines.append, lambda *step: told.append(step))
    assert told[0] == ("small, warming up", "haproxy", 1)
    assert sum(seconds for _, _, seconds in told) == measure.planned_seconds(peers, plan) == (2 + 3) * 7
    assert len(lines) == 2 * (1 + 2)


def test_the_command_plans_the_load_and_the_idle_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[float] = []
    told: list[Callable[..., None]] = []
    real = progress.shown

    def shown(seconds: float) -> Any:
        planned.append(seconds)
        return real(seconds)

    monkeypatch.setattr(cli.progress, "shown", shown)
    monkeypatch.setattr(cli, "require_wrk", lambda: None)
    monkeypatch.setattr(cli, "_usable", lambda *_: [PEERS["podlb-asyncio"]])
    monkeypatch.setattr(cli.measure, "run", lambda *arguments: told.append(arguments[4]) or [])
    monkeypatch.setattr(cli.idle, "measure", lambda *arguments: told.append(arguments[3]) or [])
    assert cli.main(["--scenarios", "small,idle", "--rounds", "2", "--seconds", "3"]) == 0
    assert planned == [1 + 2 * 3 + idle.SECONDS_EACH]
    assert [each.__name__ for each in told] == ["began", "began"]
