"""One EndpointSlice, read."""

from __future__ import annotations

from contextlib import suppress
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lb.discovery.endpointslice import (
    NOT_READY,
    READY,
    SERVING,
    STATES,
    TERMINATING,
    Member,
    Parsed,
    UnreadableError,
    parse_endpoints,
    parse_slice,
)
from tests.discovery.json_values import JSON, deeply_nested
from tests.discovery.slices import HTTP, endpoint, endpoint_slice, raw


def parsed(*endpoints: Any, port: int | str = 8080, **options: Any) -> Parsed:
    return parse_slice(endpoint_slice(*endpoints, **options), port)


def keys(found: Parsed) -> list[tuple[str, str, int]]:
    return [member.key for member in found.members]


def test_an_endpoint_with_all_that_is_known_of_it() -> None:
    found = parsed(endpoint("10.0.0.1", "uid-a", name="backend-x", ready=True, serving=True, terminating=False))
    assert found == Parsed(
        name="s-1",
        version=1,
        members=(Member(("uid-a", "10.0.0.1", 8080), "backend-x", "node-1", "zone-1", READY),),
        ports=("8080 (http)",),
        problems=(),
        has_port=True,
    )


@pytest.mark.parametrize("missing", [{}, {"nodeName": None, "zone": None, "targetRef": None, "conditions": None}])
def test_an_endpoint_of_which_only_the_address_is_known(missing: dict[str, None]) -> None:
    found = parsed({"addresses": ["10.0.0.1"], **missing})
    assert found.members == (Member(("", "10.0.0.1", 8080), "", "", "", READY),)


def test_a_reference_to_something_without_a_name() -> None:
    for reference in ({}, {"name": None, "uid": None}):
        assert keys(parsed(endpoint(uid=None) | {"targetRef": reference})) == [("", "10.0.0.1", 8080)]


class TestConditions:
    @pytest.mark.parametrize(
        ("ready", "serving", "terminating", "state"),
        [
            # `ready` left out means true, `serving` as `ready`, `terminating` false.
            (None, None, None, READY),
            (True, True, False, READY),
            (True, None, None, READY),
            (None, True, None, READY),
            (False, None, None, NOT_READY),
            (False, False, False, NOT_READY),
            # `serving` is for those that terminate.
            (False, True, False, NOT_READY),
            (True, False, False, READY),
            # A pod that terminates is never ready, but as a rule still serves.
            (False, True, True, SERVING),
            (False, False, True, TERMINATING),
            (False, None, True, TERMINATING),
            # With publishNotReadyAddresses everything is ready.
            (True, True, True, SERVING),
            (True, None, True, SERVING),
            (None, None, True, SERVING),
            (True, False, True, TERMINATING),
        ],
    )
    def test_the_state(self, ready: bool | None, serving: bool | None, terminating: bool | None, state: str) -> None:
        given_as_null = parsed(endpoint(ready=ready, serving=serving, terminating=terminating))
        conditions = {"ready": ready, "serving": serving, "terminating": terminating}
        left_out = parsed(endpoint(**{name: value for name, value in conditions.items() if value is not None}))
        assert [member.state for member in (*given_as_null.members, *left_out.members)] == [state, state]

    def test_every_combination_has_one(self) -> None:
        values = (None, False, True)
        for ready, serving, terminating in product(values, values, values):
            found = parsed(endpoint(ready=ready, serving=serving, terminating=terminating)).members[0].state
            assert found in STATES
            assert (found in (SERVING, TERMINATING)) is bool(terminating)


