"""The API server is away, or stands still: nothing changes. It is back: podlb is in step within 2 s. Both servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.controlplane.objects import SLICES, endpoint_slice, ready
from tests.controlplane.plane import FakePlane, Plane
from tests.controlplane.podlb import follow
from tests.fakes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

IN_STEP_SECONDS = 2.0


class FirstAnswer:
    """Asks the API server with podlb's token until it is answered 200, and notes when that was."""

    def __init__(self, plane: Plane) -> None:
        self.at: float | None = None
        self._client = plane.client.with_timeout(1.0)
        self._path = SLICES.path(plane.namespace)
        self._is_over = threading.Event()

    def run(self) -> None:
        while self.at is None and not self._is_over.wait(0.01):
            try:
                if self._client.get(self._path, limit=1).status == 200:
                    self.at = time.monotonic()
            except OSError:
                pass

    def stop(self) -> None:
        self._is_over.set()


@contextmanager
def first_answer(plane: Plane) -> Iterator[FirstAnswer]:
    answer = FirstAnswer(plane)
    thread = threading.Thread(target=answer.run)
    thread.start()
    try:
        yield answer
    finally:
        answer.stop()
        thread.join()


@pytest.mark.parametrize("are_events_lost", [False, True], ids=["events kept", "events lost"])
def test_an_api_server_that_is_killed_and_comes_back(plane: Plane, tmp_path: Path, are_events_lost: bool) -> None:
    plane.put(endpoint_slice("one", [ready("10.0.0.1", pod="a"), ready("10.0.0.2", pod="b")]))
    with follow(plane, tmp_path) as podlb:
        podlb.wait_until_ready()
        plane.stop()
        podlb.wait_for_line(r"\[WARN\] the Kubernetes API at \S+: .* stay in use")
        # It has tried again and again.
        eventually(lambda: podlb.restarts().get("unreachable", 0) >= 5, "five tries", seconds=10.0)
        assert podlb.rotation() == {"10.0.0.1:8080", "10.0.0.2:8080"}
        assert podlb.is_ready()
        changed = endpoint_slice("one", [ready("10.0.0.3", pod="c")])
        if isinstance(plane, FakePlane):
            plane.put(changed)
            if are_events_lost:
                plane.server.forget()
        with first_answer(plane) as answer:
            plane.start()
            if not isinstance(plane, FakePlane):
                plane.put(changed)  # nothing can be changed while it is away
            changed_at = time.monotonic()
            eventually(lambda: answer.at is not None, "the first answer")
            podlb.wait_for_rotation(["10.0.0.3"])
            assert answer.at is not None
            took = time.monotonic() - max(answer.at, changed_at)
        print(f"in step {took:.2f} s after the API server's first answer")
        assert took <= IN_STEP_SECONDS
        podlb.wait_for_line(r"\[INFO\] the API server answers again, after \S+ s")
        if isinstance(plane, FakePlane):
            # Who can go on from where he was need not list again.
            assert len(plane.server.asked("list")) == 2 + are_events_lost  # one of them is ours
            assert podlb.metric("relists_total") == int(are_events_lost)


def test_an_api_server_that_stands_still(plane: Plane, tmp_path: Path) -> None:
    plane.put(endpoint_slice("one", [ready("10.0.0.1", pod="a")]))
    with follow(plane, tmp_path) as podlb:
        podlb.wait_until_ready()
        plane.freeze()
        try:
            with pytest.raises(TimeoutError):
                plane.client.with_timeout(0.5).get(SLICES.path(plane.namespace))
            assert podlb.rotation() == {"10.0.0.1:8080"}
            assert podlb.is_ready()
        finally:
            plane.thaw()
        plane.put(endpoint_slice("one", [ready("10.0.0.2", pod="b")]))
        podlb.wait_for_rotation(["10.0.0.2"], seconds=IN_STEP_SECONDS)
        assert not podlb.logged(r"\[(WARN|ERROR)\]")
