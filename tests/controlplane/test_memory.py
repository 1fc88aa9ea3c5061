"""What following a Service for long leaves behind: nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.controlplane.feeder import NAMESPACE, Feeder
from tests.controlplane.podlb import START_SECONDS, Podlb
from tests.fakes import eventually

GROWTH_LIMIT = 2 * 1024 * 1024
_ENDPOINTS_EACH = 5
_WARM_UP = {"events": 10_000, "reconnect": 300}


class Held(NamedTuple):
    """What a process holds."""

    resident: int
    descriptors: int
    threads: int


def held(podlb: Podlb) -> Held:
    folder = Path(f"/proc/{podlb.pid}")
    resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Held(resident, len(list((folder / "fd").iterdir())), len(list((folder / "task").iterdir())))


def check(tmp_path: Path, order: str, count: int) -> None:
    """Carry out an order of the feeder `count` times, after as many as it takes until all pools have their size."""
    kubeconfig = tmp_path / "kubeconfig"
    with (
        Feeder(kubeconfig, _ENDPOINTS_EACH) as feeder,
        Podlb(kubeconfig, NAMESPACE, "--log-level=error", module="tests.controlplane.hasty") as podlb,
    ):
        eventually(podlb.is_ready, "readiness", seconds=START_SECONDS)
        feeder.ask(f"{order} {_WARM_UP[order]}")
        before = held(podlb)
        generation = int(feeder.ask(f"{order} {count}"))
        after = held(podlb)
        # It has followed to the end.
        assert len(podlb.rotation()) == 20 * _ENDPOINTS_EACH
        if order == "events":
            last = f"10.{generation % 250}."
            eventually(
                lambda: all(address.startswith(last) for address in podlb.rotation()), "the last events", seconds=60.0
            )
        else:
            assert sum(podlb.restarts().values()) >= count
        grown = after.resident - before.resident
        print(f"{order} {count}: {before.resident / 2**20:.1f} MiB before, {grown / 1024:+.0f} KiB")
        assert abs(grown) <= GROWTH_LIMIT
        # The timer for the rest of a burst may be there at either moment.
        assert abs(after.threads - before.threads) <= 1
        assert abs(after.descriptors - before.descriptors) <= 1
        assert podlb.process.poll() is None


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(("order", "count"), [("events", 10_000), ("reconnect", 1_000)])
def test_memory_stays_flat(tmp_path: Path, order: str, count: int) -> None:
    check(tmp_path, order, count)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("order", "count"), [("events", 100_000), ("reconnect", 10_000)])
def test_memory_stays_flat_for_long(tmp_path: Path, order: str, count: int) -> None:
    check(tmp_path, order, count)
