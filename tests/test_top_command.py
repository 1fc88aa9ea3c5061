"""The command line of `podlb top`, without a terminal. (With one: tests/integration/test_top.py.)"""

from __future__ import annotations

import builtins
import http.server
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lb import top_command
from lb.stats_model import to_json
from lb.top import View
from lb.top_command import Top, UnreachableError, fetch, run_top
from lb.top_keys import Key
from tests.fakes import free_port
from tests.test_stats_model import endpoint_stats, stats


class Answers(http.server.ThreadingHTTPServer):
    """Answers with each of `replies` once, and with the last one from then on."""

    daemon_threads = True

    def __init__(self, *replies: tuple[int, bytes]) -> None:
        self.replies = list(replies)
        super().__init__(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    @property
    def admin(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Answers

    def do_GET(self) -> None:
        replies = self.server.replies
        status, content = replies.pop(0) if len(replies) > 1 else replies[0]
        self.send_response(status if self.path == "/stats.json" else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def answers() -> Iterator[Any]:
    servers = []

    def start(*replies: tuple[int, bytes]) -> Answers:
        servers.append(Answers(*replies))
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
        server.thread.join()


EARLIER = stats(endpoint_stats(), uptime=5.0, exchanges=10)
LATER = stats(endpoint_stats(), uptime=7.0, exchanges=30)


class Screen:
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.shown: list[tuple[View | None, str]] = []

    def show(self, view: View | None, *, admin: str, error: str) -> None:
        self.shown.append((view, error))


def test_what_is_fetched(answers: Any) -> None:
    assert fetch(answers((200, to_json(EARLIER))).admin) == EARLIER


@pytest.mark.parametrize(
    ("status", "content", "why"),
    [
        (404, b"served here: /livez", "has no /stats.json (status 404)"),
        (421, b"this Host is not served here", "status 421"),
        (200, b"{}", "no podlb of this version: Object missing required field `version`"),
    ],
)
def test_what_is_no_answer(status: int, content: bytes, why: str, answers: Any) -> None:
    with pytest.raises(UnreachableError) as raised:
        fetch(answers((status, content)).admin)
    assert why in str(raised.value)


@pytest.mark.parametrize("admin", ["", ":", "localhost", "127.0.0.1:x", "127.0.0.1:99999"])
def test_an_address_that_is_none(admin: str) -> None:
    with pytest.raises(UnreachableError):
        fetch(admin)


def test_once_is_the_difference_of_two(answers: Any) -> None:
    screen = Screen()
    top = Top(answers((200, to_json(EARLIER)), (200, to_json(LATER))).admin, 0.01)
    assert top.show_once(screen) == 0
    ((shown, error),) = screen.shown
    assert shown is not None
    assert (shown.rate, error) == (10.0, "")


def test_on_and_on(answers: Any) -> None:
    server = answers((200, to_json(EARLIER)), (500, b""), (200, to_json(LATER)))
    screen = Screen()
    keys = iter([Key.NONE, Key.NONE, Key.SUSPEND])
    waits: list[float] = []

    def key_within(seconds: float) -> Key:
        waits.append(seconds)
        return next(keys)

    assert Top(server.admin, 5.0).show_on(screen, key_within) is Key.SUSPEND
    assert all(0 < seconds <= 5 for seconds in waits)
    first, second, third = screen.shown
    assert first[0] is not None
    assert first[0].is_first
    assert second[0] is first[0], "what was known last stays"
    assert "status 500" in second[1]
    assert third[0] is not None
    assert (third[0].rate, third[1]) == (10.0, "")


@pytest.mark.parametrize("interval", ["0", "-1", "x", "nan", "1e9"])
def test_an_interval_that_is_none(interval: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        run_top(["--interval", interval])
    assert raised.value.code == 2
    assert "--interval" in capsys.readouterr().err


def test_without_rich_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    real = builtins.__import__

    def without_rich(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == "rich":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "lb.top_screen", raising=False)
    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert run_top(["--once"]) == 1
    assert capsys.readouterr().err == "podlb: top needs rich, which is not installed: pip install 'podlb[top]'\n"


def test_another_module_that_is_missing_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lb.top_screen", None)
    with pytest.raises(ModuleNotFoundError):
        run_top(["--once"])


def test_once_by_the_command(answers: Any, capsys: pytest.CaptureFixture[str]) -> None:
    server = answers((200, to_json(EARLIER)), (200, to_json(LATER)))
    assert run_top(["--once", "--interval=0.1", f"--admin={server.admin}"]) == 0
    assert "requests/s 10" in capsys.readouterr().out
    assert run_top(["--once", f"--admin=127.0.0.1:{free_port()}"]) == 1
    assert "can't be asked: Connection refused; see --admin" in capsys.readouterr().err


def test_its_signal_handler_is_taken_back(answers: Any) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with top_command._ended_by_sigterm():
        assert signal.getsignal(signal.SIGTERM) is not before
    assert signal.getsignal(signal.SIGTERM) is before
