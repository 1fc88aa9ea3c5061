"""podlb as it is used in Kubernetes: its endpoints are found in the EndpointSlices of an API server."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from sys import executable

from bench.api_server import NAMESPACE, SERVICE
from bench.peers.peer import Peer, Setting
from bench.peers.podlb import podlb
from bench.proc import HOST, BenchError, Process, free_ports

_TIMEOUT = 10.0


def _argv_alone(setting: Setting) -> list[str]:
    raise BenchError(f"{PODLB_KUBERNETES.name} can't be started without an API server beside it")


PODLB_KUBERNETES = dataclasses.replace(
    podlb("podlb-kubernetes", loop="epoll", parser="auto"), argv=_argv_alone, scenarios=("idle",)
)
"""The line in the table; what can be started comes from `beside_api_server`."""


class Cluster:
    """An API server that runs (see bench/api_server.py), and the contender that follows it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.peer: Peer = dataclasses.replace(PODLB_KUBERNETES, argv=self._argv)

    def change(self, events_per_second: float) -> None:
        """From now on so many slices change a second; 0: none."""
        self._ask("PUT", "/bench/events-per-second", str(events_per_second))

    def events(self) -> int:
        """How many changes there were so far."""
        return int(self._ask("GET", "/bench/events"))

    def _argv(self, setting: Setting) -> list[str]:
        self._ask("PUT", "/bench/endpoints", json.dumps(list(setting.backends)))
        return [
            *(executable, "-m", "lb", "run"),
            *("--host", HOST, "--port", str(setting.port)),
            *("--discovery", "kubernetes", "--kubeconfig", setting.write("kubeconfig", kubeconfig(self._port))),
            *("--backend-service-name", SERVICE, "--namespace", NAMESPACE, "--backend-port", "http"),
            *("--loop", "epoll", "--parser", "auto"),
            *("--admin-port", str(setting.admin_port)),
        ]

    def _ask(self, method: str, path: str, body: str | None = None) -> bytes:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=_TIMEOUT)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"the API server of the benchmark does not answer {method} {path}: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise BenchError(f"the API server of the benchmark answered {method} {path} with {response.status}")
        return text


def kubeconfig(port: int) -> str:
    """A kubeconfig for an API server that asks for no credentials. (JSON is YAML.)"""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bench", "cluster": {"server": f"http://{HOST}:{port}"}}],
            "users": [{"name": "bench", "user": {}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": "bench"}}],
            "current-context": "bench",
        }
    )


@contextlib.contextmanager
def beside_api_server(core: int | None) -> Iterator[Cluster]:
    """An API server on that core, until the end of the block. Its CPU and memory are no part of the contender's."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="podlb-bench-") as directory:
        argv = [executable, "-m", "bench.api_server", str(port)]
        with Process("the API server", argv, core, Path(directory) / "output.log") as process:
            process.wait_until_answers(port)
            yield Cluster(port)
