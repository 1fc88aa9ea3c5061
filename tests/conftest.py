"""Rules for the whole test suite: the option that widens it, no skipped test in CI, every documented test runs."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest

_not_run: list[tuple[str, str]] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all-loops",
        action="store_true",
        help="run the integration tests on every event loop and with every parser",
    )
    parser.addoption(
        "--not-twice",
        action="store_true",
        help="leave out what `make test` runs: for whoever has just run it",
    )


_BEYOND_TEST = ("slow", "soak", "further_variant")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "further_variant: on a loop or with a parser that only --all-loops asks for")
    page = config.rootpath / "docs/behaviour.md"
    if page.exists():
        from tests.documented import Documented

        config.pluginmanager.register(Documented(page, skips_fail=sys.platform == "linux"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--not-twice"):
        twice = [item for item in items if not any(map(item.get_closest_marker, _BEYOND_TEST))]
        config.hook.pytest_deselected(items=twice)
        known = set(twice)
        items[:] = [item for item in items if item not in known]


def pytest_collection_finish(session: pytest.Session) -> None:
    # Thousands of tests are a million objects, which every run of the garbage collector would look at again.
    gc.collect()
    gc.freeze()


def _in_ci() -> bool:
    return os.environ.get("CI") == "true"


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    if hasattr(report, "wasxfail"):
        return f"expected to fail: {report.wasxfail or 'no reason given'}"
    if isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    return str(report.longrepr)


def _note(report: pytest.TestReport | pytest.CollectReport) -> None:
    if report.skipped:
        _not_run.append((report.nodeid, _reason(report)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _note(report)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    _note(report)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # Not over a worse status, such as an interruption.
    if _in_ci() and _not_run and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    yield
    if _in_ci() and _not_run:
        terminalreporter.section("skipped in CI, where everything must run", red=True)
        for nodeid, reason in _not_run:
            terminalreporter.write_line(f"FAILED (skipped) {nodeid}: {reason}")
