"""Every ready endpoint in turn."""

from __future__ import annotations

from collections import Counter

import pytest

from lb.balancer.round_robin import RoundRobin
from lb.endpoint import Endpoint, EndpointKey, make_endpoint
from lb.errors import EndReason


def endpoints(names: str, *, not_ready: str = "") -> tuple[Endpoint, ...]:
    """Return one endpoint for each letter of `names`, in that order."""
    return tuple(
        make_endpoint(f"10.0.0.{ord(name)}", 80, name=name)._replace(ready=name not in not_ready) for name in names
    )


def keys(names: str) -> set[EndpointKey]:
    return {endpoint.key for endpoint in endpoints(names)}


def key(name: str) -> EndpointKey:
    return endpoints(name)[0].key


def pick(policy: RoundRobin, count: int = 1, *, excluding: str = "") -> str:
    """Return the names of the next `count` picks; "-" for none."""
    picked = [policy.pick(None, keys(excluding), 0.0) for _ in range(count)]
    return "".join("-" if endpoint is None else endpoint.name for endpoint in picked)


def pick_again(policy: RoundRobin, after: str, excluding: str = "") -> str:
    endpoint = policy.pick_again(key(after), keys(excluding))
    return "-" if endpoint is None else endpoint.name


def test_each_in_turn_in_the_order_of_the_snapshot() -> None:
    assert pick(RoundRobin(endpoints("cab")), 7) == "cabcabc"


def test_what_is_picked_is_the_endpoint_of_the_snapshot() -> None:
    snapshot = endpoints("ab")
    assert RoundRobin(snapshot).pick(None, (), 0.0) is snapshot[0]


@pytest.mark.parametrize("count", [1, 2, 3, 5, 7])
@pytest.mark.parametrize("offset", [0, 1, 4, 65535])
def test_the_spread_is_never_more_than_one(count: int, offset: int) -> None:
    policy = RoundRobin(endpoints("abcdefg"[:count]), offset=offset)
    picks: Counter[str] = Counter(dict.fromkeys("abcdefg"[:count], 0))
    for _ in range(5 * count + 3):
        picks[pick(policy)] += 1
        assert max(picks.values()) - min(picks.values()) <= 1


@pytest.mark.parametrize(("offset", "picks"), [(0, "abca"), (1, "bcab"), (2, "cabc"), (3, "abca"), (65536, "bcab")])
def test_it_starts_at_the_offset(offset: int, picks: str) -> None:
    assert pick(RoundRobin(endpoints("abc"), offset=offset), 4) == picks


def test_the_offset_waits_for_the_first_endpoints() -> None:
    policy = RoundRobin(offset=2)
    assert pick(policy) == "-"
    policy.replace(())
    policy.replace(endpoints("abc"))
    assert pick(policy, 4) == "cabc"


def test_without_endpoints_there_is_none() -> None:
    policy = RoundRobin()
    assert pick(policy) == "-"
    assert pick_again(policy, "a") == "-"


def test_endpoints_that_are_not_ready_get_nothing() -> None:
    policy = RoundRobin(endpoints("abcd", not_ready="bd"))
    assert pick(policy, 5) == "acaca"
    assert pick_again(policy, "a", "c") == "a"
    assert pick(RoundRobin(endpoints("ab", not_ready="ab"))) == "-"


class TestExcluding:
    def test_excluded_endpoints_are_skipped(self) -> None:
        assert pick(RoundRobin(endpoints("abcd")), 6, excluding="ac") == "bdbdbd"

    @pytest.mark.parametrize("excluding", ["a", "c", "ab", "bd", "abc"])
    def test_the_others_still_get_the_same_share(self, excluding: str) -> None:
        policy = RoundRobin(endpoints("abcd"))
        picks = Counter(pick(policy, 12, excluding=excluding))
        assert set(picks) == set("abcd") - set(excluding)
        assert max(picks.values()) == min(picks.values())

    def test_whose_turn_it_was_does_not_get_it_later(self) -> None:
        policy = RoundRobin(endpoints("abc"))
        assert pick(policy, 1, excluding="a") == "b"
        assert pick(policy, 3) == "cab"

    def test_if_all_are_excluded_the_turn_stays(self) -> None:
        policy = RoundRobin(endpoints("abc"))
        pick(policy)
        assert pick(policy, 2, excluding="abc") == "--"
        assert pick(policy, 3) == "bca"


