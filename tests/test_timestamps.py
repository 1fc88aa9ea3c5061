"""Instants as text."""

from __future__ import annotations

from lb.timestamps import Timestamps


def test_whatever_the_order() -> None:
    timestamps = Timestamps()
    second = 1_795_512_600
    found = [timestamps.text(second + more) for more in (0.5, 0.75, 1.0, 60.25, 0.0)]
    assert found == [f"2026-11-24T09:3{rest}Z" for rest in ("0:00.500", "0:00.750", "0:01.000", "1:00.250", "0:00.000")]
