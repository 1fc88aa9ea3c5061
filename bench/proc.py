"""Processes of a run: pinned to a core, on free ports, waited for until they answer, always stopped."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.usage import Usage, read_usage

ROOT = Path(__file__).resolve().parent.parent
"""The repository: where `python -m lb` is run from."""

HOST = "127.0.0.1"
START_TIMEOUT = 10.0
STOP_TIMEOUT = 5.0
_POLL_SECONDS = 0.05


class BenchError(Exception):
    """A run cannot go on; the text tells the user what was wrong and what to do."""


class Cores(NamedTuple):
    """Where processes run; None: wherever the system puts them."""

    balancer: int | None
    load: int | None

    def __str__(self) -> str:
        if self.balancer is None:
            return "nothing pinned (no affinity here, or a single core): figures vary more"
        return f"balancer alone on core {self.balancer}, wrk and backend on core {self.load}"


def choose_cores() -> Cores:
    """The first core that this process may use for the balancer, the second one for everything else."""
    if not hasattr(os, "sched_getaffinity"):
        return Cores(None, None)
    usable = sorted(os.sched_getaffinity(0))
    return Cores(usable[0], usable[1]) if len(usable) > 1 else Cores(None, None)


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Processes started inside inherit this core. Not for use from several threads."""
    if core is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((HOST, 0))
        return [each.getsockname()[1] for each in sockets]


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(HOST, port, timeout=1.0)
    try:
        connection.request("GET", "/")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Process:
    """A program of the run, with its output in a log file. It is a context manager: leaving it stops the program."""

    def __init__(self, name: str, argv: Sequence[str], core: int | None, log: Path) -> None:
        self.name = name
        self._log = log
        # A configuration from the caller's environment would measure something else than the table says.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PODLB_")}
        with log.open("wb") as output, pinned(core):
            self._popen = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self.stop()

    def wait_until_answers(self, port: int) -> None:
        """Return once `GET /` on the port is answered 200; BenchError with the end of the log when it never is."""
        deadline = time.monotonic() + START_TIMEOUT
        while not _answers(port):
            if self._popen.poll() is not None:
                raise BenchError(f"{self.name} ended with status {self._popen.returncode}:\n{self.log_tail()}")
            if time.monotonic() > deadline:
                raise BenchError(
                    f"{self.name} did not answer GET / with 200 on port {port} "
                    f"within {START_TIMEOUT:g} s:\n{self.log_tail()}"
                )
            time.sleep(_POLL_SECONDS)

    def usage(self) -> Usage:
        """CPU and memory of the program and its children; BenchError when it has died."""
        if self._popen.poll() is not None:
            raise BenchError(f"{self.name} died with status {self._popen.returncode}:\n{self.log_tail()}")
        return read_usage(self._popen.pid)

    def log_tail(self, lines: int = 12) -> str:
        """The last lines the program wrote, indented."""
        written = self._log.read_text(errors="replace").splitlines()[-lines:]
        return "\n".join(f"    {line}" for line in written) or "    (it wrote nothing)"

    def stop(self) -> None:
        """Ask it to stop, then end it together with its children."""
        if self._popen.poll() is None:
            self._popen.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(STOP_TIMEOUT)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()
