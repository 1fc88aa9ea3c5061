"""CORE: what `/stats.json` says, as values: the admin port writes them and `podlb top` reads them.

Counters count since the start. Times are in seconds, sizes in bytes. docs/top.md describes each field.
"""

from __future__ import annotations

import msgspec

CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")

Bucket = tuple[float | None, int]
"""An upper bound in seconds (None: there is none), and how many times were in the bucket."""


class Histogram(msgspec.Struct, frozen=True, gc=False):
    """Times since the start; `buckets` has those that are not empty, the shortest times first."""

    count: int
    sum: float
    p50: float
    p95: float
    p99: float
    buckets: list[Bucket]


class Times(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The histograms of the process. What is not measured is None."""

    exchange: Histogram
    first_byte: Histogram
    connect: Histogram
    overhead: Histogram | None = None


class Totals(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """The counters of the process, and what is so now: `open`, `waiting`, `connections_open`, `is_panicking`."""

    connections: int
    connections_open: int
    received_bytes: int
    sent_bytes: int
    exchanges: int
    open: int
    ends: dict[str, int]
    """How exchanges ended, by reason (docs/end-reasons.md); reasons that never occurred are left out."""
    own_replies: dict[str, int]
    responses: dict[str, int]
    """Of all endpoints, those that left included, by status class."""
    retries: int
    waiting: int
    is_panicking: bool


class EndpointStats(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    """One endpoint of the snapshot: who it is, its state, its counters."""

    endpoint: str
    name: str
    uid: str
    node: str
    zone: str
    weight: int
    state: str
    reason: str
    since: float
    """For how many seconds it has been in this state."""
    seconds_left: float
    expected_share: float
    picks: int
    responses: dict[str, int]
    retries: int
    connects: int
    reuses: int
    stale: int
    connect_failures: int
    resets: int
    set_asides: int
    idle: int
    active: int
    times: Histogram | None = None


class LogEvent(msgspec.Struct, frozen=True, gc=False):
    """A line of the log, in its parts."""

    time: str
    level: str
    component: str
    message: str


class Stats(msgspec.Struct, frozen=True, gc=False):
    """All of it."""

    version: str
    instance: str
    """Another for every process."""
    uptime: float
    """Seconds since the process was ready to count, on its own clock."""
    totals: Totals
    times: Times
    endpoints: list[EndpointStats]
    events: list[LogEvent]
    """The last lines of the log, the oldest first."""


NO_TIMES = Histogram(count=0, sum=0.0, p50=0.0, p95=0.0, p99=0.0, buckets=[])
NO_TOTALS = Totals(
    connections=0,
    connections_open=0,
    received_bytes=0,
    sent_bytes=0,
    exchanges=0,
    open=0,
    ends={},
    own_replies={},
    responses={},
    retries=0,
    waiting=0,
    is_panicking=False,
)
NEW_ENDPOINT = EndpointStats(
    endpoint="",
    name="",
    uid="",
    node="",
    zone="",
    weight=0,
    state="",
    reason="",
    since=0.0,
    seconds_left=0.0,
    expected_share=0.0,
    picks=0,
    responses={},
    retries=0,
    connects=0,
    reuses=0,
    stale=0,
    connect_failures=0,
    resets=0,
    set_asides=0,
    idle=0,
    active=0,
)
"""What stands before anything has happened."""


class NotStatsError(ValueError):
    """What was read is not what `/stats.json` says."""


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Stats)


def to_json(stats: Stats) -> bytes:
    """Return the content of `/stats.json`."""
    return _encoder.encode(stats) + b"\n"


def from_json(content: bytes) -> Stats:
    """Return what `content` says. Raises NotStatsError; fields that are not known here are passed over."""
    try:
        return _decoder.decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise NotStatsError(str(error)) from None