class TestPickAgain:
    def test_the_next_behind_the_one_that_failed(self) -> None:
        policy = RoundRobin(endpoints("abc"))
        assert pick_again(policy, "a") == "b"
        assert pick_again(policy, "b") == "c"
        assert pick_again(policy, "c") == "a"

    def test_excluded_endpoints_are_skipped(self) -> None:
        policy = RoundRobin(endpoints("abcd"))
        assert pick_again(policy, "a", "b") == "c"
        assert pick_again(policy, "c", "da") == "b"
        assert pick_again(policy, "a", "bcd") == "a"
        assert pick_again(policy, "a", "abcd") == "-"

    def test_it_moves_nobodys_turn(self) -> None:
        policy = RoundRobin(endpoints("abc"))
        assert pick(policy) == "a"
        for _ in range(2):
            assert [pick_again(policy, after, "a") for after in "abc"] == ["b", "c", "b"]
        assert pick(policy, 3) == "bca"

    def test_behind_one_that_left_it_goes_on_with_whose_turn_it_is(self) -> None:
        policy = RoundRobin(endpoints("abc"))
        pick(policy, 2)
        assert pick_again(policy, "x") == "c"
        assert pick_again(policy, "x", "c") == "a"

    def test_every_endpoint_can_be_reached_by_going_on(self) -> None:
        policy = RoundRobin(endpoints("abcde"))
        tried = "c"
        while (found := pick_again(policy, tried[-1], tried)) != "-":
            tried += found
        assert tried == "cdeab"


class TestReplace:
    """The place in the rotation is kept."""

    def after(self, picks: int, names: str = "abcd") -> RoundRobin:
        policy = RoundRobin(endpoints(names))
        pick(policy, picks)
        return policy

    @pytest.mark.parametrize("picks", range(6))
    def test_the_same_snapshot_changes_nothing(self, picks: int) -> None:
        policy = self.after(picks)
        policy.replace(endpoints("abcd"))
        assert pick(policy, 4) == ("abcd" * 3)[picks : picks + 4]

    @pytest.mark.parametrize(
        ("new", "picks"),
        [
            ("acd", "cda"),  # one that had its turn left
            ("abd", "dab"),  # the one whose turn it was left: the first behind it
            ("abc", "cab"),  # one that waits for its turn left
            ("ab", "abab"),  # all those that were to come left: from the beginning
            ("b", "bb"),
            ("d", "dd"),
        ],
    )
    def test_endpoints_leave(self, new: str, picks: str) -> None:
        policy = self.after(2)
        policy.replace(endpoints(new))
        assert pick(policy, len(picks)) == picks

    @pytest.mark.parametrize(
        ("new", "picks"),
        [("abcde", "cdeab"), ("xabcd", "cdxab"), ("abxcd", "cdabx"), ("abcxd", "cxdab"), ("xaybzcd", "cdxaybz")],
    )
    def test_endpoints_come(self, new: str, picks: str) -> None:
        policy = self.after(2)
        policy.replace(endpoints(new))
        assert pick(policy, len(picks)) == picks

    @pytest.mark.parametrize(("new", "picks"), [("dcba", "cbad"), ("cdab", "cdab"), ("badc", "cbad")])
    def test_endpoints_change_places(self, new: str, picks: str) -> None:
        policy = self.after(2)
        policy.replace(endpoints(new))
        assert pick(policy, 4) == picks

    def test_one_that_is_no_longer_ready_is_like_one_that_left(self) -> None:
        policy = self.after(2)
        policy.replace(endpoints("abcd", not_ready="c"))
        assert pick(policy, 3) == "dab"

    def test_a_new_value_of_the_same_endpoint_is_picked(self) -> None:
        policy = self.after(0, "a")
        renamed = endpoints("a")[0]._replace(name="new")
        policy.replace((renamed,))
        assert policy.pick(None, (), 0.0) is renamed

    def test_wholly_new_endpoints_go_on_at_the_same_place(self) -> None:
        policy = self.after(2)
        policy.replace(endpoints("wxyz"))
        assert pick(policy, 4) == "yzwx"
        policy.replace(endpoints("b"))
        assert pick(policy, 2) == "bb"

    def test_a_set_that_was_empty_for_a_moment_goes_on_where_it_was(self) -> None:
        policy = self.after(2)
        for _ in range(2):
            policy.replace(())
            assert pick(policy) == "-"
            policy.replace(endpoints("abcd"))
        assert pick(policy, 4) == "cdab"

    def test_so_does_one_that_was_not_ready_for_a_moment(self) -> None:
        policy = self.after(3)
        policy.replace(endpoints("abcd", not_ready="abcd"))
        policy.replace(endpoints("abcd", not_ready="abcd"))
        policy.replace(endpoints("abcd"))
        assert pick(policy, 4) == "dabc"

    def test_the_offset_counts_once(self) -> None:
        policy = RoundRobin(endpoints("abc"), offset=2)
        assert pick(policy, 2) == "ca"
        policy.replace(())
        policy.replace(endpoints("abc"))
        assert pick(policy, 3) == "bca"

    def test_snapshots_without_changes_keep_the_spread(self) -> None:
        policy = RoundRobin(endpoints("abc"))
        picks: Counter[str] = Counter()
        for _ in range(100):
            picks[pick(policy)] += 1
            policy.replace(endpoints("abc"))
        assert sorted(picks.values()) == [33, 33, 34]


def test_round_robin_learns_nothing() -> None:
    policy = RoundRobin(endpoints("abc"))
    for reason in EndReason:
        policy.record(endpoints("a")[0], reason, 5.0)
    assert pick(policy, 3) == "abc"
