from __future__ import annotations

import resource

import pytest

from bench import limits
from bench.proc import BenchError


class Limits:
    """A system with these limits of open files."""

    def __init__(self, soft: int, hard: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = (soft, hard)
        monkeypatch.setattr(limits.resource, "getrlimit", lambda _kind: self.now)
        monkeypatch.setattr(limits.resource, "setrlimit", self._set)

    def _set(self, kind: int, wanted: tuple[int, int]) -> None:
        assert kind == resource.RLIMIT_NOFILE
        if wanted[0] > wanted[1] != resource.RLIM_INFINITY:
            raise ValueError("current limit exceeds maximum limit")
        self.now = wanted


def test_the_limit_is_raised_inside_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    system = Limits(1024, 4096, monkeypatch)
    with limits.open_files(3000, "it"):
        assert system.now == (3000, 4096)
    assert system.now == (1024, 4096)


@pytest.mark.parametrize("soft", [3000, resource.RLIM_INFINITY])
def test_a_limit_that_does_is_left_alone(soft: int, monkeypatch: pytest.MonkeyPatch) -> None:
    system = Limits(soft, resource.RLIM_INFINITY, monkeypatch)
    with limits.open_files(2000, "it"):
        assert system.now[0] == soft


def test_what_the_system_does_not_permit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Limits(1024, 4096, monkeypatch)
    with (
        pytest.raises(BenchError, match=r"^endpoints: .* can't be raised from 1024 to 5000: "),
        limits.open_files(5000, "endpoints"),
    ):
        pytest.fail("went on")


def test_what_will_not_be_permitted_is_said_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    Limits(1024, 4096, monkeypatch)
    limits.require_open_files(4096, "it")
    with pytest.raises(
        BenchError, match=r"^endpoints: 4097 open files are needed, and .*ulimit -Hn.* is 4096; raise it"
    ):
        limits.require_open_files(4097, "endpoints")
    Limits(1024, resource.RLIM_INFINITY, monkeypatch)
    limits.require_open_files(10**9, "it")
