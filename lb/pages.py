"""SHELL: what the admin port and the probe port serve."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from urllib.parse import unquote_to_bytes

from lb.discovery.status import SyncStatus
from lb.http1.message import RequestHead
from lb.proxy import Proxy
from lb.reading import Reading, read
from lb.stats import collect, to_csv
from lb.stats_model import LogEvent, Stats, to_json
from lb.why import explain, headline
from lb.works import Answer, Make, Prepare, Works

_TEXT = b"text/plain; charset=utf-8"
_JSON = b"application/json"
_CSV = b"text/csv; charset=utf-8"
_FAILURES_SHOWN = 50


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
        self.works = Works(proxy.loop)
        self._pages: dict[bytes, Callable[[RequestHead], Answer | Prepare]] = {
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

    def answer(self, head: RequestHead, *, admin: bool) -> Answer | Prepare:
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

    def _livez(self, head: RequestHead) -> Answer:
        return 200, _TEXT, b"ok\n"

    def _readyz(self, head: RequestHead) -> Answer:
        ready, why = self._is_ready()
        return (200 if ready else 503), _TEXT, why.encode() + b"\n"

    def _index(self, head: RequestHead) -> Answer:
        return 200, _TEXT, b"podlb\n" + b"".join(b"%b\n" % name for name in sorted(self._admin_pages) if name != b"/")

    def _read(self) -> Reading:
        return read(self._proxy.service, self._proxy.clock())

    def _metrics(self, head: RequestHead) -> Prepare:
        accept = b",".join(head.values(b"accept")).decode("latin-1")

        def prepare() -> Make:
            reading, dropped = self._read(), self._dropped_lines()
            sync = None if self._sync is None else self._sync.copy()

            def make() -> Answer:
                # (With the library behind it, it takes 50 ms to import.)
                from lb.exposition import Scrape, render

                content, content_type = render(Scrape(reading, dropped, sync), accept)
                return 200, content_type.encode(), content

            return make

        return prepare

    def _of_reading(self, content_type: bytes, make: Callable[[Reading], bytes]) -> Prepare:
        def prepare() -> Make:
            reading = self._read()
            return lambda: (200, content_type, make(reading))

        return prepare

    def _collect(self, reading: Reading) -> Stats:
        return collect(reading, started=self._started, instance=self._proxy.instance, events=self._recent_events())

    def _stats_json(self, head: RequestHead) -> Prepare:
        return self._of_reading(_JSON, lambda reading: to_json(self._collect(reading)))

    def _stats_csv(self, head: RequestHead) -> Prepare:
        return self._of_reading(_CSV, lambda reading: to_csv(self._collect(reading)).encode())

    def _endpoints(self, head: RequestHead) -> Prepare:
        return self._of_reading(_JSON, lambda reading: endpoints_page(self._collect(reading)))

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


def endpoints_page(stats: Stats) -> bytes:
    """Return what `/endpoints` says: the endpoints for people, one after the other."""
    rows = [
        {
            "endpoint": one.endpoint,
            "name": one.name,
            "uid": one.uid,
            "state": one.state,
            "reason": one.reason,
            "since": one.since,
            "secondsLeft": one.seconds_left,
            "picks": one.picks,
            "responses": one.responses,
            "idle": one.idle,
        }
        for one in stats.endpoints
    ]
    return json.dumps({"endpoints": rows}, indent=1).encode() + b"\n"
