"""Counters over one flat array of unsigned 64-bit integers.

A flat array grows once per endpoint, never per request, holds nothing that the garbage collector tracks, and can later
be a mapped file that several processes share. `slot` gives the place of an endpoint's block; the constants are offsets.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from typing import Literal

from lb.endpoint import Endpoint, EndpointKey
from lb.errors import ATTEMPT_FAILURES, END_WORDS, EndReason, end_word
from lb.histogram import BLOCK, Times

MOST_WITH_TIMES = 100
"""Up to so many endpoints each has a histogram of its own, if nobody says otherwise (`endpointHistograms: auto`)."""
_ROUNDS = 16
"""The times of endpoints are settled in so many rounds."""
KEEP_SECONDS = 600.0
KEEP_COUNT = 256
KEEP_LEAST_SECONDS = 60.0
"""Endpoints that left are told of by themselves for `KEEP_SECONDS`: long enough for every scrape and the usual five
minutes of a rate. Of more than `KEEP_COUNT` the first to leave are folded earlier, but none before this."""

# Offsets in the block of the process.
(
    CONNECTIONS,
    CONNECTIONS_OPEN,
    EXCHANGES,
    OWN_REPLIES_4XX,
    OWN_REPLIES_5XX,
    ACCEPT_PAUSES,
    EVICTIONS,
    RECEIVED_BYTES,
    SENT_BYTES,
    REQUEST_HEADS_READ,
    RESPONSE_HEADS_READ,
) = range(11)

# Offsets in the block of an endpoint. RESPONSES is the first of five: 1xx to 5xx.
(
    PICKS,
    RESPONSES,
    _2XX,
    _3XX,
    _4XX,
    _5XX,
    CONNECTS,
    REUSES,
    CONNECT_FAILURES,
    RESETS,
    RETRIES,
    SET_ASIDES,
    STALE,
    OPEN,
) = range(14)
"""OPEN is no count of events: connections to it that are open or being made, idle ones too."""

_BLOCK = 16
_END_INDEX = {word: _BLOCK + at for at, word in enumerate(END_WORDS)}
ENDED_OK = _END_INDEX["ok"]
"""The place of the counter of exchanges that ended well."""
EXCHANGE_TIME, OVERHEAD_TIME, FIRST_BYTE_TIME, CONNECT_TIME, LAG_TIME = (
    _BLOCK + len(END_WORDS) + at * BLOCK for at in range(5)
)
"""The places of the histograms of all endpoints together, and of the loop."""
_FAILED = LAG_TIME + BLOCK
_RETRIED = _FAILED + len(ATTEMPT_FAILURES)
_FAILURE_INDEX = {word: _FAILED + at for at, word in enumerate(ATTEMPT_FAILURES)}
GONE_SLOT = _RETRIED + len(ATTEMPT_FAILURES)
"""The place of the block in which the endpoints that left are folded together."""
_FIRST_SLOT = GONE_SLOT + _BLOCK


class Metrics:
    """All counters of a process. `values[PROCESS_COUNTER]` or `values[slot + ENDPOINT_COUNTER]` += n."""

    def __init__(self, endpoint_histograms: Literal["auto", "on", "off"] = "auto") -> None:
        self.values = array("Q", bytes(8 * _FIRST_SLOT))
        self.exchange_times = Times(self.values, EXCHANGE_TIME)
        self.overhead_times = Times(self.values, OVERHEAD_TIME)
        self.first_byte_times = Times(self.values, FIRST_BYTE_TIME)
        self.connect_times = Times(self.values, CONNECT_TIME)
        self.lag_times = Times(self.values, LAG_TIME)
        self.endpoint_times: dict[int, Times] = {}
        """The histograms of endpoints, by the place of the endpoint's block. `exchange_times` has all the others."""
        self.notes: dict[int, Callable[[float], None]] = {}
        """`note` of each of them."""
        self._turn: list[int] = []
        """The endpoints whose times are still to be settled in this round."""
        self._most_with_times = {"auto": MOST_WITH_TIMES, "on": 1 << 30, "off": -1}[endpoint_histograms]
        self._has_times = self._most_with_times >= 0
        self._slots: dict[EndpointKey, int] = {}
        self._free: list[int] = []
        self._free_times: list[int] = []
        self._here: Set[EndpointKey] | None = None
        """The endpoints of now; None: that was not said."""
        self._gone: dict[EndpointKey, float] = {}
        """Since when they are gone, the first to leave first."""
        self.has_folded = False
        """Were the counters of any endpoint folded into the block at `GONE_SLOT`?"""

    def slot(self, key: EndpointKey) -> int:
        """Return the place of the endpoint's block."""
        slot = self._slots.get(key)
        if slot is None:
            if self._free:
                slot = self._free.pop()
            else:
                slot = len(self.values)
                self.values.extend([0] * _BLOCK)
            self._slots[key] = slot
            if self._has_times and (self._here is None or key in self._here):
                self._add_times(slot)
        return slot

    def _add_times(self, slot: int) -> None:
        if self._free_times:
            place = self._free_times.pop()
        else:
            place = len(self.values)
            self.values.extend([0] * BLOCK)
        self.endpoint_times[slot] = times = Times(self.values, place)
        self.notes[slot] = times.note

    def _remove_times(self, slot: int) -> None:
        times = self.endpoint_times.pop(slot, None)
        if times is not None:
            times.settle()
            values = self.values
            for at in range(BLOCK):
                values[EXCHANGE_TIME + at] += values[times.block + at]
                values[times.block + at] = 0
            self._free_times.append(times.block)
            del self.notes[slot]

    def ended(self, reason: EndReason, what: str = "") -> None:
        """Count the end of an exchange; `what` is what was bad about a bad message."""
        self.values[_END_INDEX[end_word(reason, what)]] += 1

    def attempt_failed(self, word: str) -> None:
        """Count an attempt that failed; `word` is one of `ATTEMPT_FAILURES`."""
        self.values[_FAILURE_INDEX[word]] += 1

    def attempt_retried(self, word: str) -> None:
        """Count that another attempt follows one that failed so."""
        self.values[_FAILURE_INDEX[word] + len(ATTEMPT_FAILURES)] += 1

    def attempt_failures(self) -> Iterator[tuple[str, int, int]]:
        """Yield for each of `ATTEMPT_FAILURES` how many attempts failed so, and how many were followed by another."""
        for word, at in _FAILURE_INDEX.items():
            yield word, self.values[at], self.values[at + len(ATTEMPT_FAILURES)]

    @property
    def exchanges_open(self) -> int:
        """How many exchanges have begun and not ended."""
        return self.values[EXCHANGES] - sum(self.values[_BLOCK : _BLOCK + len(END_WORDS)])

    def endings(self) -> Iterator[tuple[str, int]]:
        """Yield how many exchanges ended for each reason of `END_WORDS`."""
        for word, at in _END_INDEX.items():
            yield word, self.values[at]

    def settle(self) -> None:
        """Count all times that wait to be counted."""
        for times in self._all_times():
            times.settle()

    def settle_some(self) -> None:
        """Count those of the Service, and of a share of the endpoints, in turn: after `BATCH` times that were noted.

        All at once, of 100 endpoints, would hold up the loop for 10 ms.
        """
        self.exchange_times.settle()
        self.overhead_times.settle()
        if self.endpoint_times:
            if not self._turn:
                self._turn = list(self.endpoint_times)
            for slot in self._turn[-(len(self.endpoint_times) // _ROUNDS + 1) :]:
                times = self.endpoint_times.get(slot)
                if times is not None:
                    times.settle()
            del self._turn[-(len(self.endpoint_times) // _ROUNDS + 1) :]

    def waiting_times(self) -> list[tuple[int, list[float]]]:
        """Return the times that wait to be counted, with the places of their histograms."""
        return [(times.block, waiting) for times in self._all_times() if (waiting := times.waiting())]

    def _all_times(self) -> Iterator[Times]:
        yield from (self.exchange_times, self.overhead_times, self.first_byte_times, self.connect_times, self.lag_times)
        yield from self.endpoint_times.values()

    def endpoint(self, endpoint: Endpoint, counter: int) -> int:
        """Return one counter of an endpoint."""
        slot = self._slots.get(endpoint.key)
        return 0 if slot is None else self.values[slot + counter]

    def times_of(self, key: EndpointKey) -> int | None:
        """Return the place of the histogram of an endpoint's exchanges, or None: it has none."""
        slot = self._slots.get(key)
        times = None if slot is None else self.endpoint_times.get(slot)
        return None if times is None else times.block

    def slots(self) -> dict[EndpointKey, int]:
        """Return the endpoints that have counters, and the places of theirs."""
        return self._slots.copy()

    def retain(self, here: Set[EndpointKey], now: float) -> None:
        """These are the endpoints of now. The others are told of for a while: see `fold`; their histograms are not."""
        self._here = here
        gone = {key: since for key, since in self._gone.items() if key not in here}
        gone.update((key, now) for key in self._slots if key not in here and key not in gone)
        self._gone = gone
        self._has_times = len(here) <= self._most_with_times
        for key, slot in self._slots.items():
            wants_times = self._has_times and key in here
            if wants_times is not (slot in self.endpoint_times):
                if wants_times:
                    self._add_times(slot)
                else:
                    self._remove_times(slot)
        self.fold(now)

    def fold(self, now: float) -> None:
        """Fold the counters of those together that left long ago, if no connection to them is open any more."""
        if not self._gone:
            return
        values = self.values
        excess = len(self._gone) - KEEP_COUNT
        for key, since in list(self._gone.items()):
            slot = self._slots[key]
            if now < since + (KEEP_LEAST_SECONDS if excess > 0 else KEEP_SECONDS):
                # The others left later.
                break
            if values[slot + OPEN]:
                # An exchange with it goes on, and knows its place.
                continue
            for at in range(_BLOCK):
                values[GONE_SLOT + at] += values[slot + at]
                values[slot + at] = 0
            self.has_folded = True
            self._remove_times(slot)
            del self._slots[key], self._gone[key]
            self._free.append(slot)
            excess -= 1


def exchange_block(values: Sequence[int], of_endpoints: Iterable[int]) -> list[int]:
    """Return the histogram of all exchanges: those of endpoints, at these places, and of all the others together."""
    blocks = [values[at : at + BLOCK] for at in (EXCHANGE_TIME, *of_endpoints)]
    return [sum(counts) for counts in zip(*blocks, strict=True)]
