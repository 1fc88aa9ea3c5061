"""What follows when the API server wants us to wait, or does not let us in."""

from __future__ import annotations

import pytest

from lb.discovery.watcher import Failure, Pause, Phase, Trouble, Watcher
from tests.discovery.watching import JUST, LIST, NOW, asked, list_complete, pauses, watching


class TestRetryAfter:
    @pytest.mark.parametrize("trouble", [Trouble.THROTTLED, Trouble.ERROR])
    @pytest.mark.parametrize(("asked_for", "seconds"), [(5.0, 5.0), (60.0, 60.0), (61.0, 60.0), (1e300, 60.0)])
    def test_it_is_honoured_within_reason(self, trouble: Trouble, asked_for: float, seconds: float) -> None:
        assert watching().failed(Failure(trouble, "", asked_for), NOW) == Pause(seconds)

    def test_it_makes_no_pause_shorter(self) -> None:
        watcher = watching()
        assert pauses(watcher, Failure(Trouble.THROTTLED, "", 0.0), 5) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])

    def test_it_holds_for_lists_as_well(self) -> None:
        assert Watcher(lambda: 0.0).failed(Failure(Trouble.THROTTLED, "", 7.0), NOW) == Pause(7.0)

    def test_it_holds_for_a_version_that_is_too_new(self) -> None:
        watcher = watching()
        assert watcher.failed(Failure(Trouble.ERROR, "", 1.0, is_too_new=True), NOW) == Pause(1.0)
        assert watcher.ask(NOW) == LIST


@pytest.mark.parametrize("phase", Phase)
class TestUnauthorized:
    def watcher(self, phase: Phase) -> Watcher:
        return watching("100", opened=None) if phase is Phase.WATCH else Watcher(lambda: 0.0)

    def test_the_credentials_are_read_again_and_used_at_once(self, phase: Phase) -> None:
        watcher = self.watcher(phase)
        assert watcher.failed(Failure(Trouble.UNAUTHORIZED), NOW) == Pause(0.0, reload=True)
        assert watcher.ask(NOW).phase is phase

    def test_once_then_after_pauses(self, phase: Phase) -> None:
        watcher = self.watcher(phase)
        found = [watcher.failed(Failure(Trouble.UNAUTHORIZED), NOW) for _ in range(6)]
        assert [pause.seconds for pause in found] == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.0])
        assert all(pause.reload for pause in found)

    def test_another_failure_in_between_is_no_success(self, phase: Phase) -> None:
        watcher = self.watcher(phase)
        watcher.failed(Failure(Trouble.UNAUTHORIZED), NOW)
        watcher.failed(Failure(Trouble.CUT), NOW)
        assert watcher.failed(Failure(Trouble.UNAUTHORIZED), NOW).seconds > 0

    def test_after_a_success_it_is_once_again(self, phase: Phase) -> None:
        watcher = self.watcher(phase)
        watcher.failed(Failure(Trouble.UNAUTHORIZED), NOW)
        if phase is Phase.LIST:
            list_complete(watcher)
        else:
            watcher.watch_opened(NOW)
        assert watcher.failed(Failure(Trouble.UNAUTHORIZED), NOW) == Pause(0.0, reload=True)

    def test_it_is_said_as_for_a_missing_permission(self, phase: Phase) -> None:
        watcher = self.watcher(phase)
        times = [0.0, 1.0, 3.0 - JUST, 3.0, 4.0, 63.0 - JUST, 63.0, 64.0, 123.0]
        said = [watcher.failed(Failure(Trouble.UNAUTHORIZED), NOW + time).is_denied for time in times]
        assert said == [False, False, False, True, False, False, True, False, True]
        assert not watcher.is_watch_forbidden


def test_a_certificate_that_is_not_trusted_makes_the_credentials_be_read_again() -> None:
    failure = Failure(Trouble.UNREACHABLE, is_untrusted=True)
    assert watching().failed(failure, NOW) == Pause(0.1, reload=True)
    assert Watcher(lambda: 0.0).failed(failure, NOW) == Pause(0.1, reload=True)


FORBIDDEN = Failure(Trouble.FORBIDDEN)


