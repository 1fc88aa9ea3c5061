"""SHELL: what is told of requests that have ended: by the access log and by `/why`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lb.access_log import Entry
from lb.access_logger import AccessLogger
from lb.entries import Entries
from lb.errors import EndReason
from lb.exchange import Exchange
from lb.plain_lines import PlainLines
from lb.service import Service
from lb.why import Candidate, Record, Recorder, candidates_of

# Of thousands that fail at the same time each need not look at thousands of endpoints.
_LOOK_SECONDS = 0.1


class History:
    """Remembers requests with the endpoints as they were then. `clock` is monotonic, in seconds."""

    def __init__(self, service: Service[Any], clock: Callable[[], float]) -> None:
        self.recorder = Recorder()
        self.access_logger: AccessLogger | None = None
        self._plain_lines: PlainLines | None = None
        self.is_sampling = False
        """Is the next that goes well to be remembered too?"""
        self._entries = Entries()
        self._service = service
        self._clock = clock
        self._looked_at = -_LOOK_SECONDS
        self._seen = candidates_of(())

    def log_access(self, logger: AccessLogger) -> None:
        """Write the access log from now on."""
        self.access_logger = logger
        self._plain_lines = PlainLines(logger.form)

    def log(self, exchange: Exchange) -> None:
        """Write a line of the access log, if there is one and it takes this."""
        logger, plain_lines = self.access_logger, self._plain_lines
        if logger is not None and plain_lines is not None and logger.wants():
            line = plain_lines.of(exchange)
            if line is None:
                logger.log(self._entries.of(exchange))
            else:
                logger.write(line)

    def flush(self) -> None:
        """Hand over the lines of the access log that wait."""
        if self.access_logger is not None:
            self.access_logger.flush()

    def remember(self, exchange: Exchange) -> None:
        """Keep the story of an exchange that has ended."""
        self.add(self._entries.of(exchange), is_failure=exchange.end_reason is not EndReason.OK)

    def head_refused(self, client: bytes, status: int, reason: str, request_id: bytes, sent: int) -> None:
        """A head was refused with a reply of `sent` bytes, so that there is no exchange: log and remember that."""
        entry = self._entries.refused(client, status, reason, request_id, sent)
        logger = self.access_logger
        if logger is not None and logger.wants():
            logger.log(entry)
        self.add(entry, is_failure=True)

    def add(self, entry: Entry, *, is_failure: bool) -> None:
        """Remember a request that has just ended."""
        now = self._clock()
        if now >= self._looked_at + _LOOK_SECONDS:
            self._looked_at = now
            self._seen = candidates_of(self._candidates(now))
        self.recorder.add(Record(entry, *self._seen), is_failure=is_failure)

    def _candidates(self, now: float) -> list[Candidate]:
        state_of = self._service.states.of
        found = []
        for endpoint in self._service.snapshot:
            word, reason, _, seconds_left = state_of(endpoint, now)
            found.append(Candidate(endpoint.authority, endpoint.name, word, seconds_left, reason))
        return found
