"""What a change costs: two podlbs in turn."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.measure import Sample
from bench.pairs import main, ratio, side
from bench.peers.peer import Setting
from bench.proc import BenchError


def sample(peer: str, turn: int, cpu_seconds: float, non_2xx: int = 0) -> Sample:
    return Sample("small", peer, turn, 1000, 5.0, cpu_seconds, 1.0, 2.0, 1 << 20, non_2xx, 0, 1000, 0)


def test_a_side_is_a_checkout_and_flags(tmp_path: Path) -> None:
    argv = side("after", "../there --access-log json").argv(Setting(1234, 1235, ("127.0.0.1:80",), tmp_path))
    assert argv[:3] == ["env", "-C", "../there"]
    assert argv[-2:] == ["--access-log", "json"]
    assert "1234" in argv


def test_the_ratio_is_that_of_each_round() -> None:
    # The machine is twice as slow in the second and third round.
    costs = [(0, 1.0, 1.1), (1, 2.0, 2.2), (2, 2.0, 2.2)]
    samples = [
        sample(peer, turn, cost) for turn, *both in costs for peer, cost in zip(("before", "after"), both, strict=True)
    ]
    found = ratio(samples)
    assert (found.median, found.low, found.high) == pytest.approx((1.1, 1.1, 1.1))


def test_where_requests_failed_nothing_is_said() -> None:
    with pytest.raises(BenchError, match="3 requests failed"):
        ratio([sample("before", 0, 1.0), sample("after", 0, 1.0, non_2xx=3)])


@pytest.mark.slow
def test_a_checkout_beside_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([".", ". --access-log json", "--pairs", "2", "--seconds", "1"]) == 0
    assert "CPU per request, after / before: " in capsys.readouterr().out


def test_a_checkout_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["/nothing/here", ".", "--pairs", "1", "--seconds", "1"]) == 1
    assert "before" in capsys.readouterr().err