class TestForbidden:
    @pytest.mark.parametrize("phase", Phase)
    def test_at_first_it_may_pass(self, phase: Phase) -> None:
        watcher = watching(opened=None) if phase is Phase.WATCH else Watcher(lambda: 0.0)
        found = [watcher.failed(FORBIDDEN, NOW + at) for at in (0.0, 0.1, 0.3, 0.7, 1.5, 3.0 - JUST)]
        assert [pause.seconds for pause in found] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
        assert not any(pause.is_denied for pause in found)
        assert not watcher.is_watch_forbidden
        assert watcher.ask(NOW + 3.0).phase is phase

    def test_a_list_is_said_to_be_denied_after_three_seconds_and_then_once_a_minute(self) -> None:
        watcher = Watcher(lambda: 0.0)
        times = [0.0, 3.0, 4.0, 63.0 - JUST, 63.0, 122.0, 123.0]
        assert [watcher.failed(FORBIDDEN, NOW + time).is_denied for time in times] == [
            False,
            True,
            False,
            False,
            True,
            False,
            True,
        ]
        assert watcher.ask(NOW + 200.0) == LIST
        assert not watcher.is_watch_forbidden

    def forbidden(self) -> Watcher:
        """Return a watcher whose watch is known to be forbidden at NOW + 3."""
        watcher = watching("100", opened=None)
        assert not watcher.failed(FORBIDDEN, NOW).is_denied
        assert watcher.failed(FORBIDDEN, NOW + 3.0) == Pause(0.2, is_denied=True)
        return watcher

    def test_without_watching_it_is_listed_every_thirty_seconds_and_the_watch_tried_in_between(self) -> None:
        watcher = self.forbidden()
        assert watcher.is_watch_forbidden
        lists, said = [], []
        now = NOW + 3.0
        while now < NOW + 130.0:
            if watcher.ask(now).phase is Phase.LIST:
                lists.append(now - NOW)
                list_complete(watcher, str(int(now)))
                assert watcher.ask(now).phase is Phase.WATCH
            pause = watcher.failed(FORBIDDEN, now)
            if pause.is_denied:
                said.append(now - NOW)
            now += 0.5
        assert lists == [3.0, 33.0, 63.0, 93.0, 123.0]
        assert said == [63.0, 123.0]
        assert watcher.is_watch_forbidden

    def test_the_version_is_that_of_the_last_list(self) -> None:
        watcher = self.forbidden()
        assert watcher.ask(NOW + 3.0) == LIST
        list_complete(watcher, "555")
        assert asked(watcher, NOW + 3.5) == (Phase.WATCH, "555")

    def test_a_list_that_fails_then_is_tried_again_before_the_watch_is(self) -> None:
        watcher = self.forbidden()
        assert watcher.ask(NOW + 3.0) == LIST
        watcher.failed(Failure(Trouble.CUT), NOW + 3.0)
        assert watcher.ask(NOW + 4.0) == LIST
        list_complete(watcher)
        assert watcher.ask(NOW + 4.5).phase is Phase.WATCH

    def test_one_that_took_long_to_succeed_is_not_followed_by_another(self) -> None:
        watcher = self.forbidden()
        for seconds in range(3, 60):
            assert watcher.ask(NOW + seconds) == LIST
            watcher.failed(Failure(Trouble.CUT), NOW + seconds)
        assert watcher.ask(NOW + 60.0) == LIST
        list_complete(watcher)
        assert watcher.ask(NOW + 60.1).phase is Phase.WATCH
        assert watcher.ask(NOW + 90.0 - JUST).phase is Phase.WATCH
        assert watcher.ask(NOW + 90.0) == LIST

    def test_as_soon_as_the_watch_is_allowed_all_is_as_usual(self) -> None:
        watcher = self.forbidden()
        assert watcher.ask(NOW + 3.0) == LIST
        list_complete(watcher, "200")
        watcher.watch_opened(NOW + 4.0)
        assert not watcher.is_watch_forbidden
        watcher.failed(Failure(Trouble.END), NOW + 40.0)
        assert asked(watcher, NOW + 40.0) == (Phase.WATCH, "200"), "no more lists"
        # And a permission that is taken away again is said anew.
        assert not watcher.failed(FORBIDDEN, NOW + 61.0).is_denied
        assert watcher.failed(FORBIDDEN, NOW + 64.0).is_denied

    def test_another_failure_in_between_makes_it_a_new_one(self) -> None:
        watcher = watching(opened=None)
        watcher.failed(FORBIDDEN, NOW)
        watcher.failed(Failure(Trouble.UNREACHABLE), NOW + 2.0)
        assert not watcher.failed(FORBIDDEN, NOW + 4.0).is_denied
        assert not watcher.failed(FORBIDDEN, NOW + 6.9).is_denied
        assert watcher.failed(FORBIDDEN, NOW + 7.0).is_denied

    def test_a_success_in_between_too(self) -> None:
        watcher = Watcher(lambda: 0.0)
        watcher.failed(FORBIDDEN, NOW)
        list_complete(watcher)
        assert not watcher.failed(FORBIDDEN, NOW + 3.0).is_denied
        assert watcher.failed(FORBIDDEN, NOW + 6.0).is_denied