class TestAddresses:
    def test_the_first_is_meant(self) -> None:
        assert keys(parsed(endpoint(["10.0.0.1", "10.0.0.2"]))) == [("a", "10.0.0.1", 8080)]

    def test_ipv6_in_its_usual_form(self) -> None:
        found = parsed(endpoint("FD00:0:0::0001"), kind="IPv6")
        assert keys(found) == [("a", "fd00::1", 8080)]

    @pytest.mark.parametrize("kind", ["FQDN", "", "IPv5", "x" * 100])
    def test_names_are_left_out_with_a_word(self, kind: str) -> None:
        found = parsed(endpoint("example.com"), kind=kind)
        assert found.members == ()
        assert found.problems == (f"EndpointSlice s-1: addresses of type {kind[:20]!r} can't be used",)
        assert found.has_port is None, "it says nothing of the port"

    @pytest.mark.parametrize(
        ("addresses", "why"),
        [
            (None, "it has no address"),
            ([], "it has no address"),
            ("example.com", "'example.com' does not appear to be an IPv4 or IPv6 address"),
            ("10.0.0.256", "'10.0.0.256' does not appear to be an IPv4 or IPv6 address"),
            ("010.0.0.1", "'010.0.0.1' does not appear to be an IPv4 or IPv6 address"),
            ("", "'' does not appear to be an IPv4 or IPv6 address"),
            ("0.0.0.0", "0.0.0.0 can't be dialled"),
            ("::", ":: can't be dialled"),
            ("224.0.0.1", "224.0.0.1 can't be dialled"),
            ("ff02::1", "ff02::1 can't be dialled"),
        ],
    )
    def test_one_that_can_t_be_dialled_hides_no_other(self, addresses: str | list[str] | None, why: str) -> None:
        found = parsed(endpoint("10.0.0.1", "a"), endpoint(addresses, "b"), endpoint("10.0.0.3", "c"))
        assert keys(found) == [("a", "10.0.0.1", 8080), ("c", "10.0.0.3", 8080)]
        assert found.problems == (f"EndpointSlice s-1: endpoint 1 is left out: {why}",)

    @pytest.mark.parametrize(
        "bad",
        [
            None,
            [],
            "10.0.0.2",
            7,
            {},
            {"addresses": "10.0.0.2"},
            {"addresses": [None]},
            {"addresses": [7]},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": "yes"}},
            {"addresses": ["10.0.0.2"], "conditions": []},
            {"addresses": ["10.0.0.2"], "targetRef": {"uid": 7}},
            {"addresses": ["10.0.0.2"], "nodeName": {}},
        ],
    )
    def test_one_that_is_no_endpoint_hides_no_other(self, bad: object) -> None:
        found = parsed(endpoint("10.0.0.1", "a"), bad, endpoint("10.0.0.3", "c"))
        assert keys(found) == [("a", "10.0.0.1", 8080), ("c", "10.0.0.3", 8080)]
        (problem,) = found.problems
        assert problem.startswith("EndpointSlice s-1: endpoint 1 is left out: ")
        assert "\n" not in problem


@pytest.mark.parametrize("empty", [{"endpoints": None}, {"endpoints": []}])
def test_no_endpoints(empty: dict[str, Any]) -> None:
    found = parsed(**empty)
    assert (found.members, found.problems, found.has_port) == ((), (), None)


def test_keys_that_are_not_known_are_passed_over() -> None:
    found = parsed(endpoint() | {"hints": {"forZones": [{"name": "a"}]}, "deprecatedTopology": {}, "hostname": "x"})
    assert keys(found) == [("a", "10.0.0.1", 8080)]


METRICS = {"name": "metrics", "port": 9090, "protocol": "TCP"}
DNS_UDP = {"name": "dns", "port": 5353, "protocol": "UDP"}
DNS_TCP = {"name": "dns", "port": 53, "protocol": "TCP"}


class TestPortByNumber:
    @pytest.mark.parametrize("ports", [[HTTP], [METRICS, HTTP], [{"port": 8080}], [{"port": 8080, "name": ""}], None])
    def test_it_is_dialled(self, ports: Any) -> None:
        found = parsed(endpoint(), ports=ports)
        assert keys(found) == [("a", "10.0.0.1", 8080)]
        assert found.has_port

    @pytest.mark.parametrize("ports", [[METRICS], [], [{"name": "http"}], [HTTP | {"protocol": "UDP"}]])
    def test_also_if_the_slice_does_not_list_it(self, ports: Any) -> None:
        found = parsed(endpoint(), ports=ports)
        assert keys(found) == [("a", "10.0.0.1", 8080)]
        assert not found.has_port

    def test_the_ports_are_listed_for_people(self) -> None:
        assert parsed(endpoint(), ports=[HTTP, {"port": 81}]).ports == ("8080 (http)", "81")


