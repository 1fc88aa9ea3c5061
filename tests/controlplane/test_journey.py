"""One life of podlb, from the first list to SIGTERM, with an API server that has a bad day."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.controlplane import faults
from tests.controlplane.apiserver import ApiServer
from tests.controlplane.objects import Object, endpoint_slice, not_ready, ready
from tests.controlplane.plane import FakePlane
from tests.controlplane.podlb import follow
from tests.fakes import eventually


def one(*addresses: str) -> Object:
    return endpoint_slice("one", [ready(address, pod=f"pod-{address}") for address in addresses])


@pytest.mark.timeout(30)
def test_a_bad_day(apiserver: ApiServer, tmp_path: Path) -> None:
    apiserver.put("podlb", one("10.0.0.1"), endpoint_slice("two", [not_ready("10.0.0.9", pod="sick")]))
    with follow(FakePlane(apiserver), tmp_path) as podlb:
        podlb.wait_until_ready()
        assert podlb.rotation() == {"10.0.0.1:8080"}
        # Cut in a line: on from the last version.
        version = apiserver.put("podlb", one("10.0.0.2"))
        podlb.wait_for_rotation(["10.0.0.2"])
        apiserver.open_watch().cut(reset=True, after=b'{"type":"DELE')
        apiserver.wait_for("watch", 2)
        assert apiserver.asked("watch")[-1].query["resourceVersion"] == str(version)
        # A line that can't be read: a list.
        apiserver.open_watch().line(b"garbled\n")
        apiserver.wait_for("list", 2)
        # A version that is gone: a list, and until it is here all stays as it is.
        apiserver.wait_for("watch", 3)
        apiserver.inject("list", gate := faults.Gate())
        apiserver.open_watch().error(faults.expired())
        apiserver.wait_for("list", 3)
        apiserver.put("podlb", one("10.0.0.3"))
        assert podlb.rotation() == {"10.0.0.2:8080"}
        gate.open()
        podlb.wait_for_rotation(["10.0.0.3"])
        # Away, and back.
        apiserver.stop()
        eventually(lambda: podlb.restarts().get("unreachable"), "a try in vain")
        assert podlb.rotation() == {"10.0.0.3:8080"}
        assert podlb.is_ready()
        apiserver.put("podlb", one("10.0.0.4"))
        apiserver.start()
        podlb.wait_for_rotation(["10.0.0.4"])
        # Nothing left.
        apiserver.delete("podlb", "one", "two")
        podlb.wait_for_rotation([])
        assert podlb.is_ready()
        podlb.stop_in_time()
