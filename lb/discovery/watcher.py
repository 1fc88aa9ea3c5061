"""CORE: list, watch, relist: what to ask the API server for next, given what came of the last question.

    phase   input                                   next
    LIST    a page with a continue token            LIST, the next page
    LIST    the last page                           WATCH from the list's version
    LIST    410 (the token is too old)              LIST from the first page, after a pause
    LIST    any other failure                       LIST from the first page, after a pause
    WATCH   an event, a bookmark                    WATCH; the version is the event's
    WATCH   an event of an unknown type             WATCH
    WATCH   a clean end                             WATCH from the last version, at once
    WATCH   an end after 40 s, of one watch or of
            several together, in which nothing was
            said, not even a bookmark               LIST
    WATCH   a cut, a time-out, no connection, 5xx   WATCH from the last version, after a pause
    WATCH   410, 504 (the version is too new)       LIST, the first time at once
    WATCH   a line that can't be read               LIST, the first time at once: what it said is not known
    WATCH   403 for longer than a moment            WATCH, and LIST every 30 s

A list asks without a version: a consistent read. What it says replaces what was known, even if its version is lower,
as after a restored backup of etcd. (https://kubernetes.io/docs/reference/using-api/api-concepts/)
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import NamedTuple

import msgspec
from msgspec import Raw

from lb.discovery.backoff import Backoff

TRANSIENT_SECONDS = 3.0
"""A 403 may pass: an API server that just came back answers its first requests so until it knows the roles. So may a
401: a token is replaced a moment before its new one can be read."""
FORBIDDEN_LIST_SECONDS = 30.0
DENIED_LOG_SECONDS = 60.0
_SHORTEST_WATCH, _LONGEST_WATCH = 45, 60
_LONGEST_RETRY_AFTER = 60.0
# A watch that ended sooner than that is no reason to hurry, however well it went.
_SHORT_LIFE_SECONDS = 1.0
_LONG_LIFE_SECONDS = 20.0
# An API server sends a bookmark about two seconds before it ends a watch. If our version is one that it has yet to
# reach (etcd was restored from a backup) it sends nothing at all and no error either: seen with kube-apiserver 1.35.
_SILENT_SECONDS = 40.0


class Phase(enum.Enum):
    """What is being done."""

    LIST = "list"
    WATCH = "watch"


class Ask(NamedTuple):
    """What to ask for."""

    phase: Phase
    version: str = ""
    token: str = ""
    timeout_seconds: int = 0
    """When the server is to end the watch."""


class Trouble(enum.Enum):
    """Why a question came to nothing, or a watch to its end; the value is the reason in the metric."""

    END = "end"
    CUT = "cut"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    GONE = "gone"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    THROTTLED = "throttled"
    ERROR = "error"
    GARBLED = "garbled"


class Failure(NamedTuple):
    """One failure. `text` is for people; `retry_after` what the server asked for, in seconds."""

    trouble: Trouble
    text: str = ""
    retry_after: float | None = None
    is_too_new: bool = False
    """Has the server not seen our version yet?"""
    is_untrusted: bool = False
    """Was it the server's certificate? Its authority may have been replaced."""


class Pause(NamedTuple):
    """What to do before the next question."""

    seconds: float
    reload: bool = False
    """Read the credentials again."""
    is_denied: bool = False
    """We are not let in (a permission is missing, or the credentials are no good), and it is time to say so."""


class Verdict(enum.Enum):
    """What to do with an event."""

    APPLY = "apply"
    DELETE = "delete"
    IGNORE = "ignore"


class Event(NamedTuple):
    """One line of a watch."""

    kind: str
    item: Raw
    version: str


class _Meta(msgspec.Struct):
    resource_version: str = msgspec.field(default="", name="resourceVersion")
    token: str = msgspec.field(default="", name="continue")


class _Object(msgspec.Struct):
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class _Line(msgspec.Struct):
    type: str
    object: Raw


class _List(msgspec.Struct):
    metadata: _Meta
    items: list[Raw] | None = None


class _Cause(msgspec.Struct):
    reason: str = ""


