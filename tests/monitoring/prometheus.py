"""A real Prometheus that scrapes what a test names, several times a second, and answers queries."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode

import yaml

from tests.deploy.monitoring import prometheus_program
from tests.fakes import DEADLINE, eventually, free_port

INTERVAL = "500ms"
"""Between scrapes of a target, and between evaluations of the rules; also what a busy machine has for a scrape."""
START_SECONDS = 20.0
"""It scrapes for the first time five seconds after its start."""

Labels = dict[str, str]


class QueryError(Exception):
    """Prometheus refused a query. The message is what it said."""


class Sample(NamedTuple):
    """One series of an answer: its labels and its value."""

    labels: Labels
    value: float


class Target(NamedTuple):
    """What is scraped: a port of this machine, and the labels that the scraper gives to what is there."""

    port: int
    labels: Mapping[str, str] = {}

    @property
    def instance(self) -> str:
        """Return what the label `instance` is."""
        return f"127.0.0.1:{self.port}"


class Prometheus:
    """A Prometheus on a free port of 127.0.0.1 that keeps its data in `folder`. Use as a context."""

    def __init__(
        self,
        folder: Path,
        *targets: Target,
        job: str = "podlb-lb",
        rule_files: Sequence[Path] = (),
        relabelings: Sequence[Mapping[str, object]] = (),
    ) -> None:
        """`relabelings` are applied to every target, as `relabel_configs` write them."""
        program = prometheus_program("prometheus")
        self.port = free_port()
        configuration = {
            "global": {
                "scrape_interval": INTERVAL,
                "evaluation_interval": INTERVAL,
            },
            "rule_files": [str(path) for path in rule_files],
            "scrape_configs": [
                {
                    "job_name": job,
                    "scrape_timeout": INTERVAL,
                    "static_configs": [{"targets": [t.instance], "labels": dict(t.labels)} for t in targets],
                    "relabel_configs": [dict(rule) for rule in relabelings],
                }
            ],
        }
        path = folder / "prometheus.yaml"
        path.write_text(yaml.safe_dump(configuration))
        self._log = folder / "prometheus.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    program,
                    f"--config.file={path}",
                    f"--web.listen-address=127.0.0.1:{self.port}",
                    f"--storage.tsdb.path={folder / 'data'}",
                    "--log.level=warn",
                ],
                stdout=log,
                stderr=log,
                cwd=folder,
            )

    def __enter__(self) -> Self:
        try:
            eventually(self._is_ready, "a Prometheus that is ready", seconds=START_SECONDS)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def log(self) -> str:
        """What it wrote: warnings and errors."""
        return self._log.read_text()

    def query(self, expression: str) -> list[Sample]:
        """Return what an expression is now: a scalar is a sample without labels. Raise QueryError if it is refused."""
        answer = self._api("/api/v1/query", {"query": expression})
        if answer["resultType"] == "scalar":
            return [Sample({}, float(answer["result"][1]))]
        return [Sample(series["metric"], float(series["value"][1])) for series in answer["result"]]

    def value(self, expression: str) -> float | None:
        """Return the value of an expression that is at most one series; None where there is none."""
        samples = self.query(expression)
        assert len(samples) < 2, samples
        return samples[0].value if samples else None

    def scrapes(self, target: Target) -> int:
        """Return how often a target was scraped with success."""
        found = self.value(f'sum_over_time(up{{instance="{target.instance}"}}[10m])')
        return int(found or 0)

    def wait_until_scraped(self, target: Target, times: int = 1) -> None:
        """Wait until a target was scraped with success so many times from now on.

        The first of them may have begun before this call, so one more is waited for.
        """
        goal = self.scrapes(target) + times + 1
        eventually(lambda: self.scrapes(target) >= goal, f"scrape {goal} of {target.instance}", seconds=START_SECONDS)

    def rules(self) -> list[dict[str, Any]]:
        """Return the rules that were loaded, with their health."""
        return [rule for group in self._api("/api/v1/rules")["groups"] for rule in group["rules"]]

    def targets(self) -> list[dict[str, Any]]:
        """Return what is scraped, with what went wrong."""
        return list(self._api("/api/v1/targets")["activeTargets"])

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, self.log
        try:
            return self._ask("GET", "/-/ready")[0] == 200
        except ConnectionRefusedError:
            return False

    def _api(self, path: str, form: Mapping[str, str] | None = None) -> Any:
        status, body = self._ask("GET" if form is None else "POST", path, form)
        answer = json.loads(body)
        if answer["status"] != "success":
            raise QueryError(f"{status}: {answer['error']}")
        return answer["data"]

    def _ask(self, method: str, path: str, form: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            body = None if form is None else urlencode(form)
            headers = {} if form is None else {"Content-Type": "application/x-www-form-urlencoded"}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()
