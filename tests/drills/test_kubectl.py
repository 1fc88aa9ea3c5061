"""kubectl's failures are one line, and what is followed survives a cut line and an API server that goes away."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.drills.kubectl import DrillError, Following, Kubectl, kubectl_program
from tests.drills.test_faults import program
from tests.fakes import eventually


def pod(name: str, version: int) -> dict[str, object]:
    return {"metadata": {"name": name, "resourceVersion": str(version)}}


def listed(version: int, *items: dict[str, object]) -> str:
    return json.dumps({"metadata": {"resourceVersion": str(version)}, "items": list(items)})


def event(kind: str, item: dict[str, object]) -> str:
    return json.dumps({"type": kind, "object": item}) + "\n"


# Answers from files, in turn; a watch at the end stays open.
FAKE = """
for word in "$@"; do path=$word; [ "${word#/}" != "$word" ] && break; done
case $path in *watch=1*) kind=watch ;; *) kind=list ;; esac
number=$(cat "$FOLDER/$kind" 2>/dev/null || echo 0)
echo $((number + 1)) >"$FOLDER/$kind"
echo "$path" >>"$FOLDER/paths"
cat "$FOLDER/$kind.$number" 2>/dev/null && exit
[ $kind = watch ] && exec sleep 60
echo "the server is away" >&2
exit 1
"""


def test_following(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOLDER", str(tmp_path))
    (tmp_path / "list.0").write_text(listed(5, pod("a", 1), pod("b", 2)))
    cut = event("MODIFIED", pod("b", 7))[:20]
    (tmp_path / "watch.0").write_text(event("MODIFIED", pod("a", 6)) + event("ADDED", pod("c", 6)) + cut)
    # The list after it fails once: the API server is away.
    (tmp_path / "list.2").write_text(listed(9, pod("a", 6), pod("d", 8)))
    (tmp_path / "watch.1").write_text('{"type":"ERROR","object":{"code":410}}\n')
    (tmp_path / "list.3").write_text(listed(10, pod("a", 6), pod("d", 8)))
    (tmp_path / "watch").write_text("0")
    changes: list[tuple[object, object]] = []

    def changed(at: float, old: dict[str, object] | None, new: dict[str, object] | None) -> None:
        changes.append((old, new))

    kubectl = Kubectl(program(tmp_path, "kubectl", FAKE))
    following = Following(kubectl, "/api/v1/namespaces/x/pods", "app=y", changed)
    following.start()
    try:
        eventually(lambda: (tmp_path / "watch").read_text().strip() == "3", "a third watch")
    finally:
        following.stop()
    assert changes[:2] == [(None, pod("a", 1)), (None, pod("b", 2))]
    assert changes[2:4] == [(pod("a", 1), pod("a", 6)), (None, pod("c", 6))]
    assert sorted(map(repr, changes[4:])) == sorted(
        map(repr, [(pod("b", 2), None), (pod("c", 6), None), (None, pod("d", 8))])
    )
    assert following.objects == {"a": pod("a", 6), "d": pod("d", 8)}
    paths = (tmp_path / "paths").read_text().splitlines()
    assert paths[:2] == [
        "/api/v1/namespaces/x/pods?labelSelector=app%3Dy",
        "/api/v1/namespaces/x/pods?labelSelector=app%3Dy&watch=1&resourceVersion=5",
    ]


def test_a_failure_is_one_line(tmp_path: Path) -> None:
    kubectl = Kubectl(program(tmp_path, "kubectl", "echo warning >&2; echo error: no such thing >&2; exit 1\n"), "mine")
    with pytest.raises(DrillError) as caught:
        kubectl.run("get", "thing")
    assert str(caught.value) == "kubectl get thing: error: no such thing"
    assert not kubectl.answers(0.1)


def test_one_that_hangs(tmp_path: Path) -> None:
    kubectl = Kubectl(program(tmp_path, "kubectl", "exec sleep 5\n"))
    with pytest.raises(DrillError, match=r"no end after 0\.1 s"):
        kubectl.run("get", "pods", seconds=0.1)


def test_where_kubectl_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(DrillError, match="kubectl is missing"):
        kubectl_program()
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    expected = program(tmp_path, "kubectl", "exit\n")
    assert kubectl_program() == expected
