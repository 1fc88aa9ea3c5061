"""All slices of a Service, and the endpoints that they come to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw

from lb.discovery.endpointslice import (
    NOT_READY,
    READY,
    SERVING,
    TERMINATING,
    UnreadableError,
)
from lb.discovery.service_endpoints import ServiceEndpoints, describe_changes
from tests.discovery.slices import HTTP, endpoint, endpoint_slice

CONDITIONS: dict[str, dict[str, bool]] = {
    READY: {"ready": True},
    SERVING: {"ready": False, "serving": True, "terminating": True},
    TERMINATING: {"ready": False, "serving": False, "terminating": True},
    NOT_READY: {"ready": False},
}


def pod(uid: str, state: str = READY, *, address: str | None = None) -> dict[str, Any]:
    """Return the endpoint of a pod; `uid` is a letter, from which comes its address."""
    return endpoint(address or f"10.0.0.{ord(uid)}", uid, **CONDITIONS[state])


def listed(*slices: Raw, port: int | str = 8080) -> ServiceEndpoints:
    service = ServiceEndpoints(port)
    relist(service, *slices)
    return service


def relist(service: ServiceEndpoints, *slices: Raw) -> None:
    service.begin_list()
    assert service.page_received(slices) == []
    service.list_complete()
    service.merge()


def change(service: ServiceEndpoints, item: Raw, *, is_deleted: bool = False) -> list[str]:
    """Apply an event; return what is said of the change."""
    assert service.changed(item, is_deleted=is_deleted) == ()
    return sorted(describe_changes(*service.merge()))


def states(service: ServiceEndpoints) -> str:
    """Return each member's uid and address's last number, and its state."""
    return " ".join(f"{key[0]}@{key[1].rpartition('.')[2]}:{m.state}" for key, m in service.members.items())


def used(service: ServiceEndpoints) -> str:
    """Return the uids of the endpoints in use; in capitals those that are not ready but were."""
    snapshot = service.snapshot()
    return "".join(e.uid if e.ready else e.uid.upper() if e.was_ready else "" for e in snapshot)


class TestMerge:
    def test_nothing_was_listed(self) -> None:
        service = ServiceEndpoints(8080)
        assert service.is_empty
        assert service.merge() == ({}, {})
        assert service.snapshot() == ()

    def test_several_slices_in_their_order(self) -> None:
        service = listed(
            endpoint_slice(pod("a"), pod("b"), name="s-1"),
            endpoint_slice(name="s-2"),
            endpoint_slice(pod("c"), name="s-3"),
        )
        assert not service.is_empty
        assert used(service) == "abc"

    def test_an_empty_slice_says_nothing_of_the_port(self) -> None:
        """Such as the one that a dual-stack Service has for the family of which it has no pods."""
        empty = endpoint_slice(name="s-2", kind="IPv6", ports=None)
        assert listed(endpoint_slice(pod("a")), empty, port="web").missing_port() == ("8080 (http)",)
        assert listed(endpoint_slice(pod("a")), empty, port="http").missing_port() is None
        assert listed(empty, port="web").missing_port() is None

    def test_two_ports_of_an_address_that_is_no_pod_are_two(self) -> None:
        service = listed(
            endpoint_slice(endpoint("10.0.0.9", None), name="s-1", ports=[HTTP]),
            endpoint_slice(endpoint("10.0.0.9", None), name="s-2", ports=[HTTP | {"port": 9000}]),
            endpoint_slice(endpoint("10.0.0.9", None, ready=False), name="s-3", version="2", ports=[HTTP]),
            port="http",
        )
        assert {(key[2], member.state) for key, member in service.members.items()} == {(8080, NOT_READY), (9000, READY)}

    def test_a_change_of_one_slice_moves_no_other(self) -> None:
        service = listed(endpoint_slice(pod("a"), name="s-1"), endpoint_slice(pod("b"), name="s-2"))
        change(service, endpoint_slice(pod("a"), pod("c"), name="s-1", version="2"))
        assert used(service) == "acb"

    def test_each_slice_has_its_own_ports(self) -> None:
        service = listed(
            endpoint_slice(pod("a"), name="s-1", ports=[HTTP]),
            endpoint_slice(pod("b"), name="s-2", ports=[HTTP | {"port": 9000}]),
            endpoint_slice(pod("c"), name="s-3", ports=[HTTP | {"name": "other"}]),
            port="http",
        )
        assert [(e.uid, e.port) for e in service.snapshot()] == [("a", 8080), ("b", 9000)]

    @pytest.mark.parametrize("newer_first", [True, False])
    def test_of_one_pod_in_two_slices_the_newer_knows_more(self, newer_first: bool) -> None:
        # As numbers: as text "9" would be the newer.
        older = endpoint_slice(pod("a", READY), name="s-1", version="9")
        newer = endpoint_slice(pod("a", NOT_READY), name="s-2", version="10")
        service = listed(*((newer, older) if newer_first else (older, newer)))
        assert states(service) == "a@97:not_ready"

    @pytest.mark.parametrize("newer_first", [True, False])
    def test_also_if_its_address_or_port_changed(self, newer_first: bool) -> None:
        older = endpoint_slice(pod("a"), name="s-1", version="9")
        newer = endpoint_slice(pod("a", address="10.0.1.1"), name="s-2", version="10", ports=[HTTP | {"port": 81}])
        service = listed(*((newer, older) if newer_first else (older, newer)), port="http")
        assert [e.key for e in service.snapshot()] == [("a", "10.0.1.1", 81)]

    @pytest.mark.parametrize("newer_first", [True, False])
    def test_without_a_uid_it_is_known_by_its_address(self, newer_first: bool) -> None:
        older = endpoint_slice(endpoint("10.0.0.1", None, ready=True), name="s-1", version="9")
        newer = endpoint_slice(endpoint("10.0.0.1", None, ready=False), name="s-2", version="10")
        service = listed(*((newer, older) if newer_first else (older, newer)))
        assert states(service) == "@1:not_ready"

    def test_others_without_a_uid_are_others(self) -> None:
        slices = endpoint_slice(endpoint("10.0.0.1", None), endpoint("10.0.0.2", None))
        assert [e.address for e in listed(slices).snapshot()] == ["10.0.0.1", "10.0.0.2"]

    @pytest.mark.parametrize("state", [SERVING, TERMINATING, NOT_READY])
    @pytest.mark.parametrize("ready_first", [True, False])
    def test_of_two_pods_at_one_address_the_ready_one_is_there(self, ready_first: bool, state: str) -> None:
        # The address of a pod that is gone was given to the next one.
        gone, there = pod("a", state, address="10.0.0.1"), pod("b", READY, address="10.0.0.1")
        both = [there, gone] if ready_first else [gone, there]
        assert states(listed(endpoint_slice(*both))) == "b@1:ready"
        # In two slices as well, and however old they are.
        for versions in (("1", "2"), ("2", "1")):
            slices = [endpoint_slice(e, name=f"s-{v}", version=v) for e, v in zip(both, versions, strict=True)]
            assert states(listed(*slices)) == "b@1:ready"

    def test_two_pods_of_a_node_s_network_are_two(self) -> None:
        service = listed(
            endpoint_slice(pod("a", address="10.0.0.1"), name="s-1", ports=[HTTP]),
            endpoint_slice(pod("b", address="10.0.0.1"), name="s-2", ports=[HTTP | {"port": 8081}]),
            port="http",
        )
        assert [e.key for e in service.snapshot()] == [("a", "10.0.0.1", 8080), ("b", "10.0.0.1", 8081)]


class TestFamilies:
    @pytest.mark.parametrize("order", [(0, 1), (1, 0)])
    def test_a_pod_with_an_address_of_each_is_one_endpoint_at_its_ipv4_address(self, order: tuple[int, int]) -> None:
        slices = [
            endpoint_slice(pod("a"), pod("b"), name="s-4", version="1"),
            endpoint_slice(
                pod("a", address="fd00::a"), pod("b", address="fd00::b"), name="s-6", version="2", kind="IPv6"
            ),
        ]
        service = listed(*(slices[at] for at in order))
        assert sorted(e.key for e in service.snapshot()) == [("a", "10.0.0.97", 8080), ("b", "10.0.0.98", 8080)]

    def test_one_that_has_only_the_other_is_there(self) -> None:
        service = listed(
            endpoint_slice(pod("a"), name="s-4"),
            endpoint_slice(pod("b", address="fd00::b"), name="s-6", kind="IPv6"),
        )
        assert [e.authority for e in service.snapshot()] == ["10.0.0.97:8080", "[fd00::b]:8080"]

    def test_without_a_uid_nobody_knows_that_they_are_one(self) -> None:
        service = listed(
            endpoint_slice(endpoint("10.0.0.1", None), name="s-4"),
            endpoint_slice(endpoint("fd00::1", None), name="s-6", kind="IPv6"),
        )
        assert len(service.snapshot()) == 2

    def test_names_are_left_out_and_the_rest_is_there(self) -> None:
        service = ServiceEndpoints(8080)
        service.begin_list()
        problems = service.page_received(
            [endpoint_slice(endpoint("example.com"), name="s-n", kind="FQDN"), endpoint_slice(pod("a"))]
        )
        assert problems == ["EndpointSlice s-n: addresses of type 'FQDN' can't be used"]
        service.list_complete()
        service.merge()
        assert used(service) == "a"


class TestPreference:
    def test_those_that_are_ready(self) -> None:
        service = listed(
            endpoint_slice(pod("a", NOT_READY), pod("b"), pod("c", SERVING), pod("d", TERMINATING), pod("e"))
        )
        assert used(service) == "be"
        assert len(service.snapshot()) == 5

    def test_if_none_is_those_that_terminate_and_still_serve(self) -> None:
        service = listed(
            endpoint_slice(pod("a", NOT_READY), pod("c", SERVING), pod("d", TERMINATING), pod("e", SERVING))
        )
        assert used(service) == "ce"

    def test_if_none_does_nobody(self) -> None:
        assert used(listed(endpoint_slice(pod("a", NOT_READY), pod("d", TERMINATING)))) == ""

    def test_those_that_were_ready_are_marked(self) -> None:
        service = listed(endpoint_slice(pod("a"), pod("b"), pod("c", NOT_READY)))
        change(service, endpoint_slice(pod("a", NOT_READY), pod("b"), pod("c", NOT_READY)))
        assert used(service) == "Ab"
        change(service, endpoint_slice(pod("a", NOT_READY), pod("b", NOT_READY), pod("c", NOT_READY)))
        assert used(service) == "AB"
        change(service, endpoint_slice(pod("a"), pod("b", NOT_READY), pod("c", NOT_READY)))
        assert used(service) == "aB"

    @pytest.mark.parametrize("state", [SERVING, TERMINATING])
    def test_not_when_they_terminate(self, state: str) -> None:
        # It is gone in a moment: not what panic is for.
        service = listed(endpoint_slice(pod("a"), pod("b")))
        change(service, endpoint_slice(pod("a", state), pod("b")))
        assert [e.was_ready for e in service.snapshot()] == [False, False]

    def test_a_pod_that_was_away_is_a_new_one(self) -> None:
        service = listed(endpoint_slice(pod("a")))
        change(service, endpoint_slice())
        change(service, endpoint_slice(pod("a", NOT_READY)))
        assert used(service) == ""

    def test_another_pod_at_its_address_was_never_ready(self) -> None:
        service = listed(endpoint_slice(pod("a", address="10.0.0.1")))
        change(service, endpoint_slice(pod("b", NOT_READY, address="10.0.0.1")))
        assert used(service) == ""

    def test_a_list_in_between_forgets_nothing(self) -> None:
        service = listed(endpoint_slice(pod("a"), pod("b")))
        relist(service, endpoint_slice(pod("a", NOT_READY), pod("b", NOT_READY), name="s-other"))
        assert used(service) == "AB"

    def test_what_an_earlier_process_knew_counts(self) -> None:
        service = ServiceEndpoints(8080)
        service.remember_ready([("a", "10.0.0.97", 8080), ("gone", "10.0.0.1", 8080)])
        relist(service, endpoint_slice(pod("a", NOT_READY), pod("b", NOT_READY)))
        assert used(service) == "A"

    def test_how_many_are_in_each_state(self) -> None:
        service = listed(endpoint_slice(pod("a"), pod("b"), pod("c", SERVING), pod("d", NOT_READY)))
        assert service.states() == {READY: 2, SERVING: 1, TERMINATING: 0, NOT_READY: 1}


class TestList:
    def test_a_half_is_seen_by_nobody(self) -> None:
        service = listed(endpoint_slice(pod("a"), name="s-1"))
        service.begin_list()
        service.page_received([endpoint_slice(pod("b"), name="s-2")])
        service.merge()
        assert used(service) == "a"
        service.page_received([endpoint_slice(pod("c"), name="s-3")])
        service.list_complete()
        service.merge()
        assert used(service) == "bc"

    def test_one_that_is_begun_again_begins_with_nothing(self) -> None:
        service = listed()
        service.begin_list()
        service.page_received([endpoint_slice(pod("a"), name="s-1")])
        relist(service, endpoint_slice(pod("b"), name="s-2"))
        assert used(service) == "b"

    def test_an_empty_one_empties(self) -> None:
        service = listed(endpoint_slice(pod("a")))
        relist(service)
        assert service.is_empty
        assert service.snapshot() == ()

    def test_an_object_that_can_t_be_read_hides_no_other(self) -> None:
        service = ServiceEndpoints(8080)
        service.begin_list()
        (problem,) = service.page_received([Raw(b"[]"), endpoint_slice(pod("a"))])
        assert problem.startswith("an EndpointSlice that can't be read: ")
        service.list_complete()
        service.merge()
        assert used(service) == "a"

    def test_one_that_was_readable_before_keeps_its_endpoints(self) -> None:
        service = listed(endpoint_slice(pod("a"), name="s-1"), endpoint_slice(pod("b"), name="s-2"))
        unreadable = endpoint_slice(name="s-1", version="7", endpoints="?")
        for _ in range(2):
            service.begin_list()
            (problem,) = service.page_received([unreadable, endpoint_slice(pod("c"), name="s-2")])
            assert problem.startswith("an EndpointSlice that can't be read: ")
            service.list_complete()
            service.merge()
            assert used(service) == "ac"
        relist(service)
        assert used(service) == ""

    def test_in_an_event_it_is_an_error(self) -> None:
        service = listed(endpoint_slice(pod("a")))
        with pytest.raises(UnreadableError):
            service.changed(Raw(b'{"metadata":{}}'), is_deleted=False)
        service.merge()
        assert used(service) == "a"

    def test_problems_are_told(self) -> None:
        service = listed()
        (problem,) = service.changed(endpoint_slice(endpoint("x"), pod("a")), is_deleted=False)
        assert "endpoint 0 is left out" in problem


class TestPorts:
    def test_a_number_that_no_slice_lists(self) -> None:
        other, third = HTTP | {"port": 9000}, {"port": 81}
        service = listed(
            endpoint_slice(pod("a"), name="s-1", ports=[other, third]),
            endpoint_slice(pod("b"), name="s-2", ports=[other]),
        )
        assert service.missing_port() == ("81", "9000 (http)")

    def test_one_slice_that_lists_it_is_enough(self) -> None:
        service = listed(
            endpoint_slice(pod("a"), name="s-1", ports=[{"port": 81}]), endpoint_slice(pod("b"), name="s-2")
        )
        assert service.missing_port() is None

    @pytest.mark.parametrize("port", [8080, "http"])
    def test_without_endpoints_nothing_is_missing(self, port: int | str) -> None:
        assert ServiceEndpoints(port).missing_port() is None
        # The slice of a Service without pods has no ports.
        assert listed(endpoint_slice(ports=None), port=port).missing_port() is None
        assert listed(endpoint_slice(ports=[]), port=port).missing_port() is None

    def test_a_name_that_no_slice_lists(self) -> None:
        assert listed(endpoint_slice(pod("a")), port="web").missing_port() == ("8080 (http)",)
        assert listed(endpoint_slice(pod("a"), ports=None), port="web").missing_port() == ()


class TestChanges:
    def test_added_updated_deleted(self) -> None:
        service = listed(endpoint_slice(pod("a"), pod("b")))
        assert change(service, endpoint_slice(pod("b", SERVING), pod("c", NOT_READY), version="2")) == [
            "endpoint added: pod pod-c at 10.0.0.99:8080 (not_ready)",
            "endpoint deleted: pod pod-a at 10.0.0.97:8080 (gone)",
            "endpoint updated: pod pod-b at 10.0.0.98:8080 (ready -> serving)",
        ]

    def test_the_same_again_is_no_change(self) -> None:
        service = listed(endpoint_slice(pod("a"), pod("b")))
        assert change(service, endpoint_slice(pod("b"), pod("a"), version="2")) == []

    def test_a_slice_that_is_deleted(self) -> None:
        service = listed(endpoint_slice(pod("a"), name="s-1"), endpoint_slice(pod("b"), name="s-2"))
        assert change(service, endpoint_slice(pod("a"), name="s-1"), is_deleted=True) == [
            "endpoint deleted: pod pod-a at 10.0.0.97:8080 (gone)"
        ]
        assert change(service, endpoint_slice(name="s-never-seen"), is_deleted=True) == []

    def test_a_pod_that_moves_to_another_slice_is_no_change(self) -> None:
        service = listed(endpoint_slice(pod("a"), name="s-1", version="1"))
        assert change(service, endpoint_slice(pod("a"), name="s-2", version="2")) == []
        assert change(service, endpoint_slice(name="s-1", version="3")) == []
        assert used(service) == "a"

    def test_a_pod_without_a_name_and_an_ipv6_address(self) -> None:
        service = listed()
        assert change(service, endpoint_slice(endpoint("fd00::1", None), kind="IPv6")) == [
            "endpoint added: pod ? at [fd00::1]:8080 (ready)"
        ]


_PODS = st.builds(
    pod,
    st.sampled_from("abcde"),
    st.sampled_from(sorted(CONDITIONS)),
    address=st.sampled_from([None, "10.0.0.97", "10.0.0.98", "fd00::1"]),
)
_STEPS = st.lists(
    st.tuples(st.sampled_from(["s-1", "s-2", "s-3"]), st.booleans(), st.lists(_PODS, max_size=4)), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(_STEPS)
def test_events_come_to_the_same_as_a_list_of_what_they_left(steps: list[tuple[str, bool, list[Any]]]) -> None:
    followed = listed()
    there: dict[str, Raw] = {}
    for version, (name, is_deleted, pods) in enumerate(steps, 1):
        item = endpoint_slice(*pods, name=name, version=str(version))
        change(followed, item, is_deleted=is_deleted)
        if is_deleted:
            there.pop(name, None)
        else:
            there[name] = item
        snapshot = followed.snapshot()
        assert len({e.key[1:] for e in snapshot}) == len(snapshot), "an address is there once"
        assert not any(e.ready and e.was_ready for e in snapshot)
    assert followed.members == listed(*there.values()).members
