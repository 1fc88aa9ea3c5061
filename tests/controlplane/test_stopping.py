"""SIGTERM ends podlb within a second, with code 0, whatever the thread that follows the API is waiting for."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.controlplane import faults
from tests.controlplane.apiserver import ApiServer
from tests.controlplane.objects import endpoint_slice, ready
from tests.controlplane.plane import FakePlane
from tests.controlplane.podlb import Podlb, follow
from tests.fakes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]


def in_a_watch(apiserver: ApiServer, podlb: Podlb) -> None:
    apiserver.open_watch()


def in_a_mute_watch(apiserver: ApiServer, podlb: Podlb) -> None:
    apiserver.open_watch().silence()


def waiting_for_the_head_of_a_watch(apiserver: ApiServer, podlb: Podlb) -> None:
    watch = apiserver.open_watch()
    fault = apiserver.inject("watch", faults.mute, times=None)
    watch.end()
    eventually(lambda: fault.hits, "the mute watch")


def waiting_for_the_head_of_a_list(apiserver: ApiServer, podlb: Podlb) -> None:
    fault = apiserver.inject("list", faults.mute, times=None)
    apiserver.open_watch().error(faults.expired())
    eventually(lambda: fault.hits, "the mute list")


def in_the_body_of_a_list(apiserver: ApiServer, podlb: Podlb) -> None:
    fault = apiserver.inject("list", faults.mute_after_head, times=None)
    apiserver.open_watch().error(faults.expired())
    eventually(lambda: fault.hits, "the mute list")


def in_a_handshake(apiserver: ApiServer, podlb: Podlb) -> None:
    watch = apiserver.open_watch()
    apiserver.freeze()
    watch.connection.cut_off()
    # The kernel takes the connection for the frozen server, which does not shake hands.
    eventually(lambda: podlb.restarts(), "the end of the watch")


def in_a_pause(apiserver: ApiServer, podlb: Podlb) -> None:
    apiserver.stop()
    eventually(lambda: podlb.restarts().get("unreachable", 0) >= 5, "long pauses", seconds=10.0)


def in_a_long_pause(apiserver: ApiServer, podlb: Podlb) -> None:
    watch = apiserver.open_watch()
    fault = apiserver.inject("watch", faults.too_many_requests(30), times=None)
    watch.end()
    eventually(lambda: podlb.restarts().get("throttled"), "the long pause")
    assert fault.hits == 1


STATES: list[Callable[[ApiServer, Podlb], None]] = [
    in_a_watch,
    in_a_mute_watch,
    waiting_for_the_head_of_a_watch,
    waiting_for_the_head_of_a_list,
    in_the_body_of_a_list,
    in_a_handshake,
    in_a_pause,
    in_a_long_pause,
]


@pytest.mark.parametrize("bring_about", STATES, ids=lambda state: state.__name__)
def test_stopping(apiserver: ApiServer, tmp_path: Path, bring_about: Callable[[ApiServer, Podlb], None]) -> None:
    apiserver.put("podlb", endpoint_slice("one", [ready("10.0.0.1", pod="a")]))
    with follow(FakePlane(apiserver), tmp_path) as podlb:
        podlb.wait_until_ready()
        bring_about(apiserver, podlb)
        podlb.stop_in_time()
        assert podlb.find(r"\[INFO\] stopped$") is not None


@pytest.mark.parametrize("how", ["away", "frozen", "mute"])
def test_stopping_while_it_starts(apiserver: ApiServer, tmp_path: Path, how: str) -> None:
    if how == "away":
        apiserver.stop()
    elif how == "frozen":
        apiserver.freeze()
    else:
        apiserver.inject("list", faults.mute, times=None)
    with follow(FakePlane(apiserver), tmp_path) as podlb:
        podlb.wait_for_line("following Service")
        asked = time.monotonic()
        podlb.signal(signal.SIGTERM)
        assert podlb.wait() == 0, podlb.errors
        assert time.monotonic() - asked < 1.0
        assert podlb.errors == []
