"""Does a body that stands still make progress after all?"""

from __future__ import annotations

LOOKS = 4
"""How often in `bodyIdleTimeout` a body of which no new piece comes is looked at."""


class Progress:
    """Watches what the two sides of a body have not taken yet.

    A body that is held back because its reader is slow still flows, although no new piece of it comes. The first look
    behind a piece counts as progress, since nothing is known of what was taken before it: a body that stands still ends
    up to a quarter late, never early.
    """

    __slots__ = ("_since", "_unsent")

    def __init__(self) -> None:
        self._since = 0.0
        self._unsent = -1

    def piece_passed(self) -> None:
        """A piece was passed on."""
        self._unsent = -1

    def looked(self, unsent: int, now: float) -> float:
        """`unsent` bytes are not taken yet at `now`: return for how many seconds there has been no progress."""
        if self._unsent < 0 or unsent < self._unsent:
            self._since = now
        self._unsent = unsent
        return now - self._since
