"""The plugin of documented.py, run on suites of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documented import WHOLE_RUNS, documented_ids

pytest_plugins = ["pytester"]

SUITE = """
import pytest

def test_runs():
    pass

@pytest.mark.parametrize("n", [1, 2])
def test_many(n):
    pass

@pytest.mark.skip(reason="no such program")
def test_skips():
    pass

@pytest.mark.xfail(reason="some day")
def test_expects_failure():
    assert False

def test_fails():
    assert False

@pytest.mark.slow
def test_slow():
    pass

@pytest.mark.soak
def test_soak():
    pass

class TestClass:
    def test_method(self):
        pass

@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.skip(reason="not here"))])
def test_partly(n):
    pass
"""

INI = """
[pytest]
testpaths = tests
addopts = --import-mode=importlib
asyncio_default_fixture_loop_scope = function
markers =
    slow: x
    soak: x
"""

CONFTEST = """
from tests.documented import Documented

def pytest_configure(config):
    page = config.rootpath / "page.md"
    config.pluginmanager.register(Documented(page, skips_fail={skips_fail}))
"""


class Suite:
    """A suite of its own, with a page that names tests of it."""

    def __init__(self, pytester: pytest.Pytester) -> None:
        self._pytester = pytester
        pytester.makeini(INI)
        self.write("tests/test_it.py", SUITE)
        self.write("tests/test_other.py", "def test_other():\n    pass\n")

    def write(self, path: str, text: str) -> None:
        file = self._pytester.path / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)

    def run(self, page: str, *arguments: str, skips_fail: bool = True) -> list[str]:
        """Return what the plugin complains about; check that the session fails for it, and for nothing else."""
        self.write("page.md", page)
        self.write("conftest.py", CONFTEST.format(skips_fail=skips_fail))
        arguments = ("-p", "no:cacheprovider", *arguments)
        result = self._pytester.runpytest_inprocess(*arguments)
        problems = re.findall(r"^FAILED \(documented\) (.*)", result.stdout.str(), re.MULTILINE)
        self.outcomes = result.parseoutcomes()
        assert result.ret == (1 if problems or self.outcomes.get("failed") else 0)
        return problems


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Suite:
    return Suite(pytester)


def test_an_id_that_does_not_exist(suite: Suite) -> None:
    suite.write("tests/test_it.py", "def test_runs():\n    pass\n")
    page = "`tests/test_it.py::test_runs`, `::test_gone`\n`tests/test_none.py`"
    assert suite.run(page) == ["tests/test_it.py::test_gone does not exist", "tests/test_none.py does not exist"]
    assert suite.outcomes == {"passed": 2}, "nothing else failed"


def test_those_that_were_skipped(suite: Suite) -> None:
    page = "`tests/test_it.py::test_skips`, `::test_expects_failure`"
    problems = ["tests/test_it.py::test_skips did not run", "tests/test_it.py::test_expects_failure did not run"]
    assert suite.run(page) == problems
    assert suite.run(page, skips_fail=False) == []


def test_those_that_ran(suite: Suite) -> None:
    """All parameters of a test, some of them, a class, a whole file."""
    page = "`tests/test_it.py::test_runs`, `::test_many`, `::test_partly`, `::TestClass`, `tests/test_it.py`"
    assert suite.run(f"{page}, `::TestClass::test_method`") == []
    assert suite.run("`tests/test_it.py::TestNone`") == ["tests/test_it.py::TestNone does not exist"]


def test_one_that_failed_is_told_once(suite: Suite) -> None:
    assert suite.run("`tests/test_it.py::test_fails`") == []
    assert suite.outcomes["failed"] == 1


def test_what_a_marker_leaves_out_must_only_exist(suite: Suite) -> None:
    page = "`tests/test_it.py::test_slow`, `::test_soak`, `::test_gone`"
    for expression in WHOLE_RUNS:
        assert suite.run(page, "-m", expression) == ["tests/test_it.py::test_gone does not exist"]
    assert suite.outcomes["deselected"] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["tests/test_it.py"],
        ["tests/test_it.py::test_runs"],
        ["-k", "runs"],
        ["-m", "soak"],
        ["--deselect", "tests/test_it.py::test_runs"],
        ["--ignore", "tests/test_other.py"],
        ["--collect-only"],
        ["-x"],
    ],
    ids=" ".join,
)
def test_a_part_of_the_suite_may_lack_some(arguments: list[str], suite: Suite) -> None:
    assert suite.run("`tests/test_it.py::test_gone`, `::test_skips`", *arguments) == []


def test_naming_all_paths_is_a_whole_run(suite: Suite) -> None:
    assert suite.run("`tests/test_it.py::test_gone`", "tests") == ["tests/test_it.py::test_gone does not exist"]


def test_which_words_of_a_page_are_ids() -> None:
    page = """
    Tests in `tests/integration/`, by `tests/helper.py`, and `Host`, `a::b`, `::1`.
    | rule | `tests/test_a.py::test_one`, `::test_two`, `tests/c/test_b.py`, `::test_three` |
    | rule | `tests/helper.py::other`, `tests/test_a.py::test_one`, `::TestFour::test_five` |
    """
    assert documented_ids(page) == [
        "tests/test_a.py::test_one",
        "tests/test_a.py::test_two",
        "tests/c/test_b.py",
        "tests/c/test_b.py::test_three",
        "tests/helper.py::other",
        "tests/test_a.py::TestFour::test_five",
    ]


def test_the_makefile_runs_whole_suites() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    expressions = set(re.findall(r'pytest .*-m "([^"]*)"', makefile))
    assert expressions == set(WHOLE_RUNS) - {""}
