from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.parameters import (
    FILLER_LIMIT,
    NO_LOAD,
    BadValueError,
    Load,
    filler,
    parse_duration,
    parse_load,
    parse_quantity,
)

NAMES = ("size", "status", "delay", "cpu", "chunked", "close", "reset", "drip", "error")


@pytest.mark.parametrize(
    ("query", "load"),
    [
        ("", Load()),
        ("size=0", Load(size=0)),
        ("size=512", Load(size=512)),
        ("size=20k", Load(size=20_480)),
        ("size=3m", Load(size=3_145_728)),
        ("status=503", Load(status=503)),
        ("delay=50ms", Load(delay=0.05)),
        ("delay=1.5s", Load(delay=1.5)),
        ("cpu=10ms", Load(cpu=0.01)),
        ("chunked=1", Load(chunked=True)),
        ("chunked=0", Load(chunked=False)),
        ("close=1", Load(close=True)),
        ("reset=1", Load(reset=True)),
        ("drip=10", Load(drip=10)),
        ("drip=2k", Load(drip=2048)),
        ("error=5%", Load(error=0.05)),
        ("error=5%25", Load(error=0.05)),
        ("error=5%&size=1", Load(error=0.05, size=1)),
        ("error=0%", Load(error=0.0)),
        ("error=100%", Load(error=1.0)),
        ("error=0.5%", Load(error=0.005)),
        ("%73ize=1", Load(size=1)),
        ("x=1&x=2&size=1&&y", Load(size=1)),
        (
            "size=1&status=404&delay=1ms&cpu=2ms&chunked=1&close=1&drip=5",
            Load(1, 404, 0.001, 0.002, True, True, drip=5),
        ),
    ],
)
def test_a_good_query_is_understood(query: str, load: Load) -> None:
    parsed = parse_load(query)
    assert parsed._replace(delay=0, cpu=0) == load._replace(delay=0, cpu=0)
    assert (parsed.delay, parsed.cpu) == pytest.approx((load.delay, load.cpu))


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("size=", "size: expected bytes such as 512, 20k or 3m, got ''"),
        ("size", "size: expected bytes such as 512, 20k or 3m, got ''"),
        ("size=20kb", "size: expected bytes such as 512, 20k or 3m, got '20kb'"),
        ("size=-1", "size: expected bytes such as 512, 20k or 3m, got '-1'"),
        ("size=1.5k", "size: expected bytes such as 512, 20k or 3m, got '1.5k'"),
        ("size=1_0", "size: expected bytes such as 512, 20k or 3m, got '1_0'"),
        ("size=%D9%A3", "size: expected bytes such as 512, 20k or 3m, got '\u0663'"),
        ("size=1%0A", "size: expected bytes such as 512, 20k or 3m, got '1\\n'"),
        ("size=16385m", "size: expected at most 16384m, got '16385m'"),
        ("size=1&size=1", "size: given twice, expected once"),
        ("status=199", "status: expected a status from 200 to 599, got '199'"),
        ("status=600", "status: expected a status from 200 to 599, got '600'"),
        ("status=0200", "status: expected a status from 200 to 599, got '0200'"),
        ("delay=50", "delay: expected a duration such as 50ms or 1.5s, got '50'"),
        ("delay=-1s", "delay: expected a duration such as 50ms or 1.5s, got '-1s'"),
        ("delay=nans", "delay: expected a duration such as 50ms or 1.5s, got 'nans'"),
        ("delay=86401s", "delay: expected at most 86400s, got '86401s'"),
        ("cpu=1m", "cpu: expected a duration such as 50ms or 1.5s, got '1m'"),
        ("chunked=yes", "chunked: expected 1 or 0, got 'yes'"),
        ("close=", "close: expected 1 or 0, got ''"),
        ("reset=2", "reset: expected 1 or 0, got '2'"),
        ("drip=0", "drip: expected at least 1 byte per second, got '0'"),
        ("drip=x", "drip: expected bytes such as 512, 20k or 3m, got 'x'"),
        ("error=5", "error: expected a share from 0% to 100%, got '5'"),
        ("error=101%", "error: expected a share from 0% to 100%, got '101%'"),
        ("error=100.1%", "error: expected a share from 0% to 100%, got '100.1%'"),
    ],
)
def test_a_bad_value_is_refused_with_the_reason(query: str, reason: str) -> None:
    with pytest.raises(BadValueError) as raised:
        parse_load(query)
    assert str(raised.value) == reason


@given(st.text())
def test_any_text_is_a_load_or_a_bad_value(query: str) -> None:
    reason = None
    try:
        parse_load(query)
    except BadValueError as error:
        reason = str(error)
    assert reason is None or reason.startswith(tuple(f"{name}: " for name in NAMES))


@given(st.sampled_from(NAMES), st.text(alphabet="0123456789.kms%+-_eE \u0663&=", max_size=14))
def test_a_value_that_is_nearly_right_is_a_load_or_a_bad_value(name: str, value: str) -> None:
    try:
        load = parse_load(f"{name}={value}")
    except BadValueError:
        return
    assert load.size is None or 0 <= load.size <= 16 * 1024**3
    assert 200 <= load.status <= 599
    assert 0 <= load.delay <= 86_400
    assert 0 <= load.cpu <= 86_400
    assert 0 <= load.error <= 1


@given(st.integers(0, 16 * 1024**2))
def test_a_quantity_is_read_back(quantity: int) -> None:
    assert parse_quantity(str(quantity)) == quantity
    assert parse_quantity(f"{quantity // 1024}k") == quantity // 1024 * 1024


@given(st.integers(0, 10_000_000))
def test_milliseconds_are_thousandths_of_a_second(milliseconds: int) -> None:
    assert parse_duration(f"{milliseconds}ms") == pytest.approx(milliseconds / 1000)


@given(st.text(alphabet="xyz123=%", max_size=20))
def test_other_names_are_left_alone(query: str) -> None:
    assert parse_load(query) == NO_LOAD


@given(st.integers(0, 10**12), st.integers(0, FILLER_LIMIT))
def test_filler_depends_on_the_place_alone(offset: int, length: int) -> None:
    piece = filler(offset, length)
    line = filler(0, 64)
    assert len(piece) == length
    assert all(byte == line[(offset + index) % 64] for index, byte in enumerate(piece[:130]))
    assert piece[-70:] == filler(offset + max(0, length - 70), min(70, length))
