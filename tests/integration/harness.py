"""Runs a balancer in a thread of this process, on the loop under test, and checks at its end that nothing was left."""

from __future__ import annotations

import asyncio
import logging
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple, TypeVar

from lb import metrics
from lb.config import Config
from lb.discovery import Publish
from lb.endpoint import Endpoint, Snapshot
from lb.eventloop import new_event_loop
from lb.server import Server
from tests.fakes import DEADLINE, Client, eventually

T = TypeVar("T")


class Variant(NamedTuple):
    """What a test runs on."""

    loop: str
    parser: str

    def __str__(self) -> str:
        return f"{self.loop}-{self.parser}"


# A further loop is added here and nowhere else.
_LOOPS = ["epoll", "uvloop", "asyncio"] if hasattr(select, "epoll") else ["uvloop", "asyncio"]
# Ours with both parsers (uvloop where there is no epoll); the first is the one on which everything runs.
DEFAULT_VARIANTS = [Variant(_LOOPS[0], "auto"), Variant(_LOOPS[0], "h11")]
# Every loop and every parser. Not each with each: a loop knows nothing of heads, and a parser nothing of sockets.
ALL_VARIANTS = [*DEFAULT_VARIANTS, *map(Variant, _LOOPS[1:], ["auto", "h11"])]


def often(count: int, variant: Variant) -> int:
    """Return `count`, the number of times to do something, on the default variants, and a tenth of it on the others."""
    return count if variant in DEFAULT_VARIANTS else count // 10


