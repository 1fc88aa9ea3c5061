"""kind.sh with stand-ins for kind, kubectl and the builders: what it asks of them and what it says; it repeats well."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.deploy import fake_tools
from tests.deploy.files import ROOT

TOOLS = (
    "bash",
    "sed",
    "grep",
    "find",
    "sort",
    "xargs",
    "sha256sum",
    "cut",
    "mktemp",
    "rm",
    "dirname",
    "cat",
    "uname",
    "id",
    "env",
)
INPUTS = (
    "lb/cli.py",
    "backend/app.py",
    "backend/py.typed",
    "deploy/lb.lock",
    "deploy/backend.lock",
    "Dockerfile",
    ".dockerignore",
)


class Machine:
    """A repository with the script and a file of each kind that it looks at; a PATH with what is put there alone."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "repository"
        self.state = folder / "state"
        self.path = folder / "bin"
        for new in (self.root, self.state, self.path):
            new.mkdir()
        shutil.copytree(ROOT / "deploy/kind", self.root / "deploy/kind")
        for name in INPUTS:
            (self.root / name).parent.mkdir(exist_ok=True)
            (self.root / name).write_text(f"the file {name}\n")
        (self.root / "lb/__init__.py").write_text('__version__ = "1.2.3"\n')
        for name in TOOLS:
            found = shutil.which(name)
            assert found is not None, name
            (self.path / name).symlink_to(found)
        self.add_tools("kubectl", "kind", "docker")
        (self.state / "current").write_text("work\n")
        (self.state / "contexts").write_text("work\n")

    def add_tools(self, *names: str) -> None:
        for name in names:
            tool = self.path / name
            tool.write_text(f"#!{sys.executable} -IS\n" + Path(fake_tools.__file__).read_text())
            tool.chmod(0o755)

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(self.root / "deploy/kind/kind.sh"), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            env={
                "PATH": str(self.path),
                "HOME": str(self.root),
                "TMPDIR": str(self.state),
                "FAKE_STATE": str(self.state),
                **settings,
            },
        )

    def succeed(self, *arguments: str, **settings: str) -> str:
        done = self.run(*arguments, **settings)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def fail(self, *arguments: str, **settings: str) -> str:
        """Run; return the one line on stderr that says why it failed."""
        done = self.run(*arguments, **settings)
        assert done.returncode == 1, done
        line = done.stderr.removeprefix("kind.sh: ")
        assert line != done.stderr, done
        assert line.count("\n") == 1, done
        return line

    def calls(self, beginning: str) -> list[str]:
        return [call for call in fake_lines(self.state / "calls") if call.startswith(beginning)]

    def forget_calls(self) -> None:
        (self.state / "calls").unlink()


def fake_lines(file: Path) -> list[str]:
    return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def images(machine: Machine) -> dict[str, str]:
    """Return the tags in the manifests that were applied, by package."""
    lines = fake_lines(machine.state / "applied")
    return {
        name: line.rpartition(":")[2]
        for name in ("lb", "backend")
        for line in lines
        if f"image: localhost/podlb-{name}:" in line
    }


@pytest.fixture
def manifests(machine: Machine) -> str:
    """A folder of manifests that the stand-in for kustomize renders as they are."""
    folder = machine.root / "manifests"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text("image: localhost/podlb-lb:0\nimage: localhost/podlb-backend:0\n")
    return str(folder)


# Usage


