"""kind.sh with the real kind and kubectl, up to the point where Docker would start the nodes."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.deploy.files import DEPLOY, SCRIPT, program, search_path

# It has the node's image and a network, and its containers come up with nothing in them.
_DOCKER = """\
#!/bin/sh
echo "$*" >>"$DOCKER_CALLS"
case "$1 $2" in
"info "*) echo '{"CgroupVersion": "2", "MemoryLimit": true, "PidsLimit": true, "CPUShares": true}' ;;
"network inspect") echo '[{"Name": "kind", "IPAM": {"Config": []}, "Containers": {}}]' ;;
"-v "*) echo "Docker version 28.2.2, build 1" ;;
"logs "* | "exec "*) echo "told to start nothing" >&2; exit 1 ;;
esac
"""


class Kind:
    def __init__(self, folder: Path) -> None:
        self.program = program("kind", "install it, or set KUBEBUILDER_ASSETS (see CONTRIBUTING.md)")
        program("kubectl", "install it, or set KUBEBUILDER_ASSETS (see CONTRIBUTING.md)")
        docker = folder / "bin/docker"
        docker.parent.mkdir()
        docker.write_text(_DOCKER)
        docker.chmod(0o755)
        self.calls = folder / "calls"
        self.environment = {
            "PATH": f"{docker.parent}{os.pathsep}{search_path()}",
            "HOME": str(folder),
            "KUBECONFIG": str(folder / "kubeconfig"),
            "DOCKER_CALLS": str(self.calls),
        }

    def run(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, input=text, env=self.environment, capture_output=True, text=True, check=False, timeout=30
        )

    def started(self) -> dict[str, list[str]]:
        """Return the words of each `docker run`, by the container's name."""
        runs = [line.split() for line in self.calls.read_text().splitlines() if line.startswith("run ")]
        return {words[words.index("--name") + 1]: words for words in runs}


@pytest.fixture
def kind(tmp_path: Path) -> Kind:
    return Kind(tmp_path)


def test_up_has_kind_make_three_nodes_with_the_port_on_loopback(kind: Kind) -> None:
    done = kind.run(str(SCRIPT), "up")
    assert done.returncode == 1
    assert "kind could not make the cluster: see above" in done.stderr
    nodes = kind.started()
    assert set(nodes) == {"podlb-control-plane", "podlb-worker", "podlb-worker2"}
    published = {name: [word for word in words if word.startswith("--publish=")] for name, words in nodes.items()}
    assert "--publish=127.0.0.1:8080:30080/TCP" in published["podlb-control-plane"]
    assert published["podlb-worker"] == published["podlb-worker2"] == []
    # The control plane's other port is that of its API, also on loopback.
    assert all(word.startswith("--publish=127.0.0.1:") for word in published["podlb-control-plane"])


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("role: worker", "role: wrker", '"wrker" is not a valid node role'),
        ("hostPort", "hostport", "field hostport not found"),
        ("30080", "300800", "invalid configuration"),
    ],
)
def test_kind_reads_the_cluster_file(right: str, wrong: str, complaint: str, kind: Kind) -> None:
    text = (DEPLOY / "kind/cluster.yaml").read_text()
    assert right in text
    done = kind.run(kind.program, "create", "cluster", "--config", "-", text=text.replace(right, wrong))
    assert done.returncode == 1
    assert complaint in done.stderr
    assert kind.started() == {}
