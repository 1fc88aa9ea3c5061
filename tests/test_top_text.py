"""Figures as short texts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lb import top_text


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0.00 ms"),
        (0.000123, "0.12 ms"),
        (0.00999, "9.99 ms"),
        (0.01234, "12.3 ms"),
        (0.1234, "123 ms"),
        (0.9996, "1.00 s"),
        (12.34, "12.3 s"),
        (1000.0, "1000 s"),
    ],
)
def test_seconds(value: float | None, shown: str) -> None:
    assert top_text.seconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1, "0 s"), (59.9, "59 s"), (60, "1 min"), (3599, "59 min"), (11100, "3 h 05 min"), (187200, "2 d 4 h")],
)
def test_age(value: float, shown: str) -> None:
    assert top_text.age(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "-"),
        (0.0, "0 %"),
        (1.0, "100 %"),
        (0.5, "50.0 %"),
        (0.99999, "99.99 %"),
        (0.9995, "99.95 %"),
        (0.00001, "0.01 %"),
    ],
)
def test_share(value: float | None, shown: str) -> None:
    assert top_text.share(value) == shown


@given(st.floats(0, 1))
def test_only_all_is_all_and_only_nothing_is_nothing(value: float) -> None:
    assert (top_text.share(value) == "100 %") is (value == 1)
    assert (top_text.share(value) == "0 %") is (value == 0)
    assert float(top_text.share(value).split()[0]) == pytest.approx(value * 100, abs=0.06)


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), (0.25, "0.2"), (9.96, "10"), (8431.4, "8,431")])
def test_rate(value: float, shown: str) -> None:
    assert top_text.rate(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0 B"), (312.4, "312 B"), (999.7, "1.0 kB"), (34_000_000, "34 MB"), (1.2e9, "1.2 GB"), (5e15, "5000 TB")],
)
def test_size(value: float, shown: str) -> None:
    assert top_text.size(value) == shown
