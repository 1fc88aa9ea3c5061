"""Whatever the API server does, in whatever order: what always holds of list, watch, relist."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from lb.discovery.watcher import (
    FORBIDDEN_LIST_SECONDS,
    TRANSIENT_SECONDS,
    Failure,
    Page,
    Phase,
    Trouble,
    Watcher,
    read_event,
)

_LONGEST_BACKOFF = 1.0
_LONGEST_PAUSE = 60.0
_FAILURES = [trouble for trouble in Trouble if trouble is not Trouble.END]
_VERSIONS = st.integers(min_value=1, max_value=2000).map(str)
_KINDS = st.sampled_from(["ADDED", "MODIFIED", "DELETED", "BOOKMARK", "NEW"])


class Following(RuleBasedStateMachine):
    """A watcher, and a server that may say anything. Time passes only by what the watcher waits for, and in watches."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.chance = 0.0
        self.watcher = Watcher(lambda: self.chance)
        self.version = ""
        """The version that must be the next to be watched from."""
        self.is_open = False
        self.failed_since_success = 0
        self.last_list = self.now
        self.forbidden_since: float | None = None
        self.was_useless = False
        """Was the version of no use, and has no watch been well since?"""
        self.opened_at = self.now
        self.has_spoken = False

    @initialize(chance=st.floats(min_value=0, max_value=1, exclude_max=True))
    def choose_chance(self, chance: float) -> None:
        self.chance = chance

    @property
    def phase(self) -> Phase:
        return self.watcher.ask(self.now).phase

    @invariant()
    def the_next_question_can_be_asked(self) -> None:
        if self.is_open:
            return
        ask = self.watcher.ask(self.now)
        if ask.phase is Phase.WATCH:
            assert ask.version == self.version != ""
            assert ask.token == ""
            assert 45 <= ask.timeout_seconds <= 60
        else:
            assert ask.version == ""
        assert self.watcher.version == self.version

    @precondition(lambda self: not self.is_open and self.phase is Phase.LIST)
    @rule(version=_VERSIONS, token=st.sampled_from(["", "", "more"]))
    def page(self, version: str, token: str) -> None:
        older = self.version != "" and int(version) < int(self.version)
        assert self.watcher.page_received(Page([], version, token)) is (token == "")
        if token:
            assert self.watcher.ask(self.now).token == token
        else:
            self.version = version
            self.last_list = self.now
            assert self.watcher.has_gone_back is older
            assert self.watcher.ask(self.now).phase is Phase.WATCH

    @precondition(lambda self: not self.is_open and self.phase is Phase.WATCH)
    @rule()
    def watch_opens(self) -> None:
        self.watcher.watch_opened(self.now)
        self.is_open = True
        self.opened_at = self.now
        self.forbidden_since = None
        assert not self.watcher.is_watch_forbidden

    @precondition(lambda self: self.is_open)
    @rule(kind=_KINDS, version=_VERSIONS | st.just(""))
    def event(self, kind: str, version: str) -> None:
        line = b'{"type":"%b","object":{"metadata":{"resourceVersion":"%b"}}}' % (kind.encode(), version.encode())
        self.watcher.event_received(read_event(line))
        if kind != "NEW":
            self.version = version or self.version
            self.has_spoken = True

    @precondition(lambda self: self.is_open)
    @rule(seconds=st.sampled_from([0.1, 0.9, 1.0, 50.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    def close(self) -> None:
        """The watch, if there is one, is over: was it well?"""
        if self.has_spoken and self.now - self.opened_at >= 1.0:
            self.failed_since_success = 0
            self.was_useless = False
        elif self.is_open and self.now - self.opened_at >= 20.0:
            self.failed_since_success = 0
        self.is_open = self.has_spoken = False

    @precondition(lambda self: self.is_open)
    @rule()
    def watch_ends(self) -> None:
        self.close()
        pause = self.watcher.failed(Failure(Trouble.END), self.now)
        if pause.seconds == 0:
            self.failed_since_success = 0
        else:
            self.failed_since_success += 1
        assert 0 <= pause.seconds <= _LONGEST_BACKOFF
        assert not pause.reload
        assert not pause.is_denied
        self.now += pause.seconds

    @rule(
        trouble=st.sampled_from(_FAILURES),
        retry_after=st.none() | st.floats(min_value=0, max_value=1e9),
        is_too_new=st.booleans(),
        is_untrusted=st.booleans(),
        times=st.integers(min_value=1, max_value=8),
    )
    def failure(
        self, trouble: Trouble, retry_after: float | None, is_too_new: bool, is_untrusted: bool, times: int
    ) -> None:
        failure = Failure(trouble, "", retry_after, is_too_new, is_untrusted)
        for _ in range(times):
            phase = self.watcher.ask(self.now).phase if not self.is_open else Phase.WATCH
            self.close()
            pause = self.watcher.failed(failure, self.now)
            self.failed_since_success += 1
            longest = _LONGEST_BACKOFF if retry_after is None else _LONGEST_PAUSE
            assert 0 <= pause.seconds <= longest
            # A try at once is allowed, after a 401 and when a version has become useless; a row of failures is slow.
            if self._is_at_once(failure, phase):
                assert pause.seconds == 0
            elif trouble is not Trouble.UNAUTHORIZED:
                assert pause.seconds >= 0.05 or self.failed_since_success <= 2
                assert pause.seconds >= 0.4 or self.failed_since_success <= 8
            assert pause.reload is (trouble is Trouble.UNAUTHORIZED or (is_untrusted and trouble not in _LET_IN))
            self._check_denied(trouble, phase, pause.is_denied)
            self.now += pause.seconds

    def _is_at_once(self, failure: Failure, phase: Phase) -> bool:
        trouble = failure.trouble
        if not (trouble in (Trouble.GONE, Trouble.GARBLED) or (failure.is_too_new and trouble not in _LET_IN)):
            return False
        is_first, self.was_useless = not self.was_useless, True
        return is_first and phase is Phase.WATCH and failure.retry_after is None

    def _check_denied(self, trouble: Trouble, phase: Phase, is_denied: bool) -> None:
        if trouble is not Trouble.FORBIDDEN:
            self.forbidden_since = None
        elif self.forbidden_since is None:
            self.forbidden_since = self.now
        if trouble is Trouble.FORBIDDEN and is_denied:
            assert self.forbidden_since is not None
            assert self.now - self.forbidden_since >= TRANSIENT_SECONDS
            if phase is Phase.WATCH:
                assert self.watcher.is_watch_forbidden

    @invariant()
    def a_forbidden_watch_does_not_leave_the_list_to_age(self) -> None:
        if self.watcher.is_watch_forbidden and not self.is_open:
            is_due = self.now - self.last_list >= FORBIDDEN_LIST_SECONDS + _LONGEST_PAUSE
            assert not is_due or self.watcher.ask(self.now).phase is Phase.LIST


_LET_IN = (Trouble.FORBIDDEN, Trouble.UNAUTHORIZED, Trouble.END)

TestFollowing = Following.TestCase
TestFollowing.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