class TestPortByName:
    @pytest.mark.parametrize(
        ("ports", "number"),
        [
            ([HTTP], 8080),
            ([METRICS, HTTP], 8080),
            ([{"name": "http", "port": 8000}], 8000),
            ([{"name": "http", "port": 8000, "protocol": None}], 8000),
            ([{"name": "http", "port": 1, "protocol": "UDP"}, HTTP], 8080),
        ],
    )
    def test_it_is_looked_up(self, ports: Any, number: int) -> None:
        found = parsed(endpoint(), ports=ports, port="http")
        assert keys(found) == [("a", "10.0.0.1", number)]
        assert found.has_port

    @pytest.mark.parametrize("ports", [None, [], [METRICS], [DNS_UDP], [HTTP | {"protocol": "SCTP"}]])
    def test_without_it_there_is_nothing_to_dial(self, ports: Any) -> None:
        found = parsed(endpoint(), ports=ports, port="http")
        assert (found.members, found.problems, found.has_port) == ((), (), False)

    @pytest.mark.parametrize("number", [None, 0, -1, 65536, 2**40])
    def test_one_that_is_no_port_is_none(self, number: int | None) -> None:
        assert parsed(endpoint(), ports=[HTTP | {"port": number}], port="http").members == ()
        assert keys(parsed(endpoint(), ports=[HTTP | {"port": number}, HTTP], port="http")) == [("a", "10.0.0.1", 8080)]

    def test_of_two_protocols_tcp_is_meant(self) -> None:
        for ports in ([DNS_UDP, DNS_TCP], [DNS_TCP, DNS_UDP]):
            assert keys(parsed(endpoint(), ports=ports, port="dns")) == [("a", "10.0.0.1", 53)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"metadata":{}}',
        b'{"metadata":{"name":null}}',
        b'{"metadata":{"name":"a","resourceVersion":7},"addressType":"IPv4"}',
        b'{"metadata":{"name":"a"},"addressType":7}',
        b'{"metadata":{"name":"a"},"addressType":"IPv4","endpoints":{}}',
        b'{"metadata":{"name":"a"},"addressType":"IPv4","ports":[null]}',
        b'{"metadata":{"name":"a"},"addressType":"IPv4","ports":[{"port":"http"}]}',
        b'{"metadata":{"name":"\xff"},"addressType":"IPv4"}',
        deeply_nested(b'{"metadata":{"name":"a"},"addressType":"IPv4","x":%b}'),
    ],
)
def test_an_object_that_can_t_be_read(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="an EndpointSlice that can't be read"):
        parse_slice(data, 8080)


@pytest.mark.parametrize(
    ("version", "number"),
    [("", 0), ("7", 7), ("a", 0), ("-7", 0), ("9" * 5000, 0), ("18446744073709551615", 2**64 - 1)],
)
def test_a_version_to_be_compared(version: str, number: int) -> None:
    assert parsed(endpoint(), version=version).version == number


_NAMES = st.sampled_from(
    [
        "metadata",
        "name",
        "addressType",
        "endpoints",
        "addresses",
        "conditions",
        "ready",
        "ports",
        "port",
        "subsets",
        "ip",
    ]
)
_VALUES = JSON | st.sampled_from(["IPv4", "IPv6", "10.0.0.1", "::1", 8080, True])
_OBJECTS = st.recursive(
    _VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=5), max_leaves=15
)


@settings(max_examples=30, deadline=None)
@given(_OBJECTS, _OBJECTS, _OBJECTS, st.sampled_from([8080, "http"]))
def test_whatever_an_object_holds_it_is_read_or_unreadable(one: Any, two: Any, three: Any, port: int | str) -> None:
    whole = {"metadata": {"name": "a"}, "addressType": "IPv4", "endpoints": [one, endpoint()], "ports": [HTTP]}
    for content in (one, whole, whole | {"ports": two}, whole | {"metadata": two}, whole | {"endpoints": three}):
        with suppress(UnreadableError):
            parse_slice(raw(content), port)
    assert ("a", "10.0.0.1", 8080) in keys(parse_slice(raw(whole), port))
    address = {"ip": "10.0.0.1", "targetRef": {"uid": "a"}}
    subset = {"addresses": [one, address], "ports": [HTTP]}
    legacy = {"metadata": {"name": "a"}, "subsets": [subset]}
    for content in (one, legacy, legacy | {"subsets": two}, {"metadata": {"name": "a"}, "subsets": [three]}):
        with suppress(UnreadableError):
            parse_endpoints(raw(content), port)
    assert ("a", "10.0.0.1", 8080) in keys(parse_endpoints(raw(legacy), port))


@given(st.binary(max_size=200))
def test_whatever_bytes_there_are(data: bytes) -> None:
    for parse in (parse_slice, parse_endpoints):
        with suppress(UnreadableError):
            parse(data, 8080)
