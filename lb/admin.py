"""SHELL: the admin port and the probe port, served through the same http1 core as everything else.

GET and HEAD only. The admin port is for people on this machine and checks Host, so that a web page that got its name to
point here (DNS rebinding) reads nothing; kubelet and Prometheus dial a pod's address, so the probe port does not.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import logging
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import cast
from urllib.parse import unquote_to_bytes

from lb import metrics
from lb.discovery.status import SyncStatus
from lb.http1.forwarding import prepare_request
from lb.http1.head import HeadLimits, HeadParser, find_head_end
from lb.http1.message import MessageError, RequestHead
from lb.http1.replies import reply
from lb.proxy import Proxy
from lb.reading import Reading, read
from lb.sockets import reset
from lb.stats import collect, to_csv
from lb.stats_model import LogEvent, to_json
from lb.why import explain, headline

log = logging.getLogger(__name__)

_LIMITS = HeadLimits(head_bytes=16384, target_bytes=2048, fields=100)
_TEXT = b"text/plain; charset=utf-8"
_JSON = b"application/json"
_CSV = b"text/csv; charset=utf-8"
_IDLE_SECONDS = 75.0
_BACKLOG_LIMIT = 16384
_FAILURES_SHOWN = 50

Answer = tuple[int, bytes, bytes]
"""Status, content type, content."""
Work = Callable[[], Answer]
"""What an answer takes longer to make than the loop may be held up: for a thread."""

# While a thread works, the loop waits so long at most each time that it wants the interpreter back: behind every
# system call, eight times for a small request; by default it would be 5 ms.
_SWITCH_SECONDS = 0.00005


class Pages:
    """What the two ports serve. `is_ready` says whether requests should come here, else why not.

    `dropped_lines` returns how many lines of logs were dropped, `recent_events` the last of those of the log.
    """

    def __init__(
        self,
        proxy: Proxy,
        is_ready: Callable[[], tuple[bool, str]],
        sync: SyncStatus | None = None,
        dropped_lines: Callable[[], int] = lambda: 0,
        recent_events: Callable[[], Sequence[LogEvent]] = lambda: (),
    ) -> None:
        self._proxy = proxy
        self._recent_events = recent_events
        self._started = proxy.clock()
        self._sync = sync
        self._is_ready = is_ready
        self._dropped_lines = dropped_lines
        self._thread: ThreadPoolExecutor | None = None
        self._pages: dict[bytes, Callable[[RequestHead], Answer | Work]] = {
            b"/livez": self._livez,
            b"/readyz": self._readyz,
            b"/metrics": self._metrics,
        }
        self._admin_pages = {
            **self._pages,
            b"/": self._index,
            b"/endpoints": self._endpoints,
            b"/stats.csv": self._stats_csv,
            b"/stats.json": self._stats_json,
            b"/why": self._why,
        }

    def answer(self, head: RequestHead, *, admin: bool) -> Answer | Work:
        """Return what is answered to a request, or what makes it."""
        pages = self._admin_pages if admin else self._pages
        if head.method not in (b"GET", b"HEAD"):
            return 405, _TEXT, b"only GET and HEAD are served here\n"
        path = head.target.partition(b"?")[0]
        page = pages.get(path)
        if page is None and admin and path.startswith(b"/why/"):
            return self._explain(unquote_to_bytes(path.removeprefix(b"/why/")))
        if page is None:
            return 404, _TEXT, b"served here: %b\n" % b" ".join(sorted(pages))
        return page(head)

    def begin(self, work: Work) -> Future[Answer]:
        """Have a thread do it, behind what it has to do already."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "admin")
            sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_SECONDS))
        return self._thread.submit(work)

    def close(self) -> None:
        """End the thread, behind what it does just now."""
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _livez(self, head: RequestHead) -> Answer:
        return 200, _TEXT, b"ok\n"

    def _readyz(self, head: RequestHead) -> Answer:
        ready, why = self._is_ready()
        return (200 if ready else 503), _TEXT, why.encode() + b"\n"

    def _index(self, head: RequestHead) -> Answer:
        return 200, _TEXT, b"podlb\n" + b"".join(b"%b\n" % name for name in sorted(self._admin_pages) if name != b"/")

    def _read(self) -> Reading:
        return read(self._proxy.service, self._proxy.clock())

    def _metrics(self, head: RequestHead) -> Work:
        # (With the library behind it, it takes 20 ms to import.)
        from lb.exposition import Scrape, render

        accept = b",".join(head.values(b"accept")).decode("latin-1")
        scrape = Scrape(self._read(), self._dropped_lines(), self._sync)

        def work() -> Answer:
            content, content_type = render(scrape, accept)
            return 200, content_type.encode(), content

        return work

    def _stats_json(self, head: RequestHead) -> Work:
        reading, events = self._read(), self._recent_events()
        return lambda: (200, _JSON, to_json(collect(reading, started=self._started, events=events)))

    def _stats_csv(self, head: RequestHead) -> Work:
        reading = self._read()
        return lambda: (200, _CSV, to_csv(collect(reading, started=self._started)).encode())

    def _why(self, head: RequestHead) -> Answer:
        failures = self._proxy.history.recorder.failures(_FAILURES_SHOWN)
        if not failures:
            return 200, _TEXT, b"no request has failed\n"
        text = "".join(f"{headline(record)}\n" for record in failures)
        return 200, _TEXT, text.encode() + b"/why/ID tells the whole story of one\n"

    def _explain(self, request_id: bytes) -> Answer:
        record = self._proxy.history.recorder.find(request_id)
        if record is None:
            return (
                404,
                _TEXT,
                b"this request is not remembered: the last 1000 that failed are, and a few of the others\n",
            )
        return 200, _TEXT, explain(record).encode()

    def _endpoints(self, head: RequestHead) -> Answer:
        service = self._proxy.service
        now = self._proxy.clock()
        counters = service.metrics
        rows = []
        for endpoint in service.snapshot:
            state, seconds = service.set_aside.state(endpoint, now)
            rows.append(
                {
                    "endpoint": endpoint.authority,
                    "name": endpoint.name,
                    "uid": endpoint.uid,
                    "state": state if endpoint.ready else "not ready",
                    "secondsLeft": round(seconds, 3),
                    "picks": counters.endpoint(endpoint, metrics.PICKS),
                    "responses": {
                        f"{status}xx": counters.endpoint(endpoint, metrics.RESPONSES + status - 1)
                        for status in range(1, 6)
                    },
                    "idle": service.pool.count(endpoint.key),
                }
            )
        return 200, _JSON, json.dumps({"endpoints": rows}, indent=1).encode() + b"\n"


