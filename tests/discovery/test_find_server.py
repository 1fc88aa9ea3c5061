"""Where the API server is, and as whom it is asked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.config import incluster_config

from lb.discovery import apiserver
from lb.discovery.apiserver import ApiServer, NoClusterError, Place, find_server
from lb.discovery.interrupter import Interrupter
from lb.discovery.watcher import Failure, StatusError, Trouble
from tests.fakes import DEADLINE
from tests.integration.endpoint import Endpoint, respond, response

IN_CLUSTER = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}


def kubeconfig(server: str = "https://192.0.2.1:6443", **user: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": server}}],
        "users": [{"name": "u", "user": user or {"token": "secret"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u", "namespace": "shop"}}],
        "current-context": "x",
    }


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: Any, name: str = "config") -> str:
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return write


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let nothing of this machine be found."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in IN_CLUSTER:
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def pod(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a pod; returns the folder of the service account's files."""
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    for name, content in (("token", "pod-token"), ("ca.crt", "a certificate"), ("namespace", "of-the-pod\n")):
        (folder / name).write_text(content)
    for module in (incluster_config, apiserver):
        monkeypatch.setattr(module, "SERVICE_TOKEN_FILENAME", str(folder / "token"))
    monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(folder / "ca.crt"))
    monkeypatch.setattr(apiserver, "_NAMESPACE_FILE", str(folder / "namespace"))
    for name, value in IN_CLUSTER.items():
        monkeypatch.setenv(name, value)
    return folder


def summary(place: Place) -> tuple[str, str, str]:
    """Return where, in which namespace, and with which credentials."""
    key = place.configuration.api_key
    return place.configuration.host, place.namespace, str(key.get("authorization") or key.get("BearerToken"))


class TestInCluster:
    def test_the_service_account_s(self, pod: Path) -> None:
        place = find_server(None, IN_CLUSTER)
        assert summary(place) == ("https://10.96.0.1:443", "of-the-pod", "bearer pod-token")
        assert place.configuration.ssl_ca_cert == str(pod / "ca.crt")

    def test_without_a_namespace_file(self, pod: Path) -> None:
        (pod / "namespace").unlink()
        assert find_server(None, IN_CLUSTER).namespace == ""

    def test_a_kubeconfig_that_is_named_comes_first(self, pod: Path, write: Write) -> None:
        assert summary(find_server(write(kubeconfig()), IN_CLUSTER))[:2] == ("https://192.0.2.1:6443", "shop")

    def test_not_if_there_is_no_token(self, pod: Path) -> None:
        # (The pod's spec may say that it wants none.)
        (pod / "token").unlink()
        with pytest.raises(NoClusterError, match="set backends"):
            find_server(None, IN_CLUSTER)

    @pytest.mark.parametrize("name", ["token", "ca.crt"])
    def test_files_that_can_t_be_used(self, pod: Path, name: str) -> None:
        (pod / name).write_text("")
        with pytest.raises(NoClusterError, match=r"the service account's files can't be used: .* exists but empty"):
            find_server(None, IN_CLUSTER)


class TestKubeconfig:
    def test_the_one_that_is_named(self, write: Write) -> None:
        other = {"KUBECONFIG": write(kubeconfig("https://192.0.2.2"), "other")}
        assert summary(find_server(write(kubeconfig()), other)) == ("https://192.0.2.1:6443", "shop", "Bearer secret")

    def test_that_of_the_environment(self, write: Write) -> None:
        assert summary(find_server(None, {"KUBECONFIG": write(kubeconfig())}))[0] == "https://192.0.2.1:6443"

    def test_several_of_the_environment(self, write: Write, tmp_path: Path) -> None:
        paths = f"{tmp_path}/not-there:{write(kubeconfig())}"
        assert summary(find_server(None, {"KUBECONFIG": paths}))[0] == "https://192.0.2.1:6443"

    def test_that_of_the_home(self, write: Write, home: Path) -> None:
        (home / ".kube").mkdir()
        (home / ".kube/config").write_text(yaml.safe_dump(kubeconfig()))
        assert summary(find_server(None, {}))[0] == "https://192.0.2.1:6443"

    @pytest.mark.parametrize("change", ["no namespace", "no context's content"])
    def test_without_a_namespace(self, write: Write, change: str) -> None:
        content = kubeconfig()
        del content["contexts"][0]["context"]["namespace"]
        assert find_server(write(content), {}).namespace == ""

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "[]",
            "text",
            "a: b: c",
            "\t",
            "clusters: [",
            "!!python/object:os.system {}",
            "a: *unknown",
            {},
            {"clusters": None},
            kubeconfig() | {"current-context": "other"},
            kubeconfig() | {"contexts": None},
            kubeconfig() | {"contexts": [{"name": "x"}]},
            kubeconfig() | {"clusters": [{"name": "c"}]},
            kubeconfig() | {"clusters": [None]},
            kubeconfig() | {"users": 7},
            kubeconfig(**{"client-certificate-data": "not base64!"}),
            kubeconfig(**{"client-certificate": "/does/not/exist", "client-key": "/does/not/exist"}),
        ],
        ids=range(18),
    )
    def test_one_that_can_t_be_used(self, write: Write, content: Any) -> None:
        path = write(content)
        with pytest.raises(NoClusterError) as found:
            find_server(path, {})
        text = str(found.value)
        assert text.startswith(f"kubeconfig {path} can't be used: ")
        assert "\n" not in text
        assert len(text) > len(f"kubeconfig {path} can't be used: ")

    @pytest.mark.parametrize("place", ["key", "environment"])
    def test_one_that_is_not_there(self, tmp_path: Path, place: str) -> None:
        path = f"{tmp_path}/not-there"
        with pytest.raises(NoClusterError) as found:
            find_server(path if place == "key" else None, {"KUBECONFIG": path} if place == "environment" else {})
        assert ("can't be used" if place == "key" else "set backends") in str(found.value)


def test_nothing_at_all_says_which_keys_to_set() -> None:
    with pytest.raises(NoClusterError) as found:
        find_server(None, {})
    assert str(found.value) == (
        "no backends are named, and there is no Kubernetes to find any in (no service account, no kubeconfig): "
        'set backends (a list of "host:port"), backendsFile, or kubeconfig'
    )


def ask(server: Endpoint, token: str, write: Write) -> None:
    """Ask it something, with credentials from a kubeconfig."""
    path = write(kubeconfig(f"http://127.0.0.1:{server.port}", token=token))
    client = ApiServer(find_server(path, {}).configuration, Interrupter())
    try:
        client.get("/x", {}, DEADLINE)
    finally:
        client.close()


class TestToken:
    def test_one_that_ends_with_a_line_break_is_good(self, write: Write) -> None:
        with Endpoint(respond(response(b"{}"))) as server:
            ask(server, "secret\n", write)
        assert server.requests[0].get(b"authorization") == b"Bearer secret"

    @pytest.mark.parametrize("token", ["sec\nret", "sec\x00ret", "secr\u00e9t", "secret\u20ac"])
    def test_one_that_can_t_be_sent_is_not_told(self, write: Write, token: str) -> None:
        with Endpoint() as server, pytest.raises(StatusError) as found:
            ask(server, token, write)
        assert found.value.failure == Failure(Trouble.UNAUTHORIZED, "the token holds characters that it must not")
        assert server.connections == []