class _Details(msgspec.Struct):
    seconds: float = msgspec.field(default=0, name="retryAfterSeconds")
    causes: list[_Cause] | None = None


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""
    details: _Details | None = None


# The last is for what is nested without end.
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_line = msgspec.json.Decoder(_Line)
_object = msgspec.json.Decoder(_Object)
_list = msgspec.json.Decoder(_List)
_status = msgspec.json.Decoder(_Status)


class GarbledError(Exception):
    """What the server said can't be read."""


class StatusError(Exception):
    """The server said no, with `failure`."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class Page(NamedTuple):
    """A page of a list."""

    items: list[Raw]
    version: str
    token: str


def version_number(version: str) -> int:
    """Return a resourceVersion as a number, to be compared; -1 if it is none (or longer than any that etcd makes)."""
    return int(version) if version.isdecimal() and len(version) < 40 else -1


def read_page(data: bytes) -> Page:
    """Read the body of a list. Raises GarbledError."""
    try:
        found = _list.decode(data)
    except _UNREADABLE as error:
        raise GarbledError(f"a list that can't be read: {error}") from None
    return Page(found.items or [], found.metadata.resource_version, found.metadata.token)


def read_event(line: bytes) -> Event:
    """Read a line of a watch. Raises GarbledError, or StatusError for an event that is an error."""
    try:
        found = _line.decode(line)
        if found.type == "ERROR":
            raise StatusError(read_status(0, bytes(found.object)))
        version = _object.decode(found.object).metadata.resource_version
    except _UNREADABLE as error:
        raise GarbledError(f"a line that can't be read: {error}") from None
    return Event(found.type, found.object, version)


def read_status(code: int, data: bytes, retry_after: str = "") -> Failure:
    """Return the failure that a response of status `code`, or an ERROR event (0), tells of."""
    try:
        status = _status.decode(data)
    except _UNREADABLE:
        # A proxy in between, for one, answers in HTML.
        status = _Status()
    code = code or status.code
    text = "".join(c if c.isprintable() else " " for c in status.message[:500]) or f"status {code}"
    seconds = float(retry_after) if retry_after.isdecimal() else None
    details = status.details or _Details()
    if seconds is None and details.seconds > 0:
        seconds = details.seconds
    if code == 401:
        return Failure(Trouble.UNAUTHORIZED, text)
    if code == 403:
        return Failure(Trouble.FORBIDDEN, text)
    if code == 410:
        return Failure(Trouble.GONE, text)
    if code in (429, 503):
        return Failure(Trouble.THROTTLED, text, seconds)
    too_new = code == 504 and any(cause.reason == "ResourceVersionTooLarge" for cause in details.causes or ())
    return Failure(Trouble.ERROR, text, seconds, too_new or (code == 504 and "Too large resource version" in text))


class Watcher:
    """The state of one list and watch. `random` returns a number from 0 up to (not including) 1; times are seconds."""

    def __init__(self, random: Callable[[], float]) -> None:
        self.phase = Phase.LIST
        self.version = ""
        self.has_gone_back = False
        """Had the last list a lower version than what was known before it?"""
        self.is_watch_forbidden = False
        self._random = random
        self._backoff = Backoff(random)
        self._token = ""
        self._was_refused = False
        self._last_trouble: Trouble | None = None
        self._trouble_since = 0.0
        self._said_at: float | None = None
        self._list_at = 0.0
        self._watching_since = 0.0
        self._is_open = False
        self._silent_for = 0.0
        """For how many seconds the last watches, together, were open without a word."""
        self._is_silent = True
        """Was nothing said in this watch?"""
        self._was_useless = False
        """Was the version of no use, and has no watch been well since?"""

    def ask(self, now: float) -> Ask:
        """Return what to ask for now."""
        if self.is_watch_forbidden and (self.phase is Phase.LIST or now >= self._list_at):
            # From the last try on: one that took long to succeed is not followed by another at once.
            self._list_at = now + FORBIDDEN_LIST_SECONDS
            self.phase = Phase.LIST
        if self.phase is Phase.LIST:
            return Ask(Phase.LIST, token=self._token)
        seconds = _SHORTEST_WATCH + int(self._random() * (_LONGEST_WATCH - _SHORTEST_WATCH + 1))
        return Ask(Phase.WATCH, version=self.version, timeout_seconds=seconds)

    def page_received(self, page: Page) -> bool:
        """A page of the list is here. Is the list complete?"""
        self._was_refused = False
        if not self.is_watch_forbidden:
            self._allowed()
        if page.token:
            self._token = page.token
            return False
        self._token = ""
        self._silent_for = 0.0
        known, version = self.version, page.version
        self.has_gone_back = -1 < version_number(version) < version_number(known)
        self.version = version
        self.phase = Phase.WATCH
        return True

    def watch_opened(self, now: float) -> None:
        """The server accepted the watch."""
        self._watching_since = now
        self._is_open = True
        self._is_silent = True
        self._was_refused = self.is_watch_forbidden = False
        self._allowed()

    def event_received(self, event: Event) -> Verdict:
        """A line of the watch is here: what is to be done with its object?"""
        verdict = _VERDICTS.get(event.kind)
        if verdict is None:
            return Verdict.IGNORE
        self._is_silent = False
        if event.version:
            self.version = event.version
        return verdict

    def failed(self, failure: Failure, now: float) -> Pause:
        """A question came to nothing, or the watch to an end."""
        trouble = failure.trouble
        self._token = ""
        if trouble is not self._last_trouble:
            self._last_trouble, self._trouble_since = trouble, now
        lived = now - self._watching_since
        if not self._is_silent and lived >= _SHORT_LIFE_SECONDS:
            # All was well. (Not so a server that says something and then fails, at once, again and again.)
            self._backoff.reset()
            self._was_useless = False
        elif self._is_open and lived >= _LONG_LIFE_SECONDS:
            # Nothing had happened, and what cut it may be a proxy in between, to which 30 s are long.
            self._backoff.reset()
        self._silent_for = self._silent_for + lived if self._is_open and self._is_silent else 0.0
        self._is_open, self._is_silent = False, True
        was_watching = self.phase is Phase.WATCH
        if was_watching and self._silent_for >= _SILENT_SECONDS:
            self.phase, self._silent_for = Phase.LIST, 0.0
        if trouble is Trouble.END:
            if lived >= _SHORT_LIFE_SECONDS:
                self._backoff.reset()
                return Pause(0.0)
        elif trouble is Trouble.UNAUTHORIZED:
            # The token was replaced, most likely: once, at once. It is not if the new one is refused as well.
            is_first, self._was_refused = not self._was_refused, True
            return Pause(0.0 if is_first else self._backoff.next(), reload=True, is_denied=self._is_denied(now))
        elif trouble is Trouble.FORBIDDEN:
            return Pause(self._backoff.next(), is_denied=self._is_denied(now))
        elif trouble in (Trouble.GONE, Trouble.GARBLED) or failure.is_too_new:
            is_first = was_watching and not self._was_useless
            self.phase, self._was_useless = Phase.LIST, True
            if is_first and failure.retry_after is None:
                # The server answers, and a list will do: after an outage each further pause is staleness.
                return Pause(0.0, reload=failure.is_untrusted)
        seconds = self._backoff.next()
        if failure.retry_after is not None:
            seconds = min(max(failure.retry_after, seconds), _LONGEST_RETRY_AFTER)
        return Pause(seconds, reload=failure.is_untrusted)

    def _allowed(self) -> None:
        self._last_trouble = self._said_at = None

    def _is_denied(self, now: float) -> bool:
        """We were not let in. Is it time to say so?"""
        if now - self._trouble_since < TRANSIENT_SECONDS:
            return False
        is_forbidden = self._last_trouble is Trouble.FORBIDDEN
        if is_forbidden and self.phase is Phase.WATCH and not self.is_watch_forbidden:
            self.is_watch_forbidden = True
            self._list_at = now
        if self._said_at is not None and now - self._said_at < DENIED_LOG_SECONDS:
            return False
        self._said_at = now
        return True


_VERDICTS = {
    "ADDED": Verdict.APPLY,
    "MODIFIED": Verdict.APPLY,
    "DELETED": Verdict.DELETE,
    # It has a version and nothing else.
    "BOOKMARK": Verdict.IGNORE,
}