def test_it_says_how_it_is_used(machine: Machine) -> None:
    help_text = machine.succeed("help")
    for word in ("up", "deploy", "status", "logs", "load", "drill", "local", "down", "DEPLOY_CONTEXT"):
        assert f"  {word}" in help_text or f"kind.sh {word}" in help_text
    for arguments in ((), ("upp",)):
        done = machine.run(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (2, "", help_text)


def test_what_takes_no_arguments_refuses_them(machine: Machine) -> None:
    assert "up takes no arguments" in machine.fail("up", "--now")
    assert machine.calls("") == []


# What must be there


@pytest.mark.parametrize(
    ("tool", "command"), [("kind", "up"), ("kubectl", "up"), ("kubectl", "status"), ("kind", "down")]
)
def test_a_tool_that_is_missing_is_named_with_where_to_get_it(tool: str, command: str, machine: Machine) -> None:
    (machine.path / tool).unlink()
    message = machine.fail(command)
    assert f"{tool} is not installed" in message
    assert "https://" in message


@pytest.mark.parametrize(
    ("tool", "version", "needed"),
    [("kubectl", "v1.26.9", "1.27"), ("kind", "v0.19.0", "0.20"), ("kubectl", "v0.99.0", "1.27")],
)
def test_a_tool_that_is_too_old_is_named_with_its_version(
    tool: str, version: str, needed: str, machine: Machine
) -> None:
    (machine.state / "versions").write_text(f"{tool} {version}\n")
    message = machine.fail("up")
    assert f"{tool} is {version}" in message
    assert f"{needed} or later" in message


@pytest.mark.parametrize("version", ["v1.27.0", "v1.32.4-dispatcher", "v1.100.1+k3s1", "v2.0.0"])
def test_newer_versions_are_taken(version: str, machine: Machine) -> None:
    (machine.state / "versions").write_text(f"kubectl {version}\n")
    # So far that the tools are taken: the next thing that it looks for is the cluster.
    assert "there is no kube context other" in machine.fail("status", DEPLOY_CONTEXT="other")


def test_docker_that_does_not_answer(machine: Machine) -> None:
    (machine.state / "fails").write_text("docker info\n")
    assert "Docker does not answer: start it" in machine.fail("up")
    assert "docker does not answer: start it" in machine.fail("up", DEPLOY_BUILDER="docker")
    (machine.path / "docker").unlink()
    assert "nothing here builds images" in machine.fail("up")
    assert "DEPLOY_BUILDER is kaniko" in machine.fail("up", DEPLOY_BUILDER="kaniko")


def test_a_cluster_is_never_taken_because_it_is_the_current_one(machine: Machine, manifests: str) -> None:
    message = machine.fail("deploy", DEPLOY_MANIFESTS=manifests)
    assert "there is no kube context kind-podlb" in message
    assert "DEPLOY_CONTEXT" in message
    assert "no kube context other" in machine.fail("deploy", DEPLOY_CONTEXT="other")
    assert not (machine.state / "applied").exists()


def test_a_cluster_that_does_not_answer(machine: Machine) -> None:
    (machine.state / "fails").write_text("kubectl --context work get --raw /readyz\n")
    assert "the cluster of context work does not answer" in machine.fail("status", DEPLOY_CONTEXT="work")


# up


def test_up_makes_the_cluster_once_and_deploys_once(machine: Machine, manifests: str) -> None:
    output = machine.succeed("up", DEPLOY_MANIFESTS=manifests)
    assert output.endswith("podlb is up: http://localhost:8080/\n")
    (create,) = machine.calls("kind create")
    assert str(machine.root / "deploy/kind/cluster.yaml") in create
    assert len(machine.calls("docker build")) == len(machine.calls("kind load image-archive --name podlb ")) == 2
    first = images(machine)
    assert set(first) == {"lb", "backend"}
    machine.forget_calls()
    machine.succeed("up", DEPLOY_MANIFESTS=manifests)
    assert machine.calls("kind create") + machine.calls("docker build") + machine.calls("kind load") == []
    assert images(machine) == first


def test_the_current_context_stays(machine: Machine, manifests: str) -> None:
    machine.succeed("up", DEPLOY_MANIFESTS=manifests)
    assert (machine.state / "current").read_text().strip() == "work"
    unbound = [
        c for c in machine.calls("kubectl") if not c.startswith(("kubectl --context kind-podlb ", "kubectl config "))
    ]
    assert {call.split()[1] for call in unbound} == {"version", "kustomize"}

    # And nothing is left behind.
    assert {path.name for path in machine.state.iterdir()} == {
        "calls",
        "contexts",
        "current",
        "clusters",
        "images",
        "applied",
    }


def test_down_deletes_the_cluster_that_is_there(machine: Machine, manifests: str) -> None:
    assert "there is no kind cluster" in machine.succeed("down")
    machine.succeed("up", DEPLOY_MANIFESTS=manifests)
    machine.succeed("down")
    assert machine.calls("kind delete") == ["kind delete cluster --name podlb"]


def test_up_is_for_its_own_cluster_alone(machine: Machine) -> None:
    assert "unset DEPLOY_CONTEXT" in machine.fail("up", DEPLOY_CONTEXT="work")


# Image tags


def tags(machine: Machine) -> dict[str, str]:
    """Return the tags of the images that a build names, by package."""
    named = dict(name.removeprefix("localhost/podlb-").split(":") for name in machine.run("build").stdout.split())
    assert set(named) == {"lb", "backend"}
    return named


def test_a_tag_names_the_content_of_what_an_image_is_made_from(machine: Machine) -> None:
    first = tags(machine)
    assert first["lb"].startswith("1.2.3-")
    (machine.root / "lb/__pycache__").mkdir()
    (machine.root / "lb/__pycache__/cli.pyc").write_text("")
    (machine.root / "deploy/kind/README.md").write_text("something else")
    assert tags(machine) == first
    (machine.root / "lb/cli.py").write_text("something else")
    changed = tags(machine)
    assert changed["backend"] == first["backend"]
    assert changed["lb"] != first["lb"]
    assert len(machine.calls("docker build")) == 3


def test_a_tag_changes_with_each_of_them(machine: Machine) -> None:
    seen = {tags(machine)["backend"]}
    for file in ("backend/py.typed", "deploy/backend.lock", "Dockerfile", ".dockerignore"):
        (machine.root / file).write_text("changed")
        seen.add(tags(machine)["backend"])
    assert len(seen) == 5


def test_a_tag_is_the_same_wherever_the_repository_lies(machine: Machine, tmp_path: Path) -> None:
    first = tags(machine)
    machine.root = machine.root.rename(tmp_path / "moved")
    assert tags(machine) == first


# build


def test_build_prints_the_names_of_the_images_and_needs_no_cluster(machine: Machine) -> None:
    for tool in ("kind", "kubectl"):
        (machine.path / tool).unlink()
    done = machine.run("build", DEPLOY_BUILD_FLAGS="--pull --network=host")
    assert done.returncode == 0
    assert all(" --pull --network=host " in call for call in machine.calls("docker build"))
    assert done.stdout.splitlines() == sorted(fake_lines(machine.state / "images"))
    assert "building localhost/podlb-lb:" in done.stderr
    assert machine.run("build").stdout == done.stdout
    assert len(machine.calls("docker build")) == 2


def test_a_build_that_fails(machine: Machine) -> None:
    (machine.state / "fails").write_text("docker build\n")
    done = machine.run("build")
    assert (done.returncode, done.stdout) == (1, "")
    assert "could not be built: see above" in done.stderr


# deploy


def test_deploy_on_any_cluster_with_another_builder_and_another_way_to_load(machine: Machine, manifests: str) -> None:
    (machine.path / "kind").unlink()
    machine.add_tools("buildah")
    loaded = machine.state / "loaded"
    load = machine.path / "bring"
    load.write_text(f'#!{machine.path}/bash\ncat "$2" >>{loaded}\n[ "$1" = --here ]\n')
    load.chmod(0o755)
    settings = {"DEPLOY_CONTEXT": "work", "DEPLOY_BUILDER": "buildah", "DEPLOY_LOAD": f"{load} --here"}
    output = machine.succeed(
        "deploy", DEPLOY_MANIFESTS=manifests, DEPLOY_BASE_IMAGE="registry.example/python:3", **settings
    )
    assert "podlb is up: http://10.96.0.9/\n" in output
    builds = machine.calls("buildah build")
    assert len(builds) == 2
    assert all("--build-arg BASE_IMAGE=registry.example/python:3" in build for build in builds)
    assert {line.rpartition(":")[0] for line in fake_lines(loaded)} == {"localhost/podlb-lb", "localhost/podlb-backend"}
    assert machine.calls("docker") == []


def test_no_image_is_loaded_into_another_cluster_than_the_one_deployed_to(machine: Machine, manifests: str) -> None:
    message = machine.fail("deploy", DEPLOY_MANIFESTS=manifests, DEPLOY_CONTEXT="work")
    assert "the nodes of work" in message
    assert "DEPLOY_LOAD" in message
    assert machine.calls("docker build") == machine.calls("kind load") == []
    assert not (machine.state / "applied").exists()


@pytest.mark.parametrize("replicas", ["2 1 3 2", "2 2 3 2", "2 2 2 1", "2 1", ""])
def test_a_rollout_that_hangs_is_not_done(replicas: str, machine: Machine, manifests: str) -> None:
    """The pods of before are ready all the while: the image may be missing on a node."""
    machine.succeed("up", DEPLOY_MANIFESTS=manifests)
    machine.forget_calls()
    (machine.state / "replicas").write_text(replicas + "\n")
    machine.succeed("deploy", DEPLOY_MANIFESTS=manifests)
    assert len(machine.calls("kind load image-archive --name podlb ")) == 2


def test_a_base_image_from_an_archive(machine: Machine, manifests: str) -> None:
    message = machine.fail("up", DEPLOY_MANIFESTS=manifests, PODLB_BASE_IMAGE_TAR="/nowhere.tar")
    assert "/nowhere.tar, which can't be read" in message
    archive = machine.state / "base.tar"
    archive.write_text("")
    machine.succeed("up", DEPLOY_MANIFESTS=manifests, PODLB_BASE_IMAGE_TAR=str(archive))
    assert machine.calls("docker load") == [f"docker load -q -i {archive}"]
    assert all("BASE_IMAGE=localhost/python:3.11-slim" in build for build in machine.calls("docker build"))


def test_an_image_that_can_not_be_loaded(machine: Machine, manifests: str) -> None:
    (machine.state / "fails").write_text("kind load\n")
    done = machine.run("up", DEPLOY_MANIFESTS=manifests)
    assert done.returncode == 1
    assert "`kind load image-archive --name podlb` failed" in done.stderr
    assert not (machine.state / "applied").exists()


def test_a_rollout_that_does_not_end(machine: Machine, manifests: str) -> None:
    (machine.state / "fails").write_text(
        "kubectl --context kind-podlb --namespace podlb rollout status deployment/lb\n"
    )
    done = machine.run("up", DEPLOY_MANIFESTS=manifests, DEPLOY_TIMEOUT="5")
    assert done.returncode == 1
    assert "deployment/lb is not up after 5 s: see `" in done.stderr
    # It is said where one looks next.
    assert "kind.sh logs`" in done.stderr


@pytest.mark.parametrize("content", [None, "image: nginx\n", "image: localhost/podlb-lb:0\n"])
def test_manifests_that_are_none_of_ours(content: str | None, machine: Machine, manifests: str) -> None:
    file = Path(manifests) / "kustomization.yaml"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert "set DEPLOY_MANIFESTS to a folder that" in machine.fail("up", DEPLOY_MANIFESTS=manifests)


def test_logs_are_of_every_namespace_that_has_some(machine: Machine, manifests: str) -> None:
    machine.succeed("up", DEPLOY_MANIFESTS=manifests)
    machine.forget_calls()
    machine.succeed("logs", "-f")
    assert any(call.endswith(" -f") and " logs " in call for call in machine.calls("kubectl --context kind-podlb"))


def test_the_scripts_are_clean() -> None:
    found = Path(sys.executable).with_name("shellcheck")
    assert found.exists(), "run: make .venv/.ready"
    scripts = sorted(str(path) for path in (ROOT / "deploy").rglob("*.sh"))
    assert len(scripts) == 2
    done = subprocess.run(
        [str(found), "--external-sources", *scripts, ".ci/run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "LC_ALL": "C.UTF-8"},
    )
    assert (done.returncode, done.stdout) == (0, "")
