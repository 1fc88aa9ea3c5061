"""List, watch, relist: what is asked for next."""

from __future__ import annotations

import pytest

from lb.discovery.watcher import Ask, Failure, Page, Pause, Phase, Trouble, Verdict, Watcher
from tests.discovery.watching import JUST, LIST, NOW, asked, event, list_complete, pauses, watching


class TestList:
    def test_the_first_list_asks_for_no_version(self) -> None:
        assert Watcher(lambda: 0.0).ask(NOW) == LIST

    def test_a_page_with_a_token_is_followed_by_the_next(self) -> None:
        watcher = Watcher(lambda: 0.0)
        assert not watcher.page_received(Page([], "100", "next"))
        assert watcher.ask(NOW) == Ask(Phase.LIST, token="next")
        assert not watcher.page_received(Page([], "100", "last"))
        assert watcher.ask(NOW) == Ask(Phase.LIST, token="last")

    def test_the_last_page_is_followed_by_a_watch_from_its_version(self) -> None:
        watcher = Watcher(lambda: 0.0)
        watcher.page_received(Page([], "100", "next"))
        assert watcher.page_received(Page([], "100", ""))
        assert asked(watcher) == (Phase.WATCH, "100")

    @pytest.mark.parametrize("trouble", Trouble)
    def test_any_failure_between_pages_begins_with_the_first_again(self, trouble: Trouble) -> None:
        watcher = Watcher(lambda: 0.0)
        watcher.page_received(Page([], "100", "next"))
        watcher.failed(Failure(trouble), NOW)
        assert watcher.ask(NOW) == LIST

    # (Only a watch has an END; what follows a 401 stands below.)
    @pytest.mark.parametrize("trouble", [t for t in Trouble if t not in (Trouble.UNAUTHORIZED, Trouble.END)])
    def test_any_failure_is_followed_by_a_pause(self, trouble: Trouble) -> None:
        watcher = Watcher(lambda: 0.0)
        assert pauses(watcher, Failure(trouble), 5) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])
        assert watcher.ask(NOW) == LIST

    def test_a_list_that_fails_forgets_no_version(self) -> None:
        watcher = watching("100")
        watcher.failed(Failure(Trouble.GONE), NOW)
        watcher.page_received(Page([], "200", "next"))
        watcher.failed(Failure(Trouble.CUT), NOW)
        assert watcher.version == "100"

    @pytest.mark.parametrize(
        ("known", "listed", "has_gone_back"),
        [
            ("100", "99", True),
            ("100", "100", False),
            ("100", "101", False),
            ("99", "100", False),
            # (As text the second would be lower.)
            ("9", "10", False),
            # Whoever follows the letter of the API compares no versions that are not numbers.
            ("b", "a", False),
            ("100", "", False),
            ("9" * 5000, "1", False),
        ],
    )
    def test_a_list_replaces_what_was_known_also_if_it_is_older(
        self, known: str, listed: str, has_gone_back: bool
    ) -> None:
        watcher = watching(known)
        assert not watcher.has_gone_back
        watcher.failed(Failure(Trouble.GONE), NOW)
        list_complete(watcher, listed)
        assert watcher.has_gone_back is has_gone_back
        assert asked(watcher) == (Phase.WATCH, listed)

    def test_going_back_is_said_of_one_list_only(self) -> None:
        watcher = watching("100")
        for version, has_gone_back in (("50", True), ("51", False), ("51", False)):
            watcher.failed(Failure(Trouble.GONE), NOW)
            list_complete(watcher, version)
            assert watcher.has_gone_back is has_gone_back


