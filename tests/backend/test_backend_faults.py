from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.faults import MODES, Faults
from backend.parameters import BadValueError


def order(**keys: object) -> bytes:
    return json.dumps(keys).encode()


def never() -> float:
    raise AssertionError("no chance was to be taken")


def constant(number: float) -> Callable[[], float]:
    return lambda: number


def test_without_an_order_nothing_is_hit() -> None:
    faults = Faults(never)
    assert faults.hit(0.0, is_probe=False) is None
    assert faults.describe(0.0) == {"mode": None}


@pytest.mark.parametrize("mode", MODES)
def test_each_mode_hits_until_cleared(mode: str) -> None:
    faults = Faults(constant(0.999))
    faults.order(order(mode=mode), now=5.0)
    fault = faults.hit(1e9, is_probe=False)
    assert fault is not None
    assert fault.mode == mode
    faults.clear()
    assert faults.hit(1e9, is_probe=False) is None


def test_it_ends_when_its_time_is_over() -> None:
    faults = Faults(constant(0.0))
    faults.order(order(mode="hang", **{"for": "30s"}), now=100.0)
    assert faults.hit(129.999, is_probe=False) is not None
    assert faults.describe(110.0)["remaining"] == 20.0
    assert faults.hit(130.0, is_probe=False) is None
    assert faults.describe(130.0) == {"mode": None}


def test_a_new_order_replaces_the_old_one() -> None:
    faults = Faults(constant(0.0))
    faults.order(order(mode="hang", **{"for": "1s"}), now=0.0)
    faults.order(order(mode="slow", delay="70ms"), now=0.0)
    fault = faults.hit(2.0, is_probe=False)
    assert fault is not None
    assert (fault.mode, fault.delay) == ("slow", pytest.approx(0.07))


def test_share_is_the_share_of_requests_that_are_hit() -> None:
    numbers = iter([0.0, 0.49, 0.5, 0.99])
    faults = Faults(lambda: next(numbers))
    faults.order(order(mode="hang", share=0.5), now=0.0)
    hits = [faults.hit(1.0, is_probe=False) is not None for _ in range(4)]
    assert hits == [True, True, False, False]
    assert faults.describe(1.0)["hits"] == 2


@pytest.mark.parametrize(("share", "is_hit"), [(0, False), (1, True)])
def test_the_extremes_of_share_leave_nothing_to_chance(share: int, is_hit: bool) -> None:
    for number in (0.0, 1 - 2**-53):
        faults = Faults(constant(number))
        faults.order(order(mode="hang", share=share), now=0.0)
        assert (faults.hit(0.0, is_probe=False) is not None) is is_hit


@pytest.mark.parametrize(("mode", "hits_probes"), [("hang", False), ("slow", False), ("exit", False)])
def test_modes_that_look_healthy_spare_probes_unless_told(mode: str, hits_probes: bool) -> None:
    faults = Faults(constant(0.0))
    faults.order(order(mode=mode), now=0.0)
    assert (faults.hit(0.0, is_probe=True) is not None) is hits_probes
    faults.order(order(mode=mode, probes=True), now=0.0)
    assert faults.hit(0.0, is_probe=True) is not None


@pytest.mark.parametrize("mode", ["reset", "fast503"])
def test_other_modes_hit_probes_unless_told(mode: str) -> None:
    faults = Faults(constant(0.0))
    faults.order(order(mode=mode), now=0.0)
    assert faults.hit(0.0, is_probe=True) is not None
    faults.order(order(mode=mode, probes=False), now=0.0)
    assert faults.hit(0.0, is_probe=True) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", 'the body: expected a JSON object such as {"mode": "hang", "for": "30s"}'),
        (b"[]", 'the body: expected a JSON object such as {"mode": "hang", "for": "30s"}'),
        (b"\xff", 'the body: expected a JSON object such as {"mode": "hang", "for": "30s"}'),
        (b"[" * 16_000, 'the body: expected a JSON object such as {"mode": "hang", "for": "30s"}'),
        (order(), "mode: expected exit, hang, reset, fast503, slow, got None"),
        (order(mode="die"), "mode: expected exit, hang, reset, fast503, slow, got 'die'"),
        (order(mode=["hang"]), "mode: expected exit, hang, reset, fast503, slow, got ['hang']"),
        (order(mode="hang", fro="1s"), "fro: unknown, expected mode, for, share, probes, delay"),
        (order(mode="hang", share=1.1), "share: expected a number from 0 to 1, got 1.1"),
        (order(mode="hang", share=True), "share: expected a number from 0 to 1, got True"),
        (order(mode="hang", share="0.5"), "share: expected a number from 0 to 1, got '0.5'"),
        (b'{"mode": "hang", "share": NaN}', "share: expected a number from 0 to 1, got nan"),
        (order(mode="hang", probes=1), "probes: expected true or false, got 1"),
        (order(mode="hang", **{"for": 30}), 'for: expected a duration such as "30s", got 30'),
        (order(mode="hang", **{"for": "30"}), "for: expected a duration such as 50ms or 1.5s, got '30'"),
        (order(mode="slow", delay="x"), "delay: expected a duration such as 50ms or 1.5s, got 'x'"),
    ],
)
def test_a_bad_order_is_refused_with_the_reason_and_changes_nothing(body: bytes, reason: str) -> None:
    faults = Faults(constant(0.0))
    faults.order(order(mode="slow"), now=0.0)
    with pytest.raises(BadValueError) as raised:
        faults.order(body, now=0.0)
    assert str(raised.value) == reason
    assert faults.describe(0.0)["mode"] == "slow"


@given(
    st.binary() | st.dictionaries(st.sampled_from(["mode", "for", "share"]), st.text() | st.floats()).map(json.dumps)
)
def test_any_body_is_an_order_or_a_bad_value(body: bytes | str) -> None:
    faults = Faults(constant(0.0))
    try:
        faults.order(body.encode() if isinstance(body, str) else body, now=0.0)
    except BadValueError:
        assert faults.active(0.0) is None
    else:
        assert faults.describe(0.0)["mode"] in (*MODES, None)
