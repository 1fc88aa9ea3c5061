"""`/stats.json`, `/stats.csv` and `podlb top` over a podlb that runs, in a pipe and on a terminal."""

from __future__ import annotations

import csv
import os
import re
import signal
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lb.stats_model import from_json
from lb.top_command import fetch
from tests.fakes import DEADLINE, free_port
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.processes import ROOT, Backend, LoadBalancer, _without_settings
from tests.integration.terminal import Terminal
from tests.integration.test_admin import Ports

pytestmark = pytest.mark.one_variant


def test_the_pages(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    up, down = endpoint(), endpoint(is_up=False)
    ports = Ports(balancer, up, down.value)
    client = ports.lb.client()
    for _ in range(6):
        assert client.get().status == 200
    ports.lb.wait_until_idle()
    message = ports.admin("/stats.json")
    assert (message.status, message.get(b"content-type")) == (200, b"application/json")
    found = from_json(message.body)
    assert (found.totals.exchanges, found.totals.ends, found.totals.responses["2xx"]) == (6, {"ok": 6}, 6)
    assert found.times.exchange.count == 6
    states = {one.endpoint: (one.state, one.reason) for one in found.endpoints}
    assert states == {
        up.value.authority: ("available", ""),
        down.value.authority: ("set aside", "connect refused"),
    }
    message = ports.admin("/stats.csv")
    assert (message.status, message.get(b"content-type")) == (200, b"text/csv; charset=utf-8")
    rows = list(csv.DictReader(message.body.decode().splitlines()))
    assert [row["endpoint"] for row in rows] == ["TOTAL", up.value.authority, down.value.authority]
    assert rows[0]["exchanges"] == "6"
    for page in ("/stats.json", "/stats.csv"):
        assert ports.probe(page).status == 404, "addresses are for the admin port"
        assert ports.admin(page, host="evil.test").status == 421


@contextmanager
def served(*flags: str) -> Iterator[tuple[Backend, LoadBalancer]]:
    """Run a backend and a podlb that also knows one that is not there."""
    with Backend() as backend:
        backends = f"--backends=127.0.0.1:{backend.port},127.0.0.1:{free_port()}"
        with LoadBalancer(backends, *flags) as lb:
            client = lb.client()
            for _ in range(4):
                assert client.get().status == 200
            client.close()
            yield backend, lb


def top(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lb", "top", *arguments],
        capture_output=True,
        text=True,
        timeout=15,
        cwd=ROOT,
        env=_without_settings(),
    )


def test_one_frame_in_a_pipe() -> None:
    with served() as (backend, lb):
        found = top("--once", f"--admin=127.0.0.1:{lb.admin_port}", "--interval=0.2")
    assert (found.returncode, found.stderr) == (0, "")
    assert "\x1b" not in found.stdout
    assert re.search(rf"^127\.0\.0\.1:{backend.port} +available \d+ s ", found.stdout, re.M)
    assert re.search(r"set aside \d+ s: connect refused", found.stdout)
    assert re.search(r"WARN proxy: endpoint \S+ is set aside for 1 s: connect refused", found.stdout)
    assert "in the last 0." in found.stdout


def test_the_events_are_those_of_the_log() -> None:
    with served() as (_, lb):
        events = fetch(f"127.0.0.1:{lb.admin_port}").events
        assert any("listening on" in event.message for event in events)
        for event in events:
            said = rf"{event.time} {event.component}\.py:\d+ \[{event.level}\] {re.escape(event.message)}$"
            lb.wait_for(said)


@pytest.mark.parametrize("admin", ["127.0.0.1:1", "127.0.0.1", "x:y:z"])
def test_once_with_nobody_to_ask(admin: str) -> None:
    found = top("--once", f"--admin={admin}")
    assert (found.returncode, found.stdout) == (1, "")
    assert found.stderr.startswith(f"podlb: the admin port at {admin} can't be asked: ")
    assert len(found.stderr.splitlines()) == 1


def test_once_with_somebody_else() -> None:
    with Backend() as backend:
        found = top("--once", f"--admin=127.0.0.1:{backend.port}")
    assert found.returncode == 1
    assert "no podlb of this version" in found.stderr


CTRL_C = "\x03"


@pytest.mark.parametrize("how", ["q", CTRL_C, signal.SIGINT, signal.SIGTERM])
def test_on_a_terminal(how: str | signal.Signals) -> None:
    with (
        served() as (backend, lb),
        Terminal(f"--admin=127.0.0.1:{lb.admin_port}", "--interval=0.2") as terminal,
    ):
        terminal.wait_for(f"127.0.0.1:{backend.port}", 2)
        terminal.wait_for("in the last 0.", 2)
        assert "\x1b[?1049h" in terminal.text, "on another screen"
        assert termios.tcgetattr(terminal.theirs) != terminal.modes_before
        if isinstance(how, signal.Signals):
            terminal.process.send_signal(how)
        else:
            os.write(terminal.ours, how.encode())
        assert terminal.ends() == (128 + signal.SIGTERM if how is signal.SIGTERM else 0)
        assert "Traceback" not in terminal.text


def test_it_goes_on_trying() -> None:
    with served() as (_, lb):
        admin = f"127.0.0.1:{lb.admin_port}"
        with Terminal(f"--admin={admin}", "--interval=0.2") as terminal:
            terminal.wait_for("requests/s")
            lb.kill()
            terminal.wait_for("trying again; these are the last figures")
            os.write(terminal.ours, b"q")
            assert terminal.ends() == 0
            assert f"{admin} can't be asked: Connection refused" in terminal.text


def test_suspended_it_leaves_the_terminal_as_it_was() -> None:
    # (Alone in its session it is not stopped by the signal that it sends itself, and goes on at once.)
    with Terminal(f"--admin=127.0.0.1:{free_port()}", "--interval=0.1") as terminal:
        terminal.wait_for("trying again")
        os.write(terminal.ours, b"\x1a")
        terminal.wait_for(r"\x1b\[\?1049l")
        terminal.wait_for(r"\x1b\[\?1049h", 2)
        terminal.wait_for("trying again", 3)
        os.write(terminal.ours, b"q")
        assert terminal.ends() == 0


def test_on_a_terminal_that_cannot_move_its_cursor() -> None:
    with Terminal(f"--admin=127.0.0.1:{free_port()}", "--interval=0.1", term="dumb") as terminal:
        terminal.wait_for("trying again", 2)
        os.write(terminal.ours, b"q")
        assert terminal.process.wait(DEADLINE) == 0
        assert "\x1b[?" not in terminal.text


def test_nobody_to_ask_on_a_terminal() -> None:
    with Terminal(f"--admin=127.0.0.1:{free_port()}", "--interval=0.1") as terminal:
        terminal.wait_for("trying again", 3)
        os.write(terminal.ours, b"q")
        assert terminal.ends() == 0


def test_a_reader_that_has_read_enough() -> None:
    with served() as (_, lb):
        found = subprocess.run(
            f"{sys.executable} -m lb top --admin=127.0.0.1:{lb.admin_port} --interval=0.1 | head -n 3",
            shell=True,
            capture_output=True,
            text=True,
            timeout=15,
            cwd=ROOT,
        )
    assert found.stdout.startswith("podlb ")
    assert found.stderr == ""
