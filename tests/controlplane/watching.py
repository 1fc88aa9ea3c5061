"""One watch at the API server of the tests: events of its selection, bookmarks, an end in time, and what tests order.

It sleeps in select() until the client closes, something is ordered or changed, or the time of a bookmark or of the end
has come.
"""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections import deque
from collections.abc import Callable

from tests.controlplane import faults
from tests.controlplane.objects import Object
from tests.controlplane.store import Selection, Store, TooOldError
from tests.controlplane.wire import Connection, Gone, Request, to_json

Order = Callable[[], bool | None]
"""Done by the watch's thread; True ends the stream in order."""

BOOKMARK_BEFORE_END = 2.0
"""Seconds before its end at which a watch gets a bookmark, as from the real API server."""


class Watch:
    """A watch that is open. Its methods may be called from any thread; they return before it is done."""

    def __init__(
        self,
        connection: Connection,
        request: Request,
        store: Store,
        selection: Selection,
        version: int,
        *,
        seconds: float,
        bookmark_interval: float,
    ) -> None:
        self.connection = connection
        self.request = request
        self.version = version
        """The last version of which the client was told."""
        self.is_silent = False
        """Let the client hear of nothing more, neither events nor bookmarks nor an end."""
        self._store = store
        self._selection = selection
        self._ends_at = request.at + seconds
        self._wants_bookmarks = request.query.get("allowWatchBookmarks") in ("1", "true", "True")
        self._bookmark_interval = bookmark_interval
        self._next_bookmark = request.at + min(bookmark_interval, max(seconds - BOOKMARK_BEFORE_END, 0.0))
        self._orders: deque[Order] = deque()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)

    # Orders

    def wake(self) -> None:
        """Look again."""
        with contextlib.suppress(OSError):  # it is awake, or over
            self._waker.send(b"\0")

    def order(self, order: Order) -> None:
        self._orders.append(order)
        self.wake()

    def bookmark(self) -> None:
        """Send a bookmark now, if the client allows them."""
        self.order(self._send_bookmark)

    def line(self, data: bytes) -> None:
        """Send these bytes as they are."""
        self.order(lambda: self.connection.send_chunk(data))

    def error(self, document: dict[str, object]) -> None:
        """Send an ERROR and end."""

        def send() -> bool:
            self.connection.send_chunk(to_json({"type": "ERROR", "object": document}))
            return True

        self.order(send)

    def end(self) -> None:
        """End in order, before the time."""
        self.order(lambda: True)

    def cut(self, *, reset: bool, after: bytes = b"") -> None:
        """Close the connection, in the middle of a line of which `after` was sent."""

        def close() -> None:
            if after:
                self.connection.send_chunk(after)
            self.connection.close(reset=reset)
            raise Gone

        self.order(close)

    def silence(self) -> None:
        """Be mute from now on, and never end."""
        self.is_silent = True
        self.wake()

    # The watch's own thread

    def run(self) -> None:
        """Serve it; return when the stream has ended in order, raise Gone when the connection is over."""
        try:
            self.connection.start_stream()
            if not self.version:
                self._send_all()
            if not self._serve():
                self.connection.end_stream()
        finally:
            self._waker.close()
            self._wakened.close()

    def _serve(self) -> bool | None:
        while True:
            while self._orders:
                if self._orders.popleft()():
                    return None
            now = time.monotonic()
            if self.is_silent:
                self._sleep(None)
                continue
            if not self._send_events():
                return None
            if now >= self._ends_at:
                return None
            if now >= self._next_bookmark:
                self._send_bookmark()
                before_end = self._ends_at - BOOKMARK_BEFORE_END
                following = now + self._bookmark_interval
                self._next_bookmark = before_end if now < before_end < following else following
            self._sleep(min(self._next_bookmark, self._ends_at) - now)

    def _sleep(self, seconds: float | None) -> None:
        readable, _, _ = select.select([self.connection.socket, self._wakened], [], [], seconds)
        if self._wakened in readable:
            self._wakened.recv(65536)
        if self.connection.socket in readable and self.connection.is_gone():
            raise Gone

    def _send_all(self) -> None:
        """Begin with everything, as for who has not listed before."""
        objects, self.version = self._store.select(self._selection)
        for obj in objects:
            self.connection.send_chunk(to_json({"type": "ADDED", "object": obj}))

    def _send_events(self) -> bool:
        """Send what happened since; return False when that was forgotten."""
        try:
            events = self._store.since(self.version)
        except TooOldError:
            message = f"too old resource version: {self.version} ({self._store.version})"
            self.connection.send_chunk(to_json({"type": "ERROR", "object": faults.expired(message)}))
            return False
        for event in events:
            if (seen := self._selection.seen(event)) is not None:
                self.connection.send_chunk(to_json({"type": seen[0], "object": seen[1]}))
            self.version = event.version
        return True

    def _send_bookmark(self) -> None:
        """Tell the client the version up to which it knows everything."""
        current = self._store.version
        if not self._wants_bookmarks or self.version > current or not self._send_events():
            return
        self.version = max(self.version, current)
        resource = self._selection.resource
        obj: Object = {
            "kind": resource.kind,
            "apiVersion": resource.api_version,
            "metadata": {"resourceVersion": str(self.version)},
            **resource.empty,
        }
        self.connection.send_chunk(to_json({"type": "BOOKMARK", "object": obj}))
