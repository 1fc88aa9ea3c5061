"""The whole data path without sockets: a client, podlb and an endpoint, one step at a time, in an order that is drawn.

The endpoint reads strictly what podlb writes to it, and answers the n-th complete request with the n-th response. All
else is chance: how both streams are cut, when a turn of the loop ends, when a connect succeeds, when either side takes
no more bytes for a while, and when the endpoint closes a connection that it owes nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

from lb.attempts import RetryRules
from lb.balancer.round_robin import RoundRobin
from lb.config import Config
from lb.downstream import Downstream
from lb.endpoint import Endpoint, make_endpoint
from lb.metrics import Metrics
from lb.pool import Pool
from lb.proxy import Proxy
from lb.service import Service
from lb.upstream import Upstream
from tests.fakes import Message, Stream, TruncatedError, read_request_body, read_request_head

ENDPOINT = make_endpoint("10.0.0.1", 80)
_DISTURBANCES = 20


class _Handle:
    def cancel(self) -> None:
        pass


class _Loop:
    """Runs callbacks when a turn ends; timers never pass."""

    def __init__(self) -> None:
        self._soon: list[tuple[Callable[..., None], tuple[Any, ...]]] = []

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self._soon.append((callback, arguments))

    def call_later(self, delay: float, callback: Callable[..., None], *arguments: Any) -> _Handle:
        return _Handle()

    def create_task(self, coroutine: Any) -> _Handle:
        coroutine.close()
        return _Handle()

    def end_turn(self) -> None:
        while self._soon:
            soon, self._soon = self._soon, []
            for callback, arguments in soon:
                callback(*arguments)


class _Transport:
    """Remembers what was written, and tells its protocol of the end in a later turn, as transports do."""

    def __init__(self, loop: _Loop, protocol: Any) -> None:
        self._loop = loop
        self._protocol = protocol
        self.written = b""
        self.is_paused = self.is_half_closed = self.is_aborted = self._closing = False

    def write(self, data: bytes) -> None:
        assert not self._closing
        assert not self.is_half_closed
        self.written += data

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.is_aborted = True
        self.close()

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_half_closed = True

    def pause_reading(self) -> None:
        self.is_paused = True

    def resume_reading(self) -> None:
        self.is_paused = False

    def get_extra_info(self, name: str) -> Any:
        return ("192.0.2.1", 5) if name == "peername" else None

    def set_write_buffer_limits(self, high: int) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    # What its peer does

    def receive(self, data: bytes) -> None:
        if not self._closing:
            self._protocol.data_received(data)

    def receive_fin(self) -> None:
        if not self._closing and not self._protocol.eof_received():
            self.close()

    def full(self, full: bool) -> None:
        if full:
            self._protocol.pause_writing()
        else:
            self._protocol.resume_writing()


class _Nothing:
    """A socket from which nothing more comes."""

    def recv(self, size: int) -> bytes:
        return b""


def stream_of(data: bytes) -> Stream:
    """Return a stream that ends behind `data`, for the strict readers."""
    stream = Stream(_Nothing())  # type: ignore[arg-type]
    stream.buffer = data
    return stream


class _Served:
    """A connection as the endpoint sees it."""

    def __init__(self, transport: _Transport) -> None:
        self.transport = transport
        self.read = 0
        self.answer: deque[bytes] = deque()
        self.fin_behind = False
        """Does a FIN end the answer that is under way?"""
        self.is_full = False


Answer = tuple[list[bytes], bool]
"""The pieces of a response, and whether the endpoint closes behind it."""


class Path:
    """One client connection through podlb to one endpoint."""

    def __init__(
        self, pieces: list[bytes], answer: Callable[[int, Message], Answer], *, parser: str, random: Random | None
    ) -> None:
        """`pieces` are the client's; `answer` is asked for every request; without `random` everything goes in order."""
        self._random = random
        self._answer = answer
        self._loop = _Loop()
        self._client_sends = deque(pieces)
        self._is_client_full = self._fin_sent = False
        self._disturbances_left = 0 if random is None else _DISTURBANCES
        self.forwarded: list[Message] = []
        """The complete requests that the endpoint has read."""
        service: Service[Upstream] = Service(
            policy=RoundRobin((ENDPOINT,)),
            pool=Pool(idle_timeout=4.0, max_idle=8),
            metrics=Metrics(),
            rules=RetryRules(),
            max_waiting=10,
        )
        service.replace((ENDPOINT,), 1.0)
        config = Config(parser=parser, abort_on_client_fin=False)  # type: ignore[arg-type]
        self.proxy = Proxy(config, service, self._loop, clock=lambda: 1.0, id_prefix=b"x")  # type: ignore[arg-type]
        self._connecting: list[Upstream] = []
        self._served: list[_Served] = []
        make = self.proxy.new_upstream

        def new_upstream(endpoint: Endpoint) -> Upstream:
            self._connecting.append(make(endpoint))
            return self._connecting[-1]

        self.proxy.new_upstream = new_upstream  # type: ignore[method-assign]
        downstream = Downstream(self.proxy)
        self.client = _Transport(self._loop, downstream)
        downstream.connection_made(self.client)  # type: ignore[arg-type]

    def run(self) -> None:
        """Take steps until there is none left."""
        while steps := self._steps():
            step = steps[0] if self._random is None else self._random.choice(steps)
            step()
            if self._random is None or self._random.randrange(3) == 0:
                self._end_turn()

    def _end_turn(self) -> None:
        self._loop.end_turn()
        for served in self._served:
            self._read(served)

    def _read(self, served: _Served) -> None:
        """Read what is complete of what podlb has written."""
        while served.read < len(served.transport.written) and not served.answer and not served.fin_behind:
            stream = stream_of(served.transport.written[served.read :])
            try:
                request = read_request_head(stream)
                assert request is not None
                read_request_body(stream, request)
            except TruncatedError:
                return
            served.read = len(served.transport.written) - len(stream.buffer)
            self.forwarded.append(request)
            pieces, served.fin_behind = self._answer(len(self.forwarded) - 1, request)
            served.answer.extend(pieces)

    def _steps(self) -> list[Callable[[], None]]:
        """Return what can happen now; what comes first is the usual course."""
        steps: list[Callable[[], None]] = []
        for served in self._served:
            if served.transport.is_closing():
                continue
            if served.answer and not served.transport.is_paused:
                steps.append(lambda served=served: served.transport.receive(served.answer.popleft()))  # type: ignore[misc]
            elif served.fin_behind and not served.transport.is_paused:
                steps.append(lambda served=served: self._end(served))  # type: ignore[misc]
        if self._connecting:
            steps.append(self._connect)
        if not self.client.is_closing() and not self.client.is_paused:
            if self._client_sends:
                steps.append(lambda: self.client.receive(self._client_sends.popleft()))
            elif not self._fin_sent:
                steps.append(self._client_fin)
        if self._is_client_full and not self.client.is_closing():
            steps.append(self._toggle_client)
        full = [served for served in self._served if served.is_full and not served.transport.is_closing()]
        steps += [lambda served=served: self._toggle(served) for served in full]  # type: ignore[misc]
        if self._loop._soon:
            steps.append(self._end_turn)
        if steps and self._disturbances_left:
            steps += [lambda step=step: self._disturb(step) for step in self._disturbances()]  # type: ignore[misc]
        return steps

    def _disturbances(self) -> list[Callable[[], None]]:
        steps: list[Callable[[], None]] = []
        if not self.client.is_closing() and not self._is_client_full:
            steps.append(self._toggle_client)
        for served in self._served:
            if served.transport.is_closing():
                continue
            if not served.is_full:
                steps.append(lambda served=served: self._toggle(served))  # type: ignore[misc]
            if not served.answer and served.read == len(served.transport.written):
                steps.append(lambda served=served: self._end(served))  # type: ignore[misc]
        return steps

    def _disturb(self, step: Callable[[], None]) -> None:
        self._disturbances_left -= 1
        step()

    def _connect(self) -> None:
        upstream = self._connecting.pop()
        transport = _Transport(self._loop, upstream)
        self._served.append(_Served(transport))
        upstream.connection_made(transport)  # type: ignore[arg-type]

    def _end(self, served: _Served) -> None:
        served.fin_behind = False
        served.transport.receive_fin()

    def _client_fin(self) -> None:
        self._fin_sent = True
        self.client.receive_fin()

    def _toggle_client(self) -> None:
        self._is_client_full = not self._is_client_full
        self.client.full(self._is_client_full)

    def _toggle(self, served: _Served) -> None:
        served.is_full = not served.is_full
        served.transport.full(served.is_full)
