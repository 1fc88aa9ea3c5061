"""The tests that docs/behaviour.md names are there and run: a pytest plugin, which conftest.py registers.

An id is `tests/file.py::test_name`, or `::test_name` in the same line behind another of the same file, or a class of
tests, or a whole file. It stands for every set of parameters. In a whole run (see `is_whole_run`) an id fails the
session that no collected test has, or of which no test passed although the run asked for them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

WHOLE_RUNS = ("", "not soak", "not slow and not soak")
"""The marker expressions with which the Makefile runs the suite; what they leave out need not run, but must exist."""

_WORD = re.compile(r"`([^`]+)`")
_NAME = re.compile(r"test_|Test[A-Z]")
_TEST_FILE = re.compile(r"tests/(?:\w+/)*test_\w+\.py")


def documented_ids(text: str) -> list[str]:
    """Return the ids in a page, in order and each once."""
    ids: dict[str, None] = {}
    for line in text.splitlines():
        path = ""
        for word in _WORD.findall(line):
            where, colons, name = word.partition("::")
            if where.startswith("tests/"):
                path = where
            if (where.startswith("tests/") and colons) or _NAME.match(name) or _TEST_FILE.fullmatch(word):
                ids[f"{where or path}{colons}{name}"] = None
    return list(ids)


def is_whole_run(config: pytest.Config) -> bool:
    """Does this run ask for all tests, or for all but what a marker of the Makefile leaves out?"""
    option = config.option
    paths = {config.rootpath / path for path in config.getini("testpaths")}
    narrowed = ("keyword", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")
    return (
        {config.invocation_params.dir / argument for argument in config.args} == paths
        and option.markexpr in WHOLE_RUNS
        and not any(getattr(option, name, None) for name in narrowed)
    )


class Documented:
    """Compares the ids in `page` with what was collected and what passed.

    `skips_fail`: an id all of whose tests were skipped counts as not run. (Elsewhere than on Linux much is skipped.)
    """

    def __init__(self, page: Path, *, skips_fail: bool) -> None:
        self._page = page
        self._ids = documented_ids(page.read_text())
        self._skips_fail = skips_fail
        self._collected: set[str] = set()
        self._left_out: set[str] = set()
        self._passed: set[str] = set()
        self._failed: set[str] = set()
        self._skipped: set[str] = set()
        self._problems: list[str] = []

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Note what there is, before markers leave some of it out."""
        self._collected.update(name for item in items for name in _names(item.nodeid))

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        """Note what a marker leaves out."""
        self._left_out.update(name for item in items for name in _names(item.nodeid))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note what came of a test."""
        if report.failed:
            self._failed.update(_names(report.nodeid))
        elif report.skipped:
            self._skipped.update(_names(report.nodeid))
        elif report.when == "call":
            self._passed.update(_names(report.nodeid))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a whole run for an id that does not exist or did not run."""
        was_stopped = session.shouldstop or session.shouldfail
        if was_stopped or not is_whole_run(session.config):
            return
        if session.exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return  # an interruption, for one, has its own status
        for name in self._ids:
            if name not in self._collected:
                self._problems.append(f"{name} does not exist")
            elif not self._is_accounted_for(name):
                self._problems.append(f"{name} did not run")
        if self._problems:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _is_accounted_for(self, name: str) -> bool:
        if name in self._passed or name in self._failed or name in self._left_out:
            return True  # a failure has its own report
        return name in self._skipped and not self._skips_fail

    @pytest.hookimpl(wrapper=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        """Name the ids that fail the run."""
        yield
        if self._problems:
            terminalreporter.section(f"tests that {self._page.name} names", red=True)
            for problem in self._problems:
                terminalreporter.write_line(f"FAILED (documented) {problem}")


def _names(nodeid: str) -> list[str]:
    """Return the ids under which the page may name a test: its own without parameters, its class's, its file's."""
    parts = nodeid.partition("[")[0].split("::")
    return ["::".join(parts[:count]) for count in range(1, len(parts) + 1)]
