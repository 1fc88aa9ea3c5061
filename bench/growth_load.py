"""What bench/growth.py measures with: backends at many addresses and of many sizes, one contender under one load."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bench.backend import BULK_BODY, SMALL_BODY
from bench.load import Scenario, run_wrk, short_bodies
from bench.measure import Contender
from bench.peers import Peer, Setting
from bench.peers.nginx import Content, backend_argv
from bench.proc import HOST, BenchError, Cores, Process, free_ports

_LISTENERS_CONNECTIONS = 16_384
"""To nginx every address that it listens on is a connection as well."""


def addresses(count: int) -> list[str]:
    """So many addresses of this machine: 127.1.0.1, 127.1.0.2, … (Linux has all of 127.0.0.0/8.)"""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


def many_configuration(setting: Setting, hosts: Sequence[str]) -> str:
    """nginx.conf of a backend that answers the same at every one of the addresses."""
    listens = "\n".join(f"        listen {host}:{setting.port} backlog=1024;" for host in (HOST, *hosts))
    text = SMALL_BODY.decode().replace("\n", "\\n")
    return f"""\
daemon off;
worker_processes 1;
worker_rlimit_nofile {_LISTENERS_CONNECTIONS};
pid {setting.directory}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections {_LISTENERS_CONNECTIONS};
}}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {setting.directory}/body;
    proxy_temp_path {setting.directory}/proxy;
    fastcgi_temp_path {setting.directory}/fastcgi;
    uwsgi_temp_path {setting.directory}/uwsgi;
    scgi_temp_path {setting.directory}/scgi;
    server {{
{listens}
        keepalive_requests 1000000000;
        location / {{
            return 200 "{text}";
        }}
    }}
}}
"""


@contextlib.contextmanager
def _backend(cores: Cores) -> Iterator[tuple[Setting, contextlib.ExitStack]]:
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podlb-bench-")))
        directory.chmod(0o755)  # nginx gives its worker to another user when root starts it
        yield Setting(free_ports(1)[0], 0, (), directory), stack


def _start(setting: Setting, argv: Sequence[str], core: int | None, stack: contextlib.ExitStack) -> None:
    process = Process("the backend", argv, core, setting.directory / "output.log")
    stack.enter_context(process).wait_until_answers(setting.port)


@contextlib.contextmanager
def many_endpoints(count: int, cores: Cores) -> Iterator[list[str]]:
    """One nginx at that many addresses, until the end of the block; gives them as backends."""
    with _backend(cores) as (setting, stack):
        hosts = addresses(count)
        configuration = setting.write("nginx.conf", many_configuration(setting, hosts))
        _start(setting, ["nginx", "-p", str(setting.directory), "-c", configuration], cores.load, stack)
        yield [f"{host}:{setting.port}" for host in hosts]


@contextlib.contextmanager
def bodies(sizes: Sequence[int], cores: Cores) -> Iterator[list[str]]:
    """An nginx that answers `/N` with N bytes, until the end of the block; gives it as the one backend."""
    with _backend(cores) as (setting, stack):
        files = {f"/{size}": (BULK_BODY * -(-size // len(BULK_BODY)))[:size] for size in sizes}
        _start(setting, backend_argv(setting, Content(SMALL_BODY, files)), cores.load, stack)
        yield [f"{HOST}:{setting.port}"]


def before(peer: Peer, backends: Sequence[str]) -> Peer:
    """The same contender, balancing these backends instead."""

    def argv(setting: Setting) -> list[str]:
        return peer.argv(dataclasses.replace(setting, backends=backends))

    return dataclasses.replace(peer, argv=argv)


class Measured(NamedTuple):
    """What one load came to."""

    requests: int
    seconds: float
    cpu_seconds: float
    rss_bytes: int
    failed: int

    @property
    def cpu_us(self) -> float:
        """CPU microseconds per request."""
        return self.cpu_seconds / self.requests * 1e6


def measure(contender: Contender, scenario: Scenario, seconds: int, cores: Cores) -> Measured:
    """Load the contender for whole seconds. BenchError when it answers nothing."""
    start = contender.process.usage()
    result = run_wrk(scenario, contender.port, seconds, cores.load)
    end = contender.process.usage()
    if not result.requests:
        raise BenchError(f"{scenario.name}: {contender.peer.name} answered not one request of {scenario.path}")
    failed = result.non_2xx + result.socket_errors + short_bodies(scenario, result)
    return Measured(result.requests, result.seconds, end.cpu_seconds - start.cpu_seconds, end.rss_bytes, failed)
