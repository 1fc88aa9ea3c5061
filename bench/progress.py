"""How far a run is: lines on stderr, and on a terminal a bar below them.

The bar is drawn between two measurements and never during one: it would take its time from the core of the balancer.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

Clock = Callable[[], float]
Began = Callable[[str, str, float], None]
"""What `Progress.began` is."""


def unseen(what: str, peer: str, seconds: float) -> None:
    """Show nothing of it."""


class Progress(Protocol):
    """What those who measure tell."""

    def line(self, text: str) -> None:
        """Something was measured: a line that stays."""

    def began(self, what: str, peer: str, seconds: float) -> None:
        """From now on `peer` is under the load that `what` names, for about so many seconds."""


class Lines:
    """Lines alone, for a file or a pipe."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def line(self, text: str) -> None:
        print(text, file=self._file, flush=True)

    def began(self, what: str, peer: str, seconds: float) -> None:
        """The line will come when it is over."""


class Pace:
    """How long it has taken, and how long it will: what is planned takes longer, as programs start and end as well."""

    def __init__(self, planned: float, clock: Clock) -> None:
        self.planned = planned
        self.done = 0.0
        """Seconds of the plan that are over."""
        self._clock = clock
        self._start = clock()
        self._measuring: float | None = None
        self._under_way = 0.0

    def began(self, seconds: float) -> None:
        """What was under way is done; the next takes so many seconds of the plan."""
        if self._measuring is None:
            self._measuring = self._clock()
        self.done = min(self.done + self._under_way, self.planned)
        self._under_way = seconds

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left, reckoned from those that what is done took."""
        pace = 1.0
        if self._measuring is not None and self.done:
            pace = (self._clock() - self._measuring) / self.done
        return (self.planned - self.done) * pace


class _RoomForInterrupt:
    """A line with two free columns behind it: where `^C` breaks the line, what stood there can't be erased any more."""

    def __init__(self, line: RenderableType) -> None:
        self._line = line

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from console.render(self._line, options.update(width=max(1, options.max_width - 2)))


class Bar:
    """The lines, and below them scenario, round, contender, a bar, and the times."""

    def __init__(self, console: Console, pace: Pace) -> None:
        from rich import progress
        from rich.live import Live

        self._console = console
        self._pace = pace
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False),
            progress.BarColumn(bar_width=24),
            progress.TextColumn("{task.fields[times]}", markup=False),
            console=console,
        )
        self._task = self._bar.add_task("starting", total=pace.planned, times="")
        self._live = Live(
            _RoomForInterrupt(self._bar),
            console=console,
            auto_refresh=False,
            transient=True,
            # The tables go to stdout, wherever that is.
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def __enter__(self) -> Bar:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def line(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def began(self, what: str, peer: str, seconds: float) -> None:
        self._pace.began(seconds)
        times = f"{clock_time(self._pace.elapsed)}, {clock_time(self._pace.left)} left"
        self._bar.update(self._task, description=f"{what}: {peer}", completed=self._pace.done, times=times)
        self._live.refresh()


def clock_time(seconds: float) -> str:
    """Write seconds as people read them: 0:07, 1:02:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _terminal() -> Console | None:
    """The terminal that stderr is; None if it is none, if nothing can be drawn on it, or if rich is missing."""
    if not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(stderr=True)
    return None if console.is_dumb_terminal else console


@contextlib.contextmanager
def shown(planned: float, clock: Clock = time.monotonic) -> Iterator[Progress]:
    """Show how far a run is that takes about so many seconds. The bar is gone after the block, however it ends."""
    console = _terminal()
    if console is None:
        yield Lines(sys.stderr)
        return
    with Bar(console, Pace(planned, clock)) as bar:
        yield bar
