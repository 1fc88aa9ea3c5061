"""Which entries are written to the access log, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lb.access_log import json_line, text_line
from lb.access_logger import LATEST_SECONDS, AccessLogger
from tests.test_access_log import USUAL


class Bench:
    """A logger, what it has written, and what is to be called later."""

    def __init__(self, form: Any = "json", sample: float = 1.0, random: Callable[[], float] = lambda: 0.999) -> None:
        self.written: list[bytes] = []
        self.due: list[tuple[float, Callable[[], None]]] = []
        self.logger = AccessLogger(
            form,
            sample,
            self.written.append,
            random=random,
            call_later=lambda seconds, call: self.due.append((seconds, call)),
        )


@pytest.mark.parametrize(("form", "line"), [("text", text_line), ("json", json_line)])
def test_lines_are_written_together_and_soon(form: str, line: Any) -> None:
    bench = Bench(form)
    bench.logger.log(USUAL)
    bench.logger.write(b"a line\n")
    assert bench.written == []
    [(seconds, call)] = bench.due
    assert seconds == LATEST_SECONDS
    call()
    assert bench.written == [line(USUAL) + b"a line\n"]
    bench.logger.write(b"another\n")
    assert len(bench.due) == 2
    bench.due[1][1]()
    assert bench.written[1:] == [b"another\n"]


def test_many_lines_are_written_at_once() -> None:
    bench = Bench()
    lines = [b"%05d %s\n" % (number, b"x" * 93) for number in range(1000)]
    for line in lines:
        bench.logger.write(line)
    assert 2 <= len(bench.written) <= 4
    assert max(map(len, bench.written)) < 33000
    assert len(bench.due) == 1
    bench.logger.flush()
    assert b"".join(bench.written) == b"".join(lines)
    before = len(bench.written)
    bench.due[0][1]()
    bench.logger.flush()
    assert len(bench.written) == before


def test_a_share_is_drawn() -> None:
    draws = iter([0.0, 0.24, 0.25, 0.9])
    logger = Bench(sample=0.25, random=lambda: next(draws)).logger
    assert [logger.wants() for _ in range(4)] == [True, True, False, False]


def test_all_and_none_need_no_luck() -> None:
    def never() -> float:
        raise AssertionError

    assert Bench(random=never).logger.wants()
    assert not Bench(sample=0.0, random=lambda: 0.0).logger.wants()
