"""In CI a skipped test is a failure: the rule in conftest.py, run on a suite of its own."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PASSES = "def test_passes():\n    assert True\n"
SKIPS = "import pytest\n\n@pytest.mark.skip(reason='no such program')\ndef test_skips():\n    pass\n"
SKIPS_MODULE = "import pytest\n\npytest.skip('not here', allow_module_level=True)\n"
EXPECTS_FAILURE = "import pytest\n\n@pytest.mark.xfail(reason='some day')\ndef test_fails():\n    assert False\n"


IN_PART_SLOW = """
import pytest

def test_quick():
    pass

@pytest.mark.slow
def test_slow():
    pass

@pytest.mark.parametrize("variant", ["first", pytest.param("second", marks=pytest.mark.further_variant)])
def test_on(variant):
    pass
"""


def run_suite(tmp_path: Path, body: str, ci: str, *flags: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(Path(__file__).with_name("conftest.py"), tmp_path / "conftest.py")
    (tmp_path / "test_it.py").write_text(body)
    (tmp_path / "test_other.py").write_text(PASSES)
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(tmp_path),
            str(tmp_path),
            *flags,
        ],
        env={**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=9,
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (SKIPS, "test_it.py::test_skips: no such program"),
        (SKIPS_MODULE, "test_it.py: not here"),
        (EXPECTS_FAILURE, "test_it.py::test_fails: expected to fail: some day"),
    ],
)
def test_a_test_that_does_not_run_fails_in_ci(tmp_path: Path, body: str, reason: str) -> None:
    result = run_suite(tmp_path, body, ci="true")
    assert result.returncode == 1, result.stdout
    assert f"FAILED (skipped) {reason}" in result.stdout


def test_elsewhere_a_skip_is_a_skip(tmp_path: Path) -> None:
    result = run_suite(tmp_path, SKIPS, ci="false")
    assert result.returncode == 0, result.stdout
    assert "FAILED" not in result.stdout


def test_a_suite_that_runs_whole_passes_in_ci(tmp_path: Path) -> None:
    result = run_suite(tmp_path, PASSES, ci="true")
    assert result.returncode == 0, result.stdout


def test_what_has_just_run_need_not_run_twice(tmp_path: Path) -> None:
    """By `make test` and then `make test-all`; nothing of either is lost."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow: it is\n")
    first = run_suite(tmp_path, IN_PART_SLOW, "true", "-rp", "-m", "not slow and not further_variant")
    then = run_suite(tmp_path, IN_PART_SLOW, "true", "-rp", "--not-twice")
    passed = [re.findall(r"PASSED \S*?(test_(?:it|other)\.py::\S+)", result.stdout) for result in (first, then)]
    assert passed == [
        ["test_it.py::test_quick", "test_it.py::test_on[first]", "test_other.py::test_passes"],
        ["test_it.py::test_slow", "test_it.py::test_on[second]"],
    ]
    assert "3 deselected" in then.stdout
    assert (first.returncode, then.returncode) == (0, 0)
