"""`podlb demo`: three backends and the load balancer as processes on this machine, to try it out.

Prints what to type, then one live line of how requests are spread, and a summary at the end. A backend that was made to
exit is started again after a moment, so that its way out of rotation and back can be watched.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NoReturn

BACKENDS = 3
_HOST = "127.0.0.1"
_START_SECONDS = 15.0
_RESTART_SECONDS = 3.0
_LISTENING = re.compile(r"listening on \S*:(\d+)")


class DemoError(Exception):
    """The demo can't go on. One line: why."""


class Screen:
    """Lines above, and one live line below them that is rewritten; on anything but a terminal the live line is rare."""

    def __init__(self) -> None:
        self._live = ""
        self._is_terminal = sys.stdout.isatty()
        self._lock = threading.Lock()

    def line(self, text: str) -> None:
        """Print a line above the live one."""
        with self._lock:
            clear = f"\r\x1b[K{text}\n{self._live}" if self._is_terminal else f"{text}\n"
            self._write(clear)

    def live(self, text: str) -> None:
        """Rewrite the live line."""
        with self._lock:
            if self._is_terminal:
                self._live = text[: os.get_terminal_size().columns - 1]
                self._write(f"\r\x1b[K{self._live}")
            elif text != self._live:
                self._live = text
                self._write(f"{text}\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


class Child:
    """A process whose output is watched."""

    def __init__(self, name: str, arguments: list[str], screen: Screen, environ: dict[str, str] | None = None) -> None:
        self.name = name
        self._screen = screen
        self._listening = threading.Event()
        self.port = 0
        self.process = subprocess.Popen(
            [sys.executable, "-m", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environ or {})},
            # Ctrl-C is for us: the children are stopped in order.
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            match = _LISTENING.search(line)
            if match is not None:
                self.port = int(match[1])
                self._listening.set()
            elif "[WARN]" in line or "[ERROR]" in line or "is back" in line or not line.startswith("["):
                self._screen.line(line.rstrip("\n"))

    def wait_until_listening(self) -> int:
        """Return its port. Raises DemoError if it ends, or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._listening.wait(0.05):
            if self.process.poll() is not None:
                self._reader.join(1.0)
                raise DemoError(f"{self.name} could not start: see the line above")
            if time.monotonic() > deadline:
                raise DemoError(f"{self.name} did not start within {_START_SECONDS:g} s")
        return self.port

    def stop(self) -> None:
        """Stop it in order; after 5 s at once."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(5.0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(1.0)
        if self.process.stdout is not None:
            self.process.stdout.close()


class Demo:
    """The processes, and what is shown of them."""

    def __init__(self, port: int, admin_port: int, backend_ports: Sequence[int]) -> None:
        self._screen = Screen()
        self._ports = (port, admin_port)
        self._backend_ports = list(backend_ports)
        self._backends: list[Child] = []
        self._restart_at: dict[int, float] = {}
        self._balancer: Child | None = None
        self._endpoints: list[dict[str, Any]] = []
        self._last_total = 0
        self._last_time = 0.0

    def run(self) -> int:
        """Start everything, show it until Ctrl-C or SIGTERM, stop everything; return the exit code."""
        try:
            self._start()
            self._explain()
            self._show()
        except KeyboardInterrupt:
            pass
        except DemoError as error:
            sys.stderr.write(f"podlb demo: {error}\n")
            return 1
        finally:
            self._stop()
        self._summarise()
        return 0

    def _start(self) -> None:
        self._backends = [self._start_backend(number) for number in range(BACKENDS)]
        self._backend_ports = [backend.wait_until_listening() for backend in self._backends]
        port, admin_port = self._ports
        arguments = ["lb", "run", "--host", _HOST, "--port", str(port), "--admin-port", str(admin_port)]
        # So few that the descriptor limit of a plain shell is enough.
        arguments += ["--max-connections", "4000"]
        arguments += ["--backends", ",".join(f"{_HOST}:{number}" for number in self._backend_ports)]
        self._balancer = Child("the load balancer", arguments, self._screen)
        self._balancer.wait_until_listening()

    def _start_backend(self, number: int) -> Child:
        name = f"backend-{number + 1}"
        arguments = ["backend", "--host", _HOST, "--port", str(self._backend_ports[number]), "--service-name", "demo"]
        return Child(name, arguments, self._screen, {"POD_NAME": name})

    def _explain(self) -> None:
        port, admin_port = self._ports
        url = f"http://{_HOST}:{port}/"
        for line in (
            "",
            f"podlb balances {BACKENDS} backends on {url} - type in another terminal:",
            "",
            f"  curl {url}{' ' * 26}which backend answers?",
            f"  wrk -t2 -c64 -d10s {url}{' ' * 12}load",
            f"  curl '{url}?delay=50ms&size=20k'{' ' * 4}a slower, larger answer",
            f"  curl http://{_HOST}:{admin_port}/endpoints{' ' * 16}the endpoints, as podlb sees them",
            f"  curl http://{_HOST}:{admin_port}/metrics{' ' * 18}the counters, for Prometheus",
            "",
            "  make backend-1 exit, and watch that no request is lost (it comes back after a moment):",
            f'  curl -X POST http://{_HOST}:{self._backend_ports[0]}/fault -d \'{{"mode": "exit"}}\'',
            "",
            "Ctrl-C ends it.",
            "",
        ):
            self._screen.line(line)

    def _show(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        self._last_time = time.monotonic()
        while True:
            time.sleep(0.5)
            self._keep_backends()
            self._poll()
            assert self._balancer is not None
            if self._balancer.process.poll() is not None:
                raise DemoError("the load balancer has ended: see the lines above")

    def _keep_backends(self) -> None:
        for number, backend in enumerate(self._backends):
            status = backend.process.poll()
            if status is None:
                continue
            now = time.monotonic()
            if number not in self._restart_at:
                self._screen.line(
                    f"{backend.name} has exited ({status}); it is started again in {_RESTART_SECONDS:g} s"
                )
                self._restart_at[number] = now + _RESTART_SECONDS
            elif now >= self._restart_at[number]:
                del self._restart_at[number]
                backend.stop()
                self._backends[number] = self._start_backend(number)

    def _poll(self) -> None:
        connection = http.client.HTTPConnection(_HOST, self._ports[1], timeout=2.0)
        try:
            connection.request("GET", "/endpoints")
            self._endpoints = json.loads(connection.getresponse().read())["endpoints"]
        except (OSError, http.client.HTTPException, ValueError):
            # One look missed: the next one tells.
            return
        finally:
            connection.close()
        now = time.monotonic()
        total = sum(row["picks"] for row in self._endpoints)
        rate = (total - self._last_total) / (now - self._last_time)
        self._last_total, self._last_time = total, now
        spread = "   ".join(
            f"{self._name(number)} {row['picks']:,}{'' if row['state'] == 'available' else ' (' + row['state'] + ')'}"
            for number, row in enumerate(self._endpoints)
        )
        self._screen.live(f"requests {total:,} ({rate:,.0f}/s)   {spread}")

    def _name(self, number: int) -> str:
        return self._backends[number].name if number < len(self._backends) else f"backend-{number + 1}"

    def _stop(self) -> None:
        if self._balancer is not None:
            if self._balancer.process.poll() is None and self._endpoints:
                self._poll()
            self._balancer.stop()
        for backend in self._backends:
            backend.stop()

    def _summarise(self) -> None:
        self._screen.live("")
        self._screen.line("")
        for number, row in enumerate(self._endpoints):
            answered = ", ".join(f"{count:,} {status}" for status, count in row["responses"].items() if count)
            self._screen.line(f"{self._name(number)}: picked {row['picks']:,} times, answered {answered or 'nothing'}")
        self._screen.line(f"in all {sum(row['picks'] for row in self._endpoints):,} picks; stopped")


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"podlb: {message}; see podlb demo --help\n")


def run_demo(argv: Sequence[str]) -> int:
    """Run the demo with the command line `argv`; return the exit code."""
    parser = _Parser(prog="podlb demo", description="Three backends and the load balancer, to try out.")
    parser.add_argument("--port", type=int, help="where the load balancer listens (default 8080, or any free port)")
    parser.add_argument("--admin-port", type=int, help="its admin port (default 8081, or any free port)")
    parser.add_argument(
        "--backend-ports", default="0,0,0", help="three ports for the backends, with commas (default: any free ones)"
    )
    options = parser.parse_args(list(argv))
    try:
        backend_ports = [int(text) for text in options.backend_ports.split(",")]
    except ValueError:
        backend_ports = []
    if len(backend_ports) != BACKENDS:
        parser.error(f"--backend-ports needs {BACKENDS} numbers with commas between them")
    taken: set[int] = set()
    port = options.port or _free_port(8080, taken)
    admin_port = options.admin_port or _free_port(8081, taken | {port})
    return Demo(port, admin_port, backend_ports).run()


def _free_port(preferred: int, taken: set[int]) -> int:
    """Return `preferred` if it is free here, else any port that is."""
    for port in (preferred, 0):
        with socket.socket() as sock, suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((_HOST, port))
            found = int(sock.getsockname()[1])
            if found not in taken:
                return found
    raise DemoError("no free port was found")
