"""`python -m lb demo`: what it prints to type works, a backend that exits comes back, and it ends with a summary."""

from __future__ import annotations

import http.client
import json
import re
import signal

import pytest

from tests.fakes import eventually
from tests.integration.processes import PythonProcess

pytestmark = [pytest.mark.timeout(40), pytest.mark.one_variant]


def get(port: int, path: str = "/", method: str = "GET", body: str | None = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, body)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def port_in(demo: PythonProcess, pattern: str) -> int:
    eventually(lambda: any(re.search(pattern, line) for line in demo.lines), pattern, seconds=20)
    return next(int(match[1]) for line in demo.lines if (match := re.search(pattern, line)))


def test_the_demo() -> None:
    with PythonProcess("lb", "demo") as demo:
        port = port_in(demo, r"balances 3 backends on http://127\.0\.0\.1:(\d+)/")
        admin_port = port_in(demo, r"curl http://127\.0\.0\.1:(\d+)/endpoints")
        fault_port = port_in(demo, r"curl -X POST http://127\.0\.0\.1:(\d+)/fault")
        pods = [json.loads(get(port)[1])["pod"] for _ in range(6)]
        assert sorted(pods) == sorted(["backend-1", "backend-2", "backend-3"] * 2)
        assert len(json.loads(get(admin_port, "/endpoints")[1])["endpoints"]) == 3
        eventually(lambda: any("requests 6 " in line for line in demo.lines), "the live line", seconds=5)

        assert get(fault_port, "/fault", "POST", '{"mode": "exit"}')[0] == 200
        eventually(lambda: any("backend-1 has exited" in line for line in demo.lines), "the exit", seconds=5)
        assert {get(port)[0] for _ in range(9)} == {200}

        def answers_again() -> bool:
            try:
                return get(fault_port)[0] == 200
            except OSError:
                return False

        eventually(answers_again, "its return", seconds=15)
        demo.signal(signal.SIGINT)
        assert demo.wait(20) == 0
        assert demo.errors == []
        summary = demo.lines[-4:]
        assert [line.split(":")[0] for line in summary[:3]] == ["backend-1", "backend-2", "backend-3"]
        assert re.fullmatch(r"in all \d+ picks; stopped", summary[3])


def test_ports_that_are_taken_and_usage() -> None:
    with PythonProcess("lb", "demo", "--backend-ports=1") as demo:
        assert demo.wait() == 2
        assert len(demo.errors) == 1
        assert "--backend-ports" in demo.errors[0]
