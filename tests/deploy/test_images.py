"""Both images, built from the Dockerfile by what builds images here, and run without a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import lb
from tests.deploy.cluster import CommandFailedError, run
from tests.deploy.files import SCRIPT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

Run = Callable[..., subprocess.CompletedProcess[str]]


def is_up(*command: str) -> bool:
    """Whether a builder is installed and answers."""
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False, timeout=30).returncode == 0


@pytest.fixture(scope="module")
def builder() -> str:
    for name in ("docker", "podman", "buildah"):
        if is_up(name, "info"):
            return name
    pytest.skip("no Docker, podman or buildah answers here: install one of them")


@pytest.fixture(scope="module")
def images(builder: str) -> dict[str, str]:
    """The names of the images, by package."""
    try:
        built = run(str(SCRIPT), "build", environment={**os.environ, "DEPLOY_BUILDER": builder}, seconds=280)
    except CommandFailedError as error:
        if "PODLB_BASE_IMAGE_TAR" in os.environ:
            raise
        pytest.skip(f"the base image can't be had: set PODLB_BASE_IMAGE_TAR to an archive of one ({error})")
    return {name.partition(":")[0].rpartition("podlb-")[2]: name for name in built.split()}


def configuration(builder: str, image: str) -> Any:
    """Return what an image says about how it is run."""
    if builder == "buildah":
        found = json.loads(run("buildah", "inspect", "--type", "image", image, environment=os.environ))
        return found["OCIv1"]["config"]
    return json.loads(run(builder, "image", "inspect", image, environment=os.environ))[0]["Config"]


@pytest.fixture
def in_image(builder: str, images: dict[str, str]) -> Run:
    """Run an image's Python with the arguments given, as its user."""

    def run_in(package: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        python = "/opt/podlb/bin/python"
        if builder != "buildah":
            command = [builder, "run", "--rm", "--read-only", "--entrypoint", python, images[package], *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        container = run("buildah", "from", images[package], environment=os.environ).strip()
        try:
            command = ["buildah", "run", "--isolation", "chroot", container, "--", python, *arguments]
            return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        finally:
            run("buildah", "rm", container, environment=os.environ)

    return run_in


@pytest.mark.parametrize("package", ["lb", "backend"])
def test_an_image_says_what_it_is_and_how_it_is_run(package: str, builder: str, images: dict[str, str]) -> None:
    found = configuration(builder, images[package])
    assert found["User"] == "65532:65532"
    assert found["Entrypoint"] == ["/opt/podlb/bin/python", "-m", package]
    assert not found.get("Cmd")
    assert set(found["ExposedPorts"]) == ({"8080/tcp", "8082/tcp"} if package == "lb" else {"8080/tcp"})
    version = found["Labels"]["org.opencontainers.image.version"]
    assert version == images[package].rpartition(":")[2]
    assert version.startswith(f"{lb.__version__}-")
    assert found["Labels"]["org.opencontainers.image.title"] == f"podlb-{package}"


@pytest.mark.parametrize("package", ["lb", "backend"])
def test_an_image_runs_its_program(package: str, in_image: Run) -> None:
    done = in_image(package, "-m", package, "--nonsense")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--nonsense" in done.stderr


def test_the_load_balancer_checks_a_configuration_there(in_image: Run) -> None:
    done = in_image("lb", "-m", "lb", "check", "--backends", "10.0.0.1:8080")
    assert done.returncode == 0, done.stderr
    assert "10.0.0.1:8080" in done.stdout


@pytest.mark.parametrize(
    ("package", "more"), [("lb", "kubernetes, lb.discovery.kubernetes, uvloop"), ("backend", "h11")]
)
def test_byte_code_is_there_for_all_that_is_imported(package: str, more: str, in_image: Run) -> None:
    # On a read-only root it could not be stored, and every start would compile it anew.
    code = f"""
import importlib.util, os, sys
import {more}, {package}.__main__
sources = [m.__file__ for m in sys.modules.values() if (getattr(m, "__file__", None) or "").startswith("/opt/podlb")]
python = [s for s in sources if s.endswith(".py")]
print(len(python), [s for s in python if not os.path.exists(importlib.util.cache_from_source(s))], os.getuid())
"""
    done = in_image(package, "-c", code)
    assert done.returncode == 0, done.stderr
    count, rest = done.stdout.split(" ", 1)
    assert int(count) > 10
    assert rest == "[] 65532\n"


def test_the_backends_image_has_only_what_it_needs(in_image: Run) -> None:
    code = """
import importlib.metadata, sysconfig
print(sorted(found.name for found in importlib.metadata.distributions(path=[sysconfig.get_path("purelib")])))
"""
    assert in_image("backend", "-c", code).stdout == "['h11', 'msgspec']\n"
