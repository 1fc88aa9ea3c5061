"""The older Endpoints object, read."""

from __future__ import annotations

from typing import Any

import pytest

from lb.discovery.endpointslice import (
    NOT_READY,
    READY,
    Member,
    Parsed,
    UnreadableError,
    parse_endpoints,
)
from lb.discovery.service_endpoints import ServiceEndpoints, describe_changes
from tests.discovery.json_values import deeply_nested
from tests.discovery.slices import HTTP, raw


def address(ip: str, uid: str = "", **more: Any) -> dict[str, Any]:
    return {"ip": ip, "nodeName": "node-1"} | ({"targetRef": {"name": f"pod-{uid}", "uid": uid}} if uid else {}) | more


def subset(*ready: Any, not_ready: Any = None, ports: Any = (HTTP,)) -> dict[str, Any]:
    return {"addresses": list(ready), "notReadyAddresses": not_ready, "ports": ports}


def endpoints(*subsets: Any, **more: Any) -> Any:
    return raw({"metadata": {"name": "backend-service", "resourceVersion": "5"}, "subsets": list(subsets)} | more)


def parsed(*subsets: Any, port: int | str = 8080, **more: Any) -> Parsed:
    return parse_endpoints(endpoints(*subsets, **more), port)


def test_ready_and_not_ready_addresses() -> None:
    assert parsed(subset(address("10.0.0.1", "a"), not_ready=[address("10.0.0.2", "b")])) == Parsed(
        name="backend-service",
        version=5,
        members=(
            Member(("a", "10.0.0.1", 8080), "pod-a", "node-1", "", READY),
            Member(("b", "10.0.0.2", 8080), "pod-b", "node-1", "", NOT_READY),
        ),
        ports=("8080 (http)",),
        problems=(),
        has_port=True,
    )


def test_an_address_of_which_nothing_else_is_known() -> None:
    assert parsed(subset({"ip": "10.0.0.1"})).members == (Member(("", "10.0.0.1", 8080), "", "", "", READY),)


@pytest.mark.parametrize(
    "empty",
    [
        {"subsets": None},
        {"subsets": []},
        {"subsets": [{}]},
        {"subsets": [{"addresses": None, "notReadyAddresses": None, "ports": None}]},
    ],
)
def test_no_addresses(empty: dict[str, Any]) -> None:
    found = parsed(**empty)
    assert (found.members, found.problems, found.has_port) == ((), (), None)


def test_no_subsets_at_all() -> None:
    assert parse_endpoints(raw({"metadata": {"name": "a"}}), 8080) == Parsed("a", 0)


def test_each_subset_has_its_own_ports() -> None:
    subsets = (
        subset(address("10.0.0.1", "a")),
        subset(address("10.0.0.2", "b"), ports=[HTTP | {"port": 9000}]),
        subset(address("10.0.0.3", "c"), ports=[{"port": 81}]),
    )
    by_name = parsed(*subsets, port="http")
    assert [m.key for m in by_name.members] == [("a", "10.0.0.1", 8080), ("b", "10.0.0.2", 9000)]
    assert by_name.ports == ("8080 (http)", "9000 (http)", "81")
    by_number = parsed(*subsets, port=8080)
    assert [m.key[2] for m in by_number.members] == [8080, 8080, 8080]
    assert by_name.has_port
    assert by_number.has_port
    assert not parsed(*subsets, port=7000).has_port
    assert not parsed(*subsets, port="web").has_port


@pytest.mark.parametrize(
    "bad", [None, "10.0.0.2", {}, {"ip": None}, {"ip": "x"}, {"ip": "0.0.0.0"}, {"ip": "10.0.0.2", "targetRef": []}]
)
def test_one_that_can_t_be_read_hides_no_other(bad: Any) -> None:
    found = parsed(subset(address("10.0.0.1", "a"), bad, address("10.0.0.3", "c"), not_ready=[bad]))
    assert [m.key[0] for m in found.members] == ["a", "c"]
    assert len(found.problems) == 2
    assert all(text.startswith("Endpoints backend-service: an address is left out: ") for text in found.problems)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b'{"metadata":{}}',
        b'{"metadata":{"name":"a"},"subsets":{}}',
        b'{"metadata":{"name":"a"},"subsets":[null]}',
        b'{"metadata":{"name":"a"},"subsets":[{"ports":[{"port":"http"}]}]}',
        deeply_nested(b'{"metadata":{"name":"a"},"x":%b}'),
    ],
)
def test_an_object_that_can_t_be_read(data: bytes) -> None:
    with pytest.raises(UnreadableError, match="an Endpoints object that can't be read"):
        parse_endpoints(data, 8080)


def test_it_is_followed_as_slices_are() -> None:
    service = ServiceEndpoints(8080, parse_endpoints)
    service.begin_list()
    service.page_received([endpoints(subset(address("10.0.0.1", "a"), address("10.0.0.2", "b")))])
    service.list_complete()
    service.merge()
    service.changed(endpoints(subset(address("10.0.0.3", "c"), not_ready=[address("10.0.0.1", "a")])), is_deleted=False)
    assert sorted(describe_changes(*service.merge())) == [
        "endpoint added: pod pod-c at 10.0.0.3:8080 (ready)",
        "endpoint deleted: pod pod-b at 10.0.0.2:8080 (gone)",
        "endpoint updated: pod pod-a at 10.0.0.1:8080 (ready -> not_ready)",
    ]
    assert [(e.uid, e.ready, e.was_ready) for e in service.snapshot()] == [("c", True, False), ("a", False, True)]
    service.changed(endpoints(), is_deleted=True)
    service.merge()
    assert service.snapshot() == ()
    assert service.is_empty
