"""A start that can't succeed fails within startupTimeout, with one line that says what to do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.controlplane import faults
from tests.controlplane.apiserver import ApiServer
from tests.controlplane.objects import endpoint_slice, ready
from tests.controlplane.plane import FakePlane
from tests.controlplane.podlb import Podlb, follow
from tests.fakes import free_port
from tests.integration.ports import BlackHole

SOON = 2.0
STARTUP = f"--startup-timeout={SOON:g}"
SPARE = 2.5
"""Seconds: the Kubernetes client is imported first, which takes half of one, and more on a busy machine."""


def test_no_kubernetes_anywhere() -> None:
    # What a newcomer sees who starts podlb without anything.
    with Podlb(None) as podlb:
        line = podlb.failure(seconds=SPARE)
    assert "no backends are named" in line
    for key in ("backends", "backendsFile", "kubeconfig"):
        assert key in line


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "content",
    [
        None,
        "",
        "{broken",
        "[]",
        "kind: Config",
        '{"current-context": "x", "contexts": [], "clusters": [], "users": []}',
    ],
    ids=["missing", "empty", "broken", "list", "bare", "without its context"],
)
def test_a_kubeconfig_that_can_not_be_used(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "kubeconfig"
    if content is not None:
        path.write_text(content)
    with Podlb(path) as podlb:
        line = podlb.failure(seconds=SPARE)
    assert str(path) in line
    assert not podlb.logged("Traceback")


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_a_token_file_that_is_not_there(apiserver: ApiServer, tmp_path: Path) -> None:
    kubeconfig = apiserver.kubeconfig(tmp_path / "kubeconfig")
    (tmp_path / "kubeconfig.token").unlink()
    with Podlb(kubeconfig, "podlb", STARTUP) as podlb:
        line = podlb.failure(seconds=SOON + SPARE)
    assert str(tmp_path) in line


def kubeconfig_of(folder: Path, port: int) -> Path:
    path = folder / "kubeconfig"
    clusters = [{"name": "x", "cluster": {"server": f"https://127.0.0.1:{port}"}}]
    contexts = [{"name": "x", "context": {"cluster": "x", "user": "x"}}]
    users = [{"name": "x", "user": {"token": "some-token"}}]
    document = {"clusters": clusters, "contexts": contexts, "users": users, "current-context": "x"}
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **document}))
    return path


def test_an_api_server_that_refuses_connections(tmp_path: Path) -> None:
    port = free_port()
    with Podlb(kubeconfig_of(tmp_path, port), "podlb", "--startup-timeout=1") as podlb:
        line = podlb.failure(seconds=1.0 + SPARE)
    assert f"https://127.0.0.1:{port}" in line
    assert "refused" in line
    assert "startupTimeout" in line
    assert "kubeconfig" in line


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.skipif(not BlackHole.is_possible, reason="only Linux tells how full the queue of a listening socket is")
def test_an_api_server_that_swallows_connections(tmp_path: Path) -> None:
    hole = BlackHole()
    try:
        with Podlb(kubeconfig_of(tmp_path, hole.port), "podlb", STARTUP) as podlb:
            line = podlb.failure(seconds=SOON + SPARE)
    finally:
        hole.stop()
    assert f"https://127.0.0.1:{hole.port}" in line


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("how", ["frozen", "mute", "mute after the head"])
def test_an_api_server_that_does_not_answer(apiserver: ApiServer, tmp_path: Path, how: str) -> None:
    if how == "frozen":
        apiserver.freeze()
    else:
        apiserver.inject("list", faults.mute if how == "mute" else faults.mute_after_head, times=None)
    with follow(FakePlane(apiserver), tmp_path, STARTUP) as podlb:
        line = podlb.failure(seconds=SOON + SPARE)
    assert f"{apiserver.url}: it did" in line
    assert "startupTimeout (2 s)" in line
    assert bool(apiserver.asked("list")) == (how != "frozen")


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_what_is_no_api_server(apiserver: ApiServer, tmp_path: Path) -> None:
    page = b"<html><body>It works!</body></html>"
    apiserver.inject("list", faults.raw_body(page), times=None)
    with follow(FakePlane(apiserver), tmp_path, STARTUP) as podlb:
        line = podlb.failure(seconds=SOON + SPARE)
    assert apiserver.url in line
    assert "can't be read" in line


@pytest.mark.slow
@pytest.mark.timeout(60)
def test_an_api_server_that_is_late(apiserver: ApiServer, tmp_path: Path) -> None:
    apiserver.put("podlb", endpoint_slice("one", [ready("10.0.0.1", pod="a")]))
    apiserver.stop()
    with follow(FakePlane(apiserver), tmp_path) as podlb:
        podlb.wait_for_line(r"\[WARN\] the Kubernetes API at")
        answer = podlb.page("/readyz")
        assert answer is not None
        assert answer.status == 503
        assert podlb.find("listening on") is None
        apiserver.start()
        podlb.wait_until_ready()
        assert podlb.rotation() == {"10.0.0.1:8080"}
        podlb.stop_in_time()
