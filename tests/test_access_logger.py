"""Which entries are written to the access log, and how."""

from __future__ import annotations

import pytest

from lb.access_log import json_line, text_line
from lb.access_logger import AccessLogger
from tests.test_access_log import USUAL


@pytest.mark.parametrize(("form", "line"), [("text", text_line), ("json", json_line)])
def test_each_is_a_line(form: str, line: object) -> None:
    lines: list[bytes] = []
    AccessLogger(form, 1.0, lines.append, random=lambda: 0.999).log(USUAL)  # type: ignore[arg-type]
    assert lines == [line(USUAL)]  # type: ignore[operator]


def test_a_share_is_drawn() -> None:
    draws = iter([0.0, 0.24, 0.25, 0.9])
    logger = AccessLogger("json", 0.25, lambda line: None, random=lambda: next(draws))
    assert [logger.wants() for _ in range(4)] == [True, True, False, False]


def test_all_and_none_need_no_luck() -> None:
    def never() -> float:
        raise AssertionError

    assert AccessLogger("json", 1.0, lambda line: None, random=never).wants()
    assert not AccessLogger("json", 0.0, lambda line: None, random=lambda: 0.0).wants()
