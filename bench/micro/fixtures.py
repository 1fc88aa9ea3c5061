"""What the micro-benchmarks run on: heads as clients send them, and the hot path on transports that only count."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from lb.attempts import RetryRules
from lb.balancer.round_robin import RoundRobin
from lb.config import Config
from lb.downstream import Downstream
from lb.endpoint import make_endpoint
from lb.metrics import Metrics
from lb.outbox import Outbox
from lb.pool import Pool
from lb.proxy import Proxy
from lb.service import Service
from lb.upstream import Upstream

SMALL = b"GET / HTTP/1.1\r\nHost: 127.0.0.1:8080\r\n\r\n"
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Tue, 24 Nov 2026 10:00:00 GMT\r\nContent-Type: text/plain\r\n"
    b"Content-Length: 23\r\nConnection: keep-alive\r\n\r\nhello from the backend\n"
)


def browser_heads(count: int) -> list[bytes]:
    """Return heads of about 630 bytes of which no two are alike: target, referrer and cookie vary."""
    same = (
        "Connection: keep-alive\r\n"
        'sec-ch-ua: "Chromium";v="130", "Not?A_Brand";v="99"\r\n'
        "sec-ch-ua-mobile: ?0\r\n"
        'sec-ch-ua-platform: "Linux"\r\n'
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0\r\n"
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n"
        "Sec-Fetch-Site: same-origin\r\n"
        "Sec-Fetch-Mode: navigate\r\n"
        "Sec-Fetch-Dest: document\r\n"
        "Accept-Encoding: gzip, deflate, br, zstd\r\n"
        "Accept-Language: en-GB,en;q=0.9,de;q=0.8\r\n"
    )
    return [
        (
            f"GET /articles/{i:06d}?page={i % 97} HTTP/1.1\r\nHost: shop.example.com\r\n{same}"
            f"Referer: http://shop.example.com/articles/{i - 1:06d}\r\n"
            f"Cookie: sid={i * 2654435761 % 2**32:08x}; seen={i:08x}; theme=dark; visit={i:06d}\r\n\r\n"
        ).encode()
        for i in range(count)
    ]


class CountingTransport:
    """The part of a transport that the hot path uses."""

    def __init__(self) -> None:
        self.writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 50000) if name == "peername" else default

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


class IdleConnection:
    """What the pool needs of an upstream connection."""

    __slots__ = ("idle_since", "is_usable")

    def __init__(self) -> None:
        self.idle_since = 0.0
        self.is_usable = True


def balanced(count: int) -> Service[IdleConnection]:
    """Return a Service over so many endpoints, with an idle connection to each. Its time is 0.0."""
    service: Service[IdleConnection] = Service(
        policy=RoundRobin(),
        pool=Pool(idle_timeout=1.0, max_idle=8),
        metrics=Metrics(),
        rules=RetryRules(),
        max_waiting=8,
    )
    snapshot = tuple(make_endpoint(f"10.0.{at // 250}.{at % 250 + 1}", 8080, uid=f"uid-{at}") for at in range(count))
    service.replace(snapshot, 0.0)
    for endpoint in snapshot:
        service.pool.checkin(endpoint.key, IdleConnection(), 0.0)
    return service


class HotPath:
    """One keep-alive client connection and one pooled connection to each of two endpoints."""

    def __init__(self, *, parser: str = "auto") -> None:
        self.loop = asyncio.new_event_loop()
        config = Config(parser="h11" if parser == "h11" else "auto")
        service: Service[Upstream] = Service(
            policy=RoundRobin(),
            pool=Pool(idle_timeout=config.upstream_idle_timeout, max_idle=8),
            metrics=Metrics(),
            rules=RetryRules(),
            max_waiting=8,
        )
        self.proxy = Proxy(config, service, self.loop, clock=lambda: 1000.0, id_prefix=b"0123456789abcdef")
        # What a loop does at the end of its turn is done by hand.
        self.proxy.outbox = outbox = Outbox(lambda flush: None, self.proxy.clock)
        outbox.turn_began = 1000.0
        outbox.after_flush.append(self.proxy.stopwatch.flushed)
        snapshot = (make_endpoint("127.0.0.1", 9001), make_endpoint("127.0.0.1", 9002))
        self.proxy.replace(snapshot)
        self.upstreams = []
        for endpoint in snapshot:
            upstream = self.proxy.new_upstream(endpoint)
            upstream.transport = CountingTransport()  # type: ignore[assignment]
            service.pool.checkin(endpoint.key, upstream, 1000.0)
            self.upstreams.append(upstream)
        self.client = CountingTransport()
        self.downstream = Downstream(self.proxy)
        self.downstream.connection_made(self.client)  # type: ignore[arg-type]
        self._turns = self._turn()

    def _turn(self) -> Iterator[Upstream]:
        while True:
            yield from self.upstreams

    def exchange(self, head: bytes) -> None:
        """Take one request to its endpoint and the response back."""
        self.downstream.data_received(head)
        self.proxy.outbox.flush()
        next(self._turns).data_received(RESPONSE)

    def close(self) -> None:
        self.proxy.stop_timers()
        self.loop.close()
