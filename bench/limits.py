"""The limit of open files, raised for the processes of a run that need more than is usual."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator

from bench.proc import BenchError


def require_open_files(count: int, what: str) -> None:
    """BenchError, for `what`, if so many open files are not permitted; to be asked before anything else is measured."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and hard < count:
        raise BenchError(
            f"{what}: {count} open files are needed, and the hard limit (ulimit -Hn) is {hard}; "
            f"raise it, or measure fewer contenders or without this scenario"
        )


@contextlib.contextmanager
def open_files(count: int, what: str) -> Iterator[None]:
    """Processes started inside may have at least so many files open. BenchError, for `what`, if they may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < count:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
        except (OSError, ValueError) as error:
            raise BenchError(
                f"{what}: the limit of open files can't be raised from {soft} to {count}: {error}"
            ) from error
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