class ManualSource:
    """Publishes what the test says."""

    def __init__(self, first: Snapshot) -> None:
        self._first = first
        self.publish: Publish

    async def start(self, publish: Publish) -> None:
        self.publish = publish
        publish(self._first)

    async def stop(self) -> None:
        pass


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class Balancer:
    """A balancer over `endpoints`, or over what `source` gives. `stop` checks the books: every exchange ended once."""

    def __init__(self, variant: Variant, endpoints: Sequence[Endpoint], overrides: dict[str, Any]) -> None:
        settings = {
            "host": "127.0.0.1",
            "port": 0,
            "admin_port": None,
            "discovery": "static",
            "loop": variant.loop,
            "parser": variant.parser,
            # What closes an idle connection in a test is what the test is about, not the time.
            "upstream_idle_timeout": 600.0,
        }
        self.clock: Callable[[], float] | None = overrides.pop("clock", None)
        self.access_lines: list[bytes] = []
        self.source: Any = overrides.pop("source", None) or ManualSource(tuple(endpoints))
        self.config = Config(**(settings | overrides))
        self.loop = new_event_loop(variant.loop)
        self.server: Server
        self.expected_errors: list[str] = []
        """Beginnings of error lines that the log may hold."""
        self._clients: list[Client] = []
        self._loop_errors: list[dict[str, Any]] = []
        self._log = _Records()
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="balancer", daemon=True)

    def start(self) -> None:
        """Start; return when it listens."""
        for name in ("lb", "asyncio"):
            logging.getLogger(name).addHandler(self._log)
        self._thread.start()
        assert self._started.wait(DEADLINE), "the balancer did not start"
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.set_exception_handler(lambda loop, context: self._loop_errors.append(context))
        try:
            self.loop.run_until_complete(self._serve())
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()
            asyncio.set_event_loop(None)
            self.loop.close()

    async def _serve(self) -> None:
        self.server = Server(self.config, self.loop, clock=self.clock, source=self.source, write_line=self._write_lines)
        await self.server.start()
        self._started.set()
        await self.server.run()

    def _write_lines(self, data: bytes) -> None:
        self.access_lines += data.splitlines(keepends=True)

    @property
    def port(self) -> int:
        assert self.server.listener is not None
        return self.server.listener.port

    @property
    def service(self) -> Any:
        return self.server.proxy.service

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call `function` on the loop's thread, and return what it returns."""

        async def run() -> T:
            return function(*arguments)

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(DEADLINE)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Let the loop stand still: what arrives meanwhile is there all at once, in one turn, when it goes on."""
        stands, goes_on = threading.Event(), threading.Event()

        def stand_still() -> None:
            stands.set()
            assert goes_on.wait(DEADLINE)

        self.loop.call_soon_threadsafe(stand_still)
        assert stands.wait(DEADLINE)
        try:
            yield
        finally:
            goes_on.set()

    def publish(self, *endpoints: Endpoint) -> None:
        """Replace the snapshot."""
        self.call(self.source.publish, tuple(endpoints))

    def client(self, **options: Any) -> Client:
        """Return a client connection that is closed at the end."""
        client = Client(self.port, **options)
        self._clients.append(client)
        return client

    # The books

    def counter(self, offset: int) -> int:
        """Return a counter of the process."""
        return int(self.service.metrics.values[offset])

    def endpoint_counter(self, endpoint: Endpoint, offset: int) -> int:
        """Return a counter of an endpoint."""
        return int(self.service.metrics.endpoint(endpoint, offset))

    def ends(self) -> dict[str, int]:
        """Return how many exchanges ended for which reason, without those that are zero, once all have ended.

        Those of bad messages without what was bad.
        """
        self.wait_until_idle()
        return self._ends()

    def end_words(self) -> dict[str, int]:
        """Return the same, with what was bad about bad messages."""
        self.wait_until_idle()
        return {word: count for word, count in self.service.metrics.endings() if count}

    def _ends(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for word, count in self.service.metrics.endings():
            if count:
                reason = word.partition(":")[0]
                found[reason] = found.get(reason, 0) + count
        return found

    def idle(self, endpoint: Endpoint) -> int:
        """Return how many idle connections to the endpoint are kept."""
        return int(self.service.pool.count(endpoint.key))

    def state(self, endpoint: Endpoint) -> tuple[str, float]:
        """Return the endpoint's state for people: "available", "set aside", "on trial"; and seconds left."""
        return self.call(lambda: self.service.set_aside.state(endpoint, self.server.proxy.clock()))

    @property
    def open_exchanges(self) -> int:
        """How many exchanges have begun and not ended; below zero if one ended twice."""
        return self.counter(metrics.EXCHANGES) - sum(self._ends().values())

    def wait_for_exchanges(self, count: int) -> None:
        """Wait until `count` requests have come in."""
        eventually(lambda: self.counter(metrics.EXCHANGES) >= count, f"exchange {count}")

    def wait_until_idle(self) -> None:
        """Wait until no exchange is open, and what the balancer does at the end of the last one is done."""
        eventually(lambda: self.open_exchanges == 0, "the end of all exchanges")
        # The books are read from this thread: without this it could look between two lines of one callback.
        is_done = threading.Event()
        with suppress(RuntimeError):  # The loop is closed: nothing runs any more.
            self.loop.call_soon_threadsafe(is_done.set)
            eventually(lambda: is_done.is_set() or not self._thread.is_alive(), "the end of a callback")

    @property
    def warnings(self) -> list[str]:
        """What was logged as a warning or worse."""
        return [record.getMessage() for record in self._log.records]

    def stop(self) -> None:
        """Close the clients, stop, and check the books."""
        for client in self._clients:
            client.close()
        is_quiet = False
        try:
            if self._failure is None:
                eventually(lambda: self.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of all client connections")
                eventually(self._only_idle_are_open, "the end of all connections to endpoints but idle ones")
                is_quiet = True
        finally:
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self._ask_to_stop, is_quiet)
            self._thread.join(DEADLINE)
            for name in ("lb", "asyncio"):
                logging.getLogger(name).removeHandler(self._log)
        assert not self._thread.is_alive(), "the balancer did not stop"
        if self._failure is not None:
            raise self._failure
        self._check_books()

    def _only_idle_are_open(self) -> bool:
        counters = self.service.metrics
        is_open = sum(counters.values[slot + metrics.OPEN] for slot in counters.slots().values())
        return is_open == sum(self.service.pool.counts().values())

    def _ask_to_stop(self, is_quiet: bool) -> None:
        self.server.stop(skip_delay=True)
        if not is_quiet:
            self.server.stop()

    def _check_books(self) -> None:
        assert self._loop_errors == [], "the loop's exception handler was called"
        for record in self._log.records:
            text = record.getMessage()
            is_bad = record.levelno >= logging.ERROR or record.name.startswith("asyncio")
            assert not is_bad or text.startswith(tuple(self.expected_errors)), f"logged: {record.name}: {text}"
        assert self.counter(metrics.CONNECTIONS_OPEN) == 0
        assert self.open_exchanges == 0, self._ends()
        assert len(self.service.waiting) == 0
