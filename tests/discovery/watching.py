"""What the tests of the watcher share: one that watches, and short ways to ask it."""

from __future__ import annotations

from lb.discovery.watcher import Ask, Event, Failure, Page, Phase, Watcher, read_event

NOW = 1000.0
JUST = 0.001
LIST = Ask(Phase.LIST)


def list_complete(watcher: Watcher, version: str = "100") -> None:
    assert watcher.page_received(Page([], version, ""))


def watching(version: str = "100", *, random: float = 0.0, opened: float | None = NOW) -> Watcher:
    """Return a watcher that has listed, and watches since `opened`."""
    watcher = Watcher(lambda: random)
    list_complete(watcher, version)
    if opened is not None:
        watcher.watch_opened(opened)
    return watcher


def event(kind: str = "MODIFIED", version: str = "101") -> Event:
    return read_event(
        b'{"type":"%b","object":{"metadata":{"resourceVersion":"%b"}}}' % (kind.encode(), version.encode())
    )


def asked(watcher: Watcher, now: float = NOW) -> tuple[Phase, str]:
    ask = watcher.ask(now)
    return ask.phase, ask.version


def pauses(watcher: Watcher, failure: Failure, count: int, now: float = NOW) -> list[float]:
    return [watcher.failed(failure, now).seconds for _ in range(count)]