class TestWatch:
    @pytest.mark.parametrize(("random", "seconds"), [(0.0, 45), (0.5, 53), (1.0 - 2**-53, 60)])
    def test_the_server_is_to_end_it_after_some_time(self, random: float, seconds: int) -> None:
        assert watching("7", random=random).ask(NOW) == Ask(Phase.WATCH, "7", "", seconds)

    @pytest.mark.parametrize(
        ("kind", "verdict"),
        [
            ("ADDED", Verdict.APPLY),
            ("MODIFIED", Verdict.APPLY),
            ("DELETED", Verdict.DELETE),
            ("BOOKMARK", Verdict.IGNORE),
        ],
    )
    def test_an_event_moves_the_version(self, kind: str, verdict: Verdict) -> None:
        watcher = watching("100")
        assert watcher.event_received(event(kind, "150")) is verdict
        assert asked(watcher) == (Phase.WATCH, "150")

    def test_also_to_a_lower_one(self) -> None:
        # Versions are opaque: the last one seen is the one to go on from.
        watcher = watching("100")
        watcher.event_received(event(version="90"))
        assert asked(watcher) == (Phase.WATCH, "90")

    @pytest.mark.parametrize("kind", ["", "SYNCED", "added", "ERR"])
    def test_one_of_an_unknown_type_changes_nothing(self, kind: str) -> None:
        watcher = watching("100")
        assert watcher.event_received(event(kind, "150")) is Verdict.IGNORE
        assert asked(watcher) == (Phase.WATCH, "100")

    def test_one_without_a_version_moves_none(self) -> None:
        watcher = watching("100")
        assert watcher.event_received(event(version="")) is Verdict.APPLY
        assert asked(watcher) == (Phase.WATCH, "100")

    def test_a_clean_end_is_followed_by_a_watch_from_the_last_version_at_once(self) -> None:
        watcher = watching("100")
        watcher.event_received(event(version="123"))
        assert watcher.failed(Failure(Trouble.END), NOW + 50.0) == Pause(0.0)
        assert asked(watcher, NOW + 50.0) == (Phase.WATCH, "123")

    def test_a_clean_end_of_a_watch_that_did_not_live_long_is_followed_by_a_pause(self) -> None:
        watcher = watching("100")
        assert watcher.failed(Failure(Trouble.END), NOW + 1.0 - JUST) == Pause(0.1)
        watcher.watch_opened(NOW + 2.0)
        assert watcher.failed(Failure(Trouble.END), NOW + 2.5) == Pause(0.2)
        watcher.watch_opened(NOW + 3.0)
        assert watcher.failed(Failure(Trouble.END), NOW + 4.0) == Pause(0.0)
        watcher.watch_opened(NOW + 5.0)
        assert watcher.failed(Failure(Trouble.END), NOW + 5.0) == Pause(0.1), "a good one in between"
        assert asked(watcher) == (Phase.WATCH, "100")

    @pytest.mark.parametrize(
        "trouble", [Trouble.CUT, Trouble.TIMEOUT, Trouble.UNREACHABLE, Trouble.THROTTLED, Trouble.ERROR]
    )
    def test_a_failure_is_followed_by_a_watch_from_the_last_version_after_a_pause(self, trouble: Trouble) -> None:
        watcher = watching("100")
        watcher.event_received(event(version="123"))
        assert pauses(watcher, Failure(trouble), 6) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
        assert asked(watcher) == (Phase.WATCH, "123")

    @pytest.mark.parametrize(
        "failure",
        [
            Failure(Trouble.GONE),
            Failure(Trouble.GARBLED),
            Failure(Trouble.ERROR, is_too_new=True),
        ],
        ids=["gone", "garbled", "too new"],
    )
    def test_when_the_version_is_of_no_use_it_is_listed(self, failure: Failure) -> None:
        watcher = watching("100")
        assert watcher.failed(failure, NOW) == Pause(0.0)
        assert watcher.ask(NOW) == LIST
        list_complete(watcher, "200")
        assert asked(watcher) == (Phase.WATCH, "200")

    def test_after_an_outage_it_is_listed_at_once(self) -> None:
        watcher = watching("100")
        pauses(watcher, Failure(Trouble.UNREACHABLE), 9)
        assert watcher.failed(Failure(Trouble.GONE), NOW) == Pause(0.0)
        assert watcher.ask(NOW) == LIST

    def test_a_watch_that_went_well_makes_the_next_time_a_first_one(self) -> None:
        watcher = watching("100")
        watcher.failed(Failure(Trouble.GONE), NOW)
        list_complete(watcher, "200")
        assert watcher.failed(Failure(Trouble.GONE), NOW) == Pause(0.1)
        list_complete(watcher, "201")
        watcher.watch_opened(NOW)
        watcher.event_received(event("BOOKMARK", "202"))
        assert watcher.failed(Failure(Trouble.GONE), NOW + 1.0) == Pause(0.0)

    @pytest.mark.parametrize("trouble", [Trouble.GONE, Trouble.GARBLED, Trouble.CUT, Trouble.END])
    def test_a_server_that_says_something_before_it_fails_is_not_asked_in_a_hurry(self, trouble: Trouble) -> None:
        # A proxy in between that garbles the second line of whatever it passes on, say.
        watcher, now, questions = watching("100", opened=None), NOW, 0
        while now < NOW + 60.0:
            if watcher.ask(now).phase is Phase.LIST:
                list_complete(watcher)
            watcher.watch_opened(now)
            watcher.event_received(event())
            questions += 1
            now += 0.001 + watcher.failed(Failure(trouble), now).seconds
        assert questions < 70

    def test_a_watch_in_which_nothing_was_said_is_followed_by_a_list(self) -> None:
        # As after a restored etcd: our version is still to come, and the server says so to nobody.
        watcher = watching("100")
        assert watcher.failed(Failure(Trouble.END), NOW + 45.0) == Pause(0.0)
        assert watcher.ask(NOW + 45.0) == LIST

    @pytest.mark.parametrize("kind", ["ADDED", "BOOKMARK"])
    def test_one_in_which_something_was_said_is_not(self, kind: str) -> None:
        watcher = watching("100")
        watcher.event_received(event(kind, "101"))
        assert watcher.failed(Failure(Trouble.END), NOW + 45.0) == Pause(0.0)
        assert asked(watcher, NOW + 45.0) == (Phase.WATCH, "101")

    @pytest.mark.parametrize("trouble", [Trouble.CUT, Trouble.TIMEOUT, Trouble.END])
    def test_several_that_were_cut_short_count_together(self, trouble: Trouble) -> None:
        # Something in between that ends quiet connections after 15 s.
        watcher = watching("100")
        for turn in range(2):
            now = NOW + 15.0 * turn
            watcher.watch_opened(now)
            watcher.failed(Failure(trouble), now + 15.0)
            assert asked(watcher, now + 15.0) == (Phase.WATCH, "100")
        watcher.watch_opened(NOW + 30.0)
        watcher.failed(Failure(trouble), NOW + 45.0)
        assert watcher.ask(NOW + 45.0) == LIST
        list_complete(watcher, "100")
        watcher.watch_opened(NOW + 46.0)
        watcher.failed(Failure(trouble), NOW + 61.0)
        assert asked(watcher, NOW + 61.0) == (Phase.WATCH, "100"), "from the list on it counts anew"

    def test_not_the_time_in_which_none_was_open(self) -> None:
        watcher = watching("100")
        watcher.failed(Failure(Trouble.CUT), NOW + 30.0)
        for turn in range(100):
            watcher.failed(Failure(Trouble.UNREACHABLE), NOW + 30.0 + turn)
        assert asked(watcher, NOW + 130.0) == (Phase.WATCH, "100")

    def test_nor_one_that_was_ended_before_its_time(self) -> None:
        watcher = watching("100")
        assert watcher.failed(Failure(Trouble.END), NOW + 39.0) == Pause(0.0)
        assert asked(watcher, NOW + 39.0) == (Phase.WATCH, "100")

    def test_a_list_alone_makes_no_pause_short_again(self) -> None:
        # Or a server that answers every watch with 410 would be asked for list after list.
        watcher = watching("100", opened=None)
        found = []
        for _ in range(6):
            found += pauses(watcher, Failure(Trouble.GONE), 1)
            list_complete(watcher, "200")
        assert found == pytest.approx([0.0, 0.1, 0.2, 0.4, 0.8, 1.0])

    @pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED", "BOOKMARK"])
    def test_an_event_makes_the_pause_short_again(self, kind: str) -> None:
        watcher = watching()
        pauses(watcher, Failure(Trouble.CUT), 5)
        watcher.watch_opened(NOW)
        watcher.event_received(event(kind))
        assert watcher.failed(Failure(Trouble.CUT), NOW + 1.0) == Pause(0.1)
        assert watcher.failed(Failure(Trouble.CUT), NOW + 1.1) == Pause(0.2), "once"

    def test_so_does_a_watch_that_was_silent_for_long(self) -> None:
        watcher = watching()
        pauses(watcher, Failure(Trouble.CUT), 5)
        watcher.watch_opened(NOW)
        assert watcher.failed(Failure(Trouble.CUT), NOW + 20.0 - JUST) == Pause(1.0)
        watcher.watch_opened(NOW)
        assert watcher.failed(Failure(Trouble.CUT), NOW + 20.0) == Pause(0.1)
        assert watcher.failed(Failure(Trouble.CUT), NOW + 50.0) == Pause(0.2), "once: none was open"

    @pytest.mark.parametrize(("kind", "lived"), [("WHATEVER", 1.0), ("BOOKMARK", 1.0 - JUST)])
    def test_not_one_of_an_unknown_type_or_in_a_watch_that_did_not_live_long(self, kind: str, lived: float) -> None:
        watcher = watching()
        pauses(watcher, Failure(Trouble.CUT), 5)
        watcher.watch_opened(NOW)
        watcher.event_received(event(kind))
        assert watcher.failed(Failure(Trouble.CUT), NOW + lived) == Pause(1.0)
