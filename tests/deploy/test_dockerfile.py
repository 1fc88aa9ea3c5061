"""The Dockerfile by the letter; tests/deploy/test_images.py builds it."""

from __future__ import annotations

import json
import re

import pytest

from tests.deploy.files import ROOT

TEXT = re.sub(r"\\\n\s*", "", (ROOT / "Dockerfile").read_text())
STAGES = dict(re.findall(r"^FROM \$\{BASE_IMAGE\} AS (\S+)\n(.*?)(?=^FROM|\Z)", TEXT, re.M | re.S))


def instructions(stage: str, name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", STAGES[stage], re.M)


def test_every_stage_is_made_from_the_base_image_that_an_argument_names() -> None:
    assert set(STAGES) == {"lb", "lb-build", "backend", "backend-build"}
    assert TEXT.count("\nFROM ") == len(STAGES)
    assert "\nARG BASE_IMAGE=docker.io/library/python:3.11-slim\n" in TEXT


@pytest.mark.parametrize("image", ["lb", "backend"])
def test_an_image_runs_its_module_directly_as_an_unprivileged_user(image: str) -> None:
    (entry,) = instructions(image, "ENTRYPOINT")
    assert json.loads(entry) == ["/opt/podlb/bin/python", "-m", image]
    assert instructions(image, "USER") == ["65532:65532"]
    assert instructions(image, "RUN") == []
    assert instructions(image, "COPY") == [f"--from={image}-build /opt/podlb /opt/podlb"]


@pytest.mark.parametrize("image", ["lb", "backend"])
def test_an_image_says_what_it_is(image: str) -> None:
    (labels,) = instructions(image, "LABEL")
    names = re.findall(r"org\.opencontainers\.image\.(\w+)=\"[^\"]+\"", labels)
    assert names == ["title", "description", "licenses", "version"]


@pytest.mark.parametrize("image", ["lb", "backend"])
def test_packages_are_installed_by_hash_and_without_running_what_they_bring(image: str) -> None:
    (install,) = [run for run in instructions(f"{image}-build", "RUN") if " install " in run]
    for flag in ("--require-hashes", "--no-deps", "--only-binary :all:"):
        assert flag in install
    assert f"deploy/{image}.lock /tmp/lock" in instructions(f"{image}-build", "COPY")


def test_the_context_holds_what_is_copied_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    sources = {copy.split()[0] for stage in ("lb-build", "backend-build") for copy in instructions(stage, "COPY")}
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line[0] == "!"} == sources
    assert "**/__pycache__" in lines
