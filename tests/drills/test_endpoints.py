"""What slices say is read as the API means it, and when an endpoint turns ready is noted."""

from __future__ import annotations

from typing import Any

from tests.drills.endpoints import Endpoints, Key, State, read_slice
from tests.drills.kubectl import Kubectl


def endpoint(pod: str, address: str = "10.0.0.1", **conditions: bool | None) -> dict[str, Any]:
    return {"addresses": [address], "conditions": conditions, "targetRef": {"name": pod, "uid": f"uid-{pod}"}}


def test_what_is_absent_means_what_the_api_says() -> None:
    assert read_slice({"endpoints": None}) == {}
    assert read_slice({}) == {}
    found = read_slice(
        {
            "endpoints": [
                endpoint("a"),
                endpoint("b", ready=False, serving=True, terminating=True),
                endpoint("c", ready=False, serving=None),
                {"addresses": ["10.0.0.9"]},
            ]
        }
    )
    assert list(found.values()) == [
        State(True, True, False),
        State(False, True, True),
        State(False, False, False),
        State(True, True, False),
    ]
    assert next(iter(found)) == Key("a", "uid-a", "10.0.0.1")


def test_when_an_endpoint_turns_ready() -> None:
    endpoints = Endpoints(Kubectl("kubectl"), "podlb", "backend-service")
    not_ready = {"endpoints": [endpoint("a", ready=False), endpoint("b", ready=True)]}
    ready = {"endpoints": [endpoint("a", ready=True), endpoint("b", ready=True)]}
    elsewhere = {"endpoints": [endpoint("a", "10.0.0.2", ready=True)]}
    endpoints.changed(1.0, None, not_ready)
    endpoints.changed(2.0, not_ready, ready)
    endpoints.changed(3.0, ready, ready)
    endpoints.changed(4.0, ready, elsewhere)
    endpoints.changed(5.0, elsewhere, None)
    assert [(turned.at, turned.key.pod, turned.key.address) for turned in endpoints.turned_ready] == [
        (1.0, "b", "10.0.0.1"),
        (2.0, "a", "10.0.0.1"),
        (4.0, "a", "10.0.0.2"),
    ]


def test_when_the_last_one_is_ready_no_longer() -> None:
    endpoints = Endpoints(Kubectl("kubectl"), "podlb", "lb")
    objects = endpoints._following.objects
    dark = {"endpoints": [endpoint("a", ready=False)]}
    light = {"endpoints": [endpoint("a", ready=True)]}
    other = {"endpoints": [endpoint("b", ready=True)]}
    objects |= {"x": light, "y": other}
    endpoints.changed(1.0, None, light)
    objects["x"] = dark
    endpoints.changed(2.0, light, dark)
    assert endpoints.went_dark == [], "there is another slice"
    del objects["y"]
    endpoints.changed(3.0, other, None)
    endpoints.changed(4.0, dark, dark)
    assert endpoints.went_dark == [3.0]
