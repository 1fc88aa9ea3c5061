"""The micro-benchmarks measure what they say: every part runs, and the hot path really carries requests."""

from __future__ import annotations

import pytest

from bench.micro.fixtures import SMALL, HotPath, browser_heads
from bench.micro.parts import PARTS, Part
from lb.metrics import ENDED_OK, EXCHANGES


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_part_runs(part: Part) -> None:
    part.run()
    part.run()


@pytest.mark.parametrize("parser", ["auto", "h11"])
def test_the_hot_path_answers_every_request(parser: str) -> None:
    path = HotPath(parser=parser)
    for head in [SMALL, SMALL, *browser_heads(3)]:
        path.exchange(head)
    path.proxy.outbox.flush()
    values = path.proxy.counters
    assert values[EXCHANGES] == values[ENDED_OK] == 5
    assert path.client.writes == 5
    path.close()


def test_browser_heads_all_differ_and_have_the_size_of_a_browsers() -> None:
    heads = browser_heads(100)
    assert len(set(heads)) == 100
    assert all(550 < len(head) < 750 for head in heads)


def test_what_a_request_passes_has_its_part_and_its_budget() -> None:
    budgeted = [part.name for part in PARTS if part.budget is not None]
    for word in ("head", "framing", "forwarding", "response head", "pick", "checkout", "timer", "counters", "times"):
        assert any(word in name for name in budgeted), word
    # h11 is not ours to make cheaper.
    assert not [name for name in budgeted if "h11" in name]
