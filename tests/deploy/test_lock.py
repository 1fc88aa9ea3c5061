"""The locks of the images: what the tests run with, by hash, all that is imported and nothing beyond it."""

from __future__ import annotations

import ast
import configparser
import re
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deploy.files import DEPLOY, ROOT

_PIN = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>[\w.]+)(?: ;[^\\\n]*)?(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)$", re.M
)


def locked(package: str) -> dict[str, str]:
    text = (DEPLOY / f"{package}.lock").read_text()
    pins = {match["name"]: match["version"] for match in _PIN.finditer(text)}
    # Each requirement has its hashes: none was passed over by the expression.
    assert len(pins) == len(re.findall(r"==", text)) > 0
    return pins


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return {
        str(canonicalize_name(name)): version
        for name, separator, version in (line.partition("==") for line in lines)
        if separator and not name.startswith("#")
    }


def requirements() -> list[str]:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return [line for line in setup["options"]["install_requires"].splitlines() if line]


def closure(wanted: list[str]) -> set[str]:
    """Return the names of `wanted` and of all that they need, by the metadata of what is installed."""
    names: set[str] = set()
    queue = [Requirement(text) for text in wanted]
    while queue:
        requirement = queue.pop()
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        assert not requirement.extras, f"{requirement}: extras are not followed here"
        name = str(canonicalize_name(requirement.name))
        if name not in names:
            names.add(name)
            queue += [Requirement(text) for text in metadata.requires(name) or []]
    return names


def imported(package: str) -> set[str]:
    """Return the top names of what the modules of `package` import from elsewhere."""
    names = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names - sys.stdlib_module_names - {package}


@pytest.mark.parametrize("package", ["lb", "backend"])
def test_the_versions_are_those_that_the_tests_run_with(package: str) -> None:
    known = constraints()
    assert locked(package) == {name: known[name] for name in locked(package)}


def test_the_load_balancers_lock_is_what_setup_cfg_asks_for_and_all_that_this_needs() -> None:
    assert set(locked("lb")) == closure(requirements())
    for requirement in map(Requirement, requirements()):
        assert requirement.specifier.contains(locked("lb")[str(canonicalize_name(requirement.name))])


@pytest.mark.parametrize("package", ["lb", "backend"])
def test_all_that_is_imported_is_locked(package: str) -> None:
    # (rich is an extra: `podlb top` asks an image from outside.)
    assert imported(package) - {"lb", "backend", "rich"} <= {name.replace("-", "_") for name in locked(package)}


def test_the_backends_lock_is_what_it_imports_and_no_more() -> None:
    assert set(locked("backend")) == closure(sorted(imported("backend")))