class AdminProtocol(asyncio.Protocol):
    """One connection to the admin or the probe port."""

    def __init__(self, proxy: Proxy, pages: Pages, *, admin: bool, allowed_hosts: frozenset[str] = frozenset()) -> None:
        self._proxy = proxy
        self._pages = pages
        self._admin = admin
        self._allowed_hosts = allowed_hosts
        self._parser = HeadParser(_LIMITS)
        self._buffer = b""
        self._scanned = 0
        self._transport: asyncio.Transport | None = None
        self._is_full = False
        self._idle: asyncio.TimerHandle | None = None
        self._is_working = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request, but not for ever."""
        self._transport = cast(asyncio.Transport, transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        self._transport = None
        if self._idle is not None:
            self._idle.cancel()

    def pause_writing(self) -> None:
        """Who does not read its answers gets no more of them."""
        self._is_full = True

    def resume_writing(self) -> None:
        """Go on."""
        self._is_full = False
        self._serve()

    def data_received(self, data: bytes) -> None:
        """Take requests in."""
        self._buffer += data
        if self._transport is not None and len(self._buffer) > _BACKLOG_LIMIT:
            self._transport.pause_reading()
        self._serve()

    def _wait(self) -> None:
        """Close when nothing moves for a while, with what was not read."""
        if self._idle is not None:
            self._idle.cancel()
        assert self._transport is not None
        self._idle = self._proxy.loop.call_later(_IDLE_SECONDS, reset, self._transport)

    def _serve(self) -> None:
        """Answer one request a turn of the loop: whoever asks for much must not hold up the clients."""
        if self._transport is None or self._transport.is_closing() or not self._buffer:
            return
        if self._is_full or self._is_working:
            return
        try:
            end = find_head_end(self._buffer, self._scanned, _LIMITS)
            if end < 0:
                self._scanned = len(self._buffer)
                return
            head = self._parser.request(self._buffer[:end])
            request = prepare_request(head)
            if request.has_body:
                raise MessageError(413, "body", "requests with a body are not served here")
            self._buffer = self._buffer[end:]
            self._scanned = 0
            answer = self._checked(head)
        except MessageError as error:
            self._write((error.status, _TEXT, error.detail.encode() + b"\n"), close=True)
            return
        if callable(answer):
            self._is_working = True
            working = asyncio.wrap_future(self._pages.begin(answer), loop=self._proxy.loop)
            working.add_done_callback(partial(self._worked, close=not request.persistent, body=not request.is_head))
        else:
            self._answer(answer, close=not request.persistent, body=not request.is_head)

    def _worked(self, working: asyncio.Future[Answer], *, close: bool, body: bool) -> None:
        self._is_working = False
        if self._transport is None or self._transport.is_closing() or working.cancelled():
            return
        try:
            answer = working.result()
        except Exception:
            log.exception("an answer of the admin port could not be made")
            answer = 500, _TEXT, b"this answer could not be made: see the log\n"
        self._answer(answer, close=close, body=body)

    def _answer(self, answer: Answer, *, close: bool, body: bool) -> None:
        self._write(answer, close=close, body=body)
        assert self._transport is not None
        self._wait()
        if self._buffer:
            self._proxy.loop.call_soon(self._serve)
        else:
            self._transport.resume_reading()

    def _checked(self, head: RequestHead) -> Answer | Work:
        if self._admin:
            host = b"".join(head.values(b"host")).decode("latin-1")
            if not self._is_allowed(host):
                return 421, _TEXT, b"this Host is not served here: use the address, or localhost\n"
        return self._pages.answer(head, admin=self._admin)

    def _is_allowed(self, host: str) -> bool:
        """An IP address can't be rebound; of names, only this machine's own are taken."""
        name = host[1 : host.find("]")] if host.startswith("[") else host.partition(":")[0]
        if name.lower() in self._allowed_hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _write(self, answer: Answer, *, close: bool, body: bool = True) -> None:
        assert self._transport is not None
        status, content_type, content = answer
        fields = [b"Allow: GET, HEAD"] if status == 405 else None
        self._transport.write(
            reply(status, content_type, content, date=self._proxy.http_date(), close=close, fields=fields, body=body)
        )
        if close:
            self._transport.close()
