"""A made-up loop, clock and transports for tunnels: what happens is written down, in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lb.attempts import RetryRules
from lb.balancer.round_robin import RoundRobin
from lb.config import Config
from lb.endpoint import Endpoint, make_endpoint
from lb.exchange import Exchange
from lb.flow import Flow
from lb.http1.forwarding import Request
from lb.http1.framing import NO_BODY, Framing
from lb.http1.message import RequestHead
from lb.metrics import CONNECTIONS_OPEN, OPEN, Metrics
from lb.pool import Pool
from lb.proxy import Proxy
from lb.service import Service
from lb.tunnel import Tunnel
from lb.upstream import Upstream


class Handle:
    """A callback that may be given up."""

    def __init__(self) -> None:
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Loop:
    """Runs callbacks when the test says that a turn ends. Connects are never made."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.soon: list[tuple[Callable[..., None], tuple[Any, ...]]] = []
        self.connects: list[Handle] = []

    def time(self) -> float:
        return self.now

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.soon.append((callback, arguments))

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> Handle:
        return Handle()

    def create_task(self, coroutine: Any) -> Handle:
        coroutine.close()
        self.connects.append(Handle())
        return self.connects[-1]

    def end_turn(self) -> None:
        while self.soon:
            soon, self.soon = self.soon, []
            for callback, arguments in soon:
                callback(*arguments)


class Transport:
    """Writes down what is asked of it, and tells its protocol of its end in the next turn, as a real one does."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self.protocol: Any = None
        self.events: list[str] = []
        self.sent = b""
        self.buffered = 0
        self.is_paused = False
        self._is_closing = False
        self._is_lost = False
        self._eof_written = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def write(self, data: bytes) -> None:
        assert not self._is_closing, "written to after its end"
        assert not self._eof_written, "written to behind a FIN"
        assert data
        self.sent += data
        self.events.append(data.decode())

    def write_eof(self) -> None:
        assert not self._is_closing
        assert not self._eof_written
        self._eof_written = True
        self.events.append("FIN")

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self.events.append("close")
            if not self.buffered:
                self._lost_soon(None)

    def abort(self) -> None:
        """Only a reset calls it: there is no socket whose linger time could be set."""
        if not self._is_lost:
            self._is_closing = True
            self.events.append("reset")
            self._lost_soon(None)

    def _lost_soon(self, error: Exception | None) -> None:
        self._is_lost = True
        self.buffered = 0
        self._loop.call_soon(self._tell, error)

    def _tell(self, error: Exception | None) -> None:
        self.protocol.connection_lost(error)
        self.protocol = None

    # What the peer does

    def says(self, data: bytes) -> None:
        """Bytes come, unless nobody reads any more."""
        if not self._is_closing:
            self.protocol.data_received(data)

    def ends(self) -> None:
        """The peer's FIN comes."""
        if not self._is_closing:
            assert self.protocol.eof_received(), "its own side would close"

    def breaks(self) -> None:
        """The peer resets the connection."""
        if not self._is_lost:
            self._is_closing = True
            self._lost_soon(ConnectionResetError())

    def takes_all(self) -> None:
        """The peer has read what was buffered."""
        self.buffered = 0
        if self._is_closing and not self._is_lost:
            self._lost_soon(None)

    def is_closing(self) -> bool:
        return self._is_closing

    def get_extra_info(self, name: str) -> None:
        return None

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False


def make_proxy(loop: Loop, *endpoints: Endpoint, **settings: Any) -> tuple[Proxy, list[Exchange]]:
    """Return a proxy, and the list of exchanges that have ended."""
    config = Config(**settings)
    rules = RetryRules(endpoint_wait=config.endpoint_wait, connect_timeout=config.connect_timeout)
    service: Service[Upstream] = Service(
        policy=RoundRobin(),
        pool=Pool(idle_timeout=4.0, max_idle=1),
        metrics=Metrics(),
        rules=rules,
        max_waiting=config.max_waiting,
    )
    proxy = Proxy(config, service, loop, clock=loop.time, id_prefix=b"")  # type: ignore[arg-type]
    proxy.replace(endpoints)
    ended: list[Exchange] = []
    proxy.on_exchange_ended = ended.append
    return proxy, ended


IDLE, BODY_IDLE = 100.0, 10.0
REQUEST = Request(RequestHead(b"", b"", 1, [], []), Framing(NO_BODY), b"")
ENDPOINT = make_endpoint("10.0.0.1", 80)


class Pair:
    """A tunnel between two made-up transports."""

    def __init__(self, **early: Any) -> None:
        self.loop = Loop()
        self.proxy, self.ended = make_proxy(self.loop, tunnel_idle_timeout=IDLE, body_idle_timeout=BODY_IDLE)
        self.proxy.counters[CONNECTIONS_OPEN] += 1
        self.client, self.endpoint = Transport(self.loop), Transport(self.loop)
        self.flows = Flow(), Flow()
        exchange = Exchange(REQUEST, self.loop.now, True)
        exchange.slot = self.proxy.service.metrics.slot(ENDPOINT.key)
        self.proxy.counters[exchange.slot + OPEN] += 1
        tunnel = Tunnel(
            self.proxy,
            exchange,
            (self.client, self.flows[0]),  # type: ignore[arg-type]
            (self.endpoint, self.flows[1]),  # type: ignore[arg-type]
        )
        tunnel.start(**early)

    def sides(self, first: str) -> tuple[Transport, Transport]:
        """Return the side that acts, and the other."""
        return (self.client, self.endpoint) if first == "client" else (self.endpoint, self.client)

    def pass_time(self, seconds: float) -> None:
        self.loop.now += seconds
        self.proxy.deadlines.expire(self.loop.now)
        self.loop.end_turn()

    def cut(self) -> None:
        """The time of a drain is over."""
        for connection in list(self.proxy.connections):
            connection.abort()
        self.loop.end_turn()

    @property
    def reason(self) -> str | None:
        """Why it ended; None if it goes on. It ends once, and nothing of it is kept."""
        if not self.ended:
            assert len(self.proxy.connections) == 1
            return None
        (exchange,) = self.ended
        assert not self.proxy.connections
        assert self.proxy.deadlines.next_tick() == float("inf")
        assert self.proxy.counters[CONNECTIONS_OPEN] == 0
        return str(exchange.end_reason)
