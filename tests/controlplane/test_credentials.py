"""Tokens, permissions and certificates: rotated, missing, wrong, and mended while podlb runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.controlplane.apiserver import ApiServer
from tests.controlplane.kubeconfig import rotate_token
from tests.controlplane.objects import SLICES, endpoint_slice, ready
from tests.controlplane.plane import FakePlane, Plane, RealPlane
from tests.controlplane.podlb import Podlb, follow
from tests.fakes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

NAMESPACE = "podlb"


def put(apiserver: ApiServer, address: str) -> None:
    apiserver.put(NAMESPACE, endpoint_slice("one", [ready(address, pod=f"pod-{address}")]))


# Tokens


def test_a_token_that_was_rotated_is_read_again_at_once(apiserver: ApiServer, tmp_path: Path) -> None:
    put(apiserver, "10.0.0.1")
    with follow(FakePlane(apiserver), tmp_path) as podlb:
        podlb.wait_until_ready()
        watch = apiserver.open_watch()
        rotate_token(tmp_path / "kubeconfig", "the-second-token")
        apiserver.tokens = {"the-second-token"}
        watch.end()
        apiserver.wait_for("watch", 3)
        refused, accepted = apiserver.asked("watch")[1:]
        assert (refused.token, accepted.token) == ("the-first-token", "the-second-token")
        assert accepted.at - refused.at < 0.3
        put(apiserver, "10.0.0.2")
        podlb.wait_for_rotation(["10.0.0.2"])
        assert len(apiserver.asked("list")) == 1
        assert not podlb.logged(r"\[ERROR\]")


def test_a_token_that_is_not_accepted_for_a_while(apiserver: ApiServer, tmp_path: Path) -> None:
    put(apiserver, "10.0.0.1")
    with follow(FakePlane(apiserver), tmp_path) as podlb:
        podlb.wait_until_ready()
        watch = apiserver.open_watch()
        apiserver.tokens = {"the-second-token"}
        watch.end()
        podlb.wait_for_line(r"\[ERROR\] .*credentials are not accepted", seconds=10.0)
        count = len(apiserver.asked("watch"))
        apiserver.wait_for("watch", count + 3)
        assert podlb.rotation() == {"10.0.0.1:8080"}
        # Each try is not worth a line.
        assert len(podlb.logged(r"\[(WARN|ERROR)\]")) <= 2
        put(apiserver, "10.0.0.2")
        rotate_token(tmp_path / "kubeconfig", "the-second-token")
        podlb.wait_for_rotation(["10.0.0.2"])


@pytest.mark.timeout(90)
def test_a_real_token_that_is_revoked_and_replaced(real_plane: RealPlane, tmp_path: Path) -> None:
    plane = real_plane
    plane.put(endpoint_slice("one", [ready("10.0.0.1", pod="a")]))
    plane.token = plane.make_token(bound_to="short-lived")
    with follow(plane, tmp_path) as podlb:
        podlb.wait_until_ready()
        plane.revoke("short-lived")
        # The API server remembers for ten seconds that a token was good.
        eventually(lambda: plane.client.get(SLICES.path(plane.namespace)).status == 401, "the end of it", seconds=30.0)
        rotate_token(tmp_path / "kubeconfig", plane.make_token())
        # A watch that is open goes on; the next needs the new token.
        plane.stop()
        plane.start()
        plane.put(endpoint_slice("one", [ready("10.0.0.2", pod="b")]))
        podlb.wait_for_rotation(["10.0.0.2"])
        assert not podlb.logged(r"\[ERROR\]")


# Permissions


def test_without_the_permission_to_list_it_does_not_start(plane: Plane, tmp_path: Path) -> None:
    plane.permit("watch")
    with follow(plane, tmp_path) as podlb:
        line = podlb.failure(seconds=11.0)
    assert f"no permission to list endpointslices.discovery.k8s.io in namespace {plane.namespace}" in line
    assert f"kubectl -n {plane.namespace} create role podlb --verb=list,watch" in line
    assert f"--serviceaccount={plane.namespace}:lb" in line
    assert not podlb.logged("Traceback")


def test_without_the_permission_to_watch_it_stays_up_and_says_so(plane: Plane, tmp_path: Path) -> None:
    plane.put(endpoint_slice("one", [ready("10.0.0.1", pod="a")]))
    plane.permit("list")
    with follow(plane, tmp_path) as podlb:
        podlb.wait_until_ready()
        eventually(lambda: podlb.metric("watch_forbidden") == 1, "the metric", seconds=10.0)
        line = podlb.wait_for_line(r"\[ERROR\] ")
        assert f"no permission to watch endpointslices.discovery.k8s.io in namespace {plane.namespace}" in line
        assert f"kubectl -n {plane.namespace} create role podlb --verb=list,watch" in line
        # It lists instead: once at once, then every 30 s.
        eventually(lambda: podlb.metric("relists_total") >= 1, "a list", seconds=10.0)
        refused = podlb.restarts()["forbidden"]
        eventually(lambda: podlb.restarts()["forbidden"] >= refused + 3, "three more refusals", seconds=10.0)
        assert podlb.rotation() == {"10.0.0.1:8080"}
        assert podlb.is_ready()
        assert podlb.logged(r"\[(WARN|ERROR)\]") == [line]
        assert podlb.metric("relists_total") == 1
        # Mended, it follows without further ado.
        plane.permit("list", "watch")
        eventually(lambda: podlb.metric("watch_forbidden") == 0, "a watch")
        plane.put(endpoint_slice("one", [ready("10.0.0.2", pod="b")]))
        podlb.wait_for_rotation(["10.0.0.2"])


def test_a_permission_that_is_taken_away_and_given_back(plane: Plane, tmp_path: Path) -> None:
    plane.put(endpoint_slice("one", [ready("10.0.0.1", pod="a")]))
    with follow(plane, tmp_path) as podlb:
        podlb.wait_until_ready()
        plane.permit()
        plane.stop()
        plane.start()
        podlb.wait_for_line(r"\[ERROR\] no permission to watch", seconds=15.0)
        assert podlb.rotation() == {"10.0.0.1:8080"}
        assert podlb.is_ready()
        plane.permit("list", "watch")
        plane.put(endpoint_slice("one", [ready("10.0.0.2", pod="b")]))
        podlb.wait_for_rotation(["10.0.0.2"])


# What can't be mended by waiting


def test_an_unknown_token_at_the_start(plane: Plane, tmp_path: Path) -> None:
    kubeconfig = plane.kubeconfig(tmp_path / "kubeconfig")
    rotate_token(kubeconfig, "nobody-s")
    with Podlb(kubeconfig, plane.namespace) as podlb:
        line = podlb.failure(seconds=11.0)
    assert "credentials are not accepted" in line
    assert "Unauthorized" in line
    assert "nobody-s" not in "".join((*podlb.lines, *podlb.errors))


def test_no_token_at_the_start(plane: Plane, tmp_path: Path) -> None:
    kubeconfig = plane.kubeconfig(tmp_path / "kubeconfig")
    document = json.loads(kubeconfig.read_text())
    document["users"][0]["user"] = {}
    kubeconfig.write_text(json.dumps(document))
    with Podlb(kubeconfig, plane.namespace) as podlb:
        line = podlb.failure(seconds=11.0)
    assert "no permission to list" in line
    assert "no credentials were sent" in line
    assert "system:anonymous" not in line


def test_a_certificate_of_another_authority(apiserver: ApiServer, tmp_path: Path) -> None:
    kubeconfig = FakePlane(apiserver).kubeconfig(tmp_path / "kubeconfig")
    document = json.loads(kubeconfig.read_text())
    del document["clusters"][0]["cluster"]["certificate-authority-data"]
    kubeconfig.write_text(json.dumps(document))
    with Podlb(kubeconfig, NAMESPACE, "--startup-timeout=3") as podlb:
        line = podlb.failure(seconds=5.0)
    assert "certificate" in line
    assert apiserver.url in line
    assert apiserver.requests == []
