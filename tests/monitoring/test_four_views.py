"""One endpoint of three is bad: the terminal, Prometheus, the access log and `podlb why` all tell the same of it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.fakes import eventually, request
from tests.integration.endpoint import Endpoint, reset
from tests.integration.processes import ROOT, LoadBalancer, _without_settings
from tests.integration.terminal import Terminal
from tests.monitoring.prometheus import Prometheus, Target

EACH = 60
"""How many are sent that may be tried again, and how many that may not: a third of them goes to the bad endpoint."""
BAD = EACH // 3
FAILED = "reset_before_head"


def why(lb: LoadBalancer, *arguments: str) -> str:
    """Return what `podlb why` prints."""
    return subprocess.run(
        [sys.executable, "-m", "lb", "why", *arguments, f"--admin=127.0.0.1:{lb.admin_port}"],
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
        cwd=ROOT,
        env=_without_settings(),
    ).stdout


def access_lines(lb: LoadBalancer) -> list[dict[str, Any]]:
    """Return the lines of the access log."""
    return [json.loads(line) for line in lb.lines if line.startswith("{")]


@pytest.mark.slow
@pytest.mark.timeout(90)
def test_four_views_of_one_bad_endpoint(tmp_path: Path) -> None:
    with Endpoint() as a, Endpoint() as b, Endpoint(default=reset) as bad:
        backends = ",".join(f"127.0.0.1:{endpoint.port}" for endpoint in (a, bad, b))
        with LoadBalancer(f"--backends={backends}", "--access-log=json") as lb:
            target = Target(lb.probe_port)
            with Prometheus(tmp_path, target) as prometheus:
                client = lb.client()
                assert {client.get().status for _ in range(EACH)} == {200}
                replies = [client.exchange(request("POST", "/", body=b"x")) for _ in range(EACH)]
                client.close()
                at_bad = f"127.0.0.1:{bad.port}"

                # What the clients saw.
                failed = [reply for reply in replies if reply.status == 502]
                assert len(failed) == BAD
                failed_ids = {str(reply.get(b"x-request-id"), "ascii") for reply in failed}

                # The log.
                eventually(lambda: len(access_lines(lb)) == 2 * EACH, "the last line of the access log")
                lines = access_lines(lb)
                assert Counter(line["reason"] for line in lines) == {"ok": 2 * EACH - BAD, FAILED: BAD}
                assert {line["requestId"] for line in lines if line["reason"] == FAILED} == failed_ids
                attempts = Counter(
                    (attempt["endpoint"], attempt["outcome"]) for line in lines for attempt in line["attempts"]
                )
                assert attempts == {(at_bad, "connection lost"): 2 * BAD}

                # Prometheus.
                prometheus.wait_until_scraped(target)

                def told(query: str) -> float:
                    [sample] = prometheus.query(query)
                    return sample.value

                assert told(f'podlb_exchange_ends_total{{reason="{FAILED}"}}') == BAD
                assert told('podlb_exchange_ends_total{reason="ok"}') == 2 * EACH - BAD
                assert told('podlb_failed_attempts_total{reason="reset"}') == 2 * BAD
                assert told('podlb_retried_attempts_total{reason="reset"}') == BAD
                assert told(f'podlb_upstream_resets_total{{endpoint="{at_bad}"}}') == 2 * BAD
                assert told("sum(podlb_upstream_resets_total)") == 2 * BAD
                assert told('podlb_own_replies_total{class="5xx"}') == BAD

                # podlb why.
                listed = re.findall(rf"^(\S+) .* POST /: 502, {FAILED}, ", why(lb), re.M)
                assert set(listed) == failed_ids
                for request_id in sorted(failed_ids)[:3]:
                    story = why(lb, request_id)
                    assert f"{at_bad}: connection lost" in story
                    assert FAILED in story
                    assert "3 available" in story

                # The terminal: its first picture is of all since the start.
                with Terminal(f"--admin=127.0.0.1:{lb.admin_port}", "--interval=5") as terminal:
                    terminal.wait_for("since the start")
                    terminal.wait_for(rf"failed\W.*{FAILED} ")
                    os.write(terminal.ours, b"q")
                    assert terminal.ends() == 0
                shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.text)
                assert re.search(rf"failed {FAILED} {BAD}\s", shown), shown
                row = next(line for line in shown.splitlines() if at_bad in line)
                assert re.search(r"\b0%", row), row
                success = f"{(2 * EACH - BAD) / (2 * EACH) * 100:.1f} %"
                assert f"success {success}" in shown
