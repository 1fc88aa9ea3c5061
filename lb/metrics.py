"""Counters over one flat array of unsigned 64-bit integers.

A flat array grows once per endpoint, never per request, holds nothing that the garbage collector tracks, and can later
be a mapped file that several processes share. `slot` gives the place of an endpoint's block; the constants are offsets.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Set

from lb.endpoint import Endpoint, EndpointKey
from lb.errors import END_WORDS, EndReason, end_word
from lb.histogram import BLOCK, Times

# Offsets in the block of the process.
(
    CONNECTIONS,
    CONNECTIONS_OPEN,
    EXCHANGES,
    OWN_REPLIES_4XX,
    OWN_REPLIES_5XX,
    ACCEPT_PAUSES,
    EVICTIONS,
) = range(7)

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
) = range(12)

_BLOCK = 16
_END_INDEX = {word: _BLOCK + at for at, word in enumerate(END_WORDS)}
ENDED_OK = _END_INDEX["ok"]
"""The place of the counter of exchanges that ended well."""
EXCHANGE_TIME, FIRST_BYTE_TIME, CONNECT_TIME = (_BLOCK + len(END_WORDS) + at * BLOCK for at in range(3))
"""The places of the histograms of all endpoints together."""
_FIRST_SLOT = CONNECT_TIME + BLOCK


class Metrics:
    """All counters of a process. `values[PROCESS_COUNTER]` or `values[slot + ENDPOINT_COUNTER]` += n."""

    def __init__(self) -> None:
        self.values = array("Q", bytes(8 * _FIRST_SLOT))
        self.exchange_times = Times(self.values, EXCHANGE_TIME)
        self.first_byte_times = Times(self.values, FIRST_BYTE_TIME)
        self.connect_times = Times(self.values, CONNECT_TIME)
        self._slots: dict[EndpointKey, int] = {}
        self._free: list[int] = []
        self._gone: list[EndpointKey] = []

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
        return slot

    def ended(self, reason: EndReason, what: str = "") -> None:
        """Count the end of an exchange; `what` is what was bad about a bad message."""
        self.values[_END_INDEX[end_word(reason, what)]] += 1

    @property
    def exchanges_open(self) -> int:
        """How many exchanges have begun and not ended."""
        return self.values[EXCHANGES] - sum(self.values[_BLOCK : _BLOCK + len(END_WORDS)])

    def endings(self) -> Iterator[tuple[str, int]]:
        """Yield how many exchanges ended for each reason of `END_WORDS`."""
        for word, at in _END_INDEX.items():
            yield word, self.values[at]

    def settle(self) -> None:
        """Count the times that wait to be counted: before anybody reads."""
        for times in (self.exchange_times, self.first_byte_times, self.connect_times):
            times.settle()

    def endpoint(self, endpoint: Endpoint, counter: int) -> int:
        """Return one counter of an endpoint."""
        slot = self._slots.get(endpoint.key)
        return 0 if slot is None else self.values[slot + counter]

    def known(self) -> list[EndpointKey]:
        """Return the endpoints that have counters, those that left included."""
        return list(self._slots)

    def retain(self, here: Set[EndpointKey], *, gone_limit: int = 256) -> None:
        """Keep the counters of endpoints that are not `here` any more for a while: of the last `gone_limit` of them."""
        self._gone = [key for key in self._gone if key not in here]
        known_gone = set(self._gone)
        self._gone += [key for key in self._slots if key not in here and key not in known_gone]
        while len(self._gone) > gone_limit:
            slot = self._slots.pop(self._gone.pop(0))
            self.values[slot : slot + _BLOCK] = array("Q", bytes(8 * _BLOCK))
            self._free.append(slot)
