"""SHELL: `podlb top [--admin HOST:PORT] [--once] [--interval SECONDS]`: shows a running podlb, again and again."""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from lb.stats_model import NotStatsError, Stats, from_json
from lb.top import View, view
from lb.top_keys import Key, keys

_TIMEOUT_SECONDS = 2.0
_SHORTEST_INTERVAL = 0.1
_WIDTH_OF_NO_TERMINAL = 200


class UnreachableError(Exception):
    """The admin port can't be asked. One line: why."""


def run_top(arguments: Sequence[str]) -> int:
    """Show frames until q or Ctrl-C; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="podlb top", description="Show a running podlb: its figures, its endpoints, the last lines of its log."
    )
    parser.add_argument("--admin", default="127.0.0.1:8081", metavar="HOST:PORT", help="(default %(default)s)")
    parser.add_argument("--once", action="store_true", help="wait one interval, show one frame, and exit")
    parser.add_argument("--interval", type=_seconds, default=1.0, metavar="SECONDS", help="(default %(default)s)")
    options = parser.parse_args(arguments)
    try:
        from lb.top_screen import Screen
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "rich":
            raise
        sys.stderr.write("podlb: top needs rich, which is not installed: pip install 'podlb[top]'\n")
        return 1
    width = None if sys.stdout.isatty() or "COLUMNS" in os.environ else _WIDTH_OF_NO_TERMINAL
    top = Top(options.admin, options.interval)
    try:
        with _ended_by_sigterm():
            if options.once:
                return top.show_once(Screen(whole=False, width=width))
            while True:
                with Screen(whole=True, width=width) as screen, keys() as key_within:
                    key = top.show_on(screen, key_within)
                if key is Key.QUIT:
                    return 0
                # As the terminal would do it, but with the terminal as it was; goes on from here later.
                os.kill(0, signal.SIGTSTP)
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read has read enough. What is still buffered has nowhere to go, and Python would say so at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _seconds(text: str) -> float:
    value = float(text)
    if not _SHORTEST_INTERVAL <= value <= 3600:
        raise argparse.ArgumentTypeError(f"{text} is not from {_SHORTEST_INTERVAL:g} to 3600 seconds")
    return value


class Draws(Protocol):
    """What shows frames."""

    def show(self, view: View | None, *, admin: str, error: str) -> None:
        """Show one; `error` says why there is no newer view."""


class Top:
    """Asks the admin port at `admin` every `interval` seconds."""

    def __init__(self, admin: str, interval: float) -> None:
        self._admin = admin
        self._interval = interval
        self._last: Stats | None = None
        self._view: View | None = None

    def show_once(self, screen: Draws) -> int:
        """Show what happens in one interval; return the exit code."""
        try:
            self._ask()
            time.sleep(self._interval)
            self._ask()
        except UnreachableError as error:
            sys.stderr.write(f"podlb: the admin port at {self._admin} can't be asked: {error}; see --admin\n")
            return 1
        screen.show(self._view, admin=self._admin, error="")
        return 0

    def show_on(self, screen: Draws, key_within: Callable[[float], Key]) -> Key:
        """Show one frame after the other until a key is pressed that ends or suspends it; return which."""
        while True:
            began = time.monotonic()
            error = ""
            try:
                self._ask()
            except UnreachableError as why:
                error = str(why)
            screen.show(self._view, admin=self._admin, error=error)
            key = key_within(max(began + self._interval - time.monotonic(), 0.0))
            if key is not Key.NONE:
                return key

    def _ask(self) -> None:
        stats = fetch(self._admin)
        self._view = view(self._last, stats)
        self._last = stats


def fetch(admin: str) -> Stats:
    """Return what `/stats.json` at `admin` (`host:port`) says. Raises UnreachableError."""
    host, _, port = admin.rpartition(":")
    try:
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_TIMEOUT_SECONDS)
        try:
            connection.request("GET", "/stats.json")
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != 200:
            raise UnreachableError(f"what answers there has no /stats.json (status {response.status})")
        return from_json(content)
    except NotStatsError as error:
        raise UnreachableError(f"what answers there is no podlb of this version: {error}") from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        why = error.strerror if isinstance(error, OSError) else None
        raise UnreachableError(why or str(error) or type(error).__name__) from None


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Have SIGTERM end it in order, with the terminal as it was."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
