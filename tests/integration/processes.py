"""`python -m lb` and `python -m backend` as processes of their own, killed at the end if they are still there."""

from __future__ import annotations

import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO, Self

from lb.endpoint import Endpoint, make_endpoint
from tests.fakes import DEADLINE, Client, eventually, free_port

ROOT = Path(__file__).parents[2]


class PythonProcess:
    """A Python process whose stdout is read line by line, and whose stderr is kept."""

    def __init__(
        self, module: str, *arguments: str, environment: dict[str, str] | None = None, descriptors: int | None = None
    ) -> None:
        """`descriptors` is how many files it may have open, if that is to be few."""

        def limit() -> None:
            assert descriptors is not None
            resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))

        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            preexec_fn=None if descriptors is None else limit,
            env=_without_settings() | (environment or {}),
        )
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self.process.stdout, self.lines), (self.process.stderr, self.errors))
        ]
        for reader in self._readers:
            reader.start()

    @staticmethod
    def _read(stream: IO[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line.rstrip("\n"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self.process.stdout, self.process.stderr):
            assert stream is not None
            stream.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def find(self, pattern: str) -> re.Match[str] | None:
        """Return the first match of `pattern` in what was written to stdout."""
        return next((match for line in self.lines if (match := re.search(pattern, line))), None)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line on stdout that matches."""
        eventually(lambda: self.find(pattern) or self.process.poll() is not None, f"the line {pattern!r}")
        match = self.find(pattern)
        assert match is not None, (self.lines, self.errors)
        return match

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Return the exit code; everything that was written has been read by then."""
        code = self.process.wait(seconds)
        for reader in self._readers:
            reader.join(DEADLINE)
        return code

    def kill(self) -> None:
        """Kill it if it is there, and wait until it is gone."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()


def _without_settings() -> dict[str, str]:
    """Return the environment without podlb's own variables: whoever runs the tests may have set some."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PODLB_")}


class Backend(PythonProcess):
    """A demo backend on a port of its own, which it keeps when it is started again."""

    def __init__(self, *flags: str, port: int | None = None) -> None:
        self.port = port or free_port()
        super().__init__("backend", "--host", "127.0.0.1", "--port", str(self.port), *flags)
        self.wait_for(r"listening on")

    @property
    def value(self) -> Endpoint:
        return make_endpoint("127.0.0.1", self.port)

    def requests_served(self) -> int:
        """Return how many requests it had served before this one."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            client.request("GET", "/")
            return int(json.loads(client.getresponse().read())["requests"]) - 1
        finally:
            client.close()


class LoadBalancer(PythonProcess):
    """`python -m lb run` on free ports. `port` is that of the listener; `probe_port` and `admin_port` are there too."""

    def __init__(self, *flags: str, descriptors: int | None = None) -> None:
        self.probe_port = free_port()
        self.admin_port = free_port()
        super().__init__(
            "lb",
            "run",
            "--host=127.0.0.1",
            "--port=0",
            f"--admin-port={self.admin_port}",
            f"--probe-port={self.probe_port}",
            *flags,
            descriptors=descriptors,
        )
        self.port = int(self.wait_for(r"listening on 127\.0\.0\.1:([0-9]+)$")[1])

    def client(self) -> Client:
        return Client(self.port)

    def probe(self, path: str) -> tuple[int, str]:
        """Return status and body of a page on the probe port."""
        client = Client(self.probe_port)
        try:
            message = client.get(path, "Connection: close")
            return message.status, message.body.decode().strip()
        finally:
            client.close()

    def resident(self) -> int:
        """Return the bytes of its memory that are resident now (Linux)."""
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
