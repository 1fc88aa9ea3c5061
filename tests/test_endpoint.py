"""The value that every layer shares."""

from __future__ import annotations

import pickle

import pytest

from lb.endpoint import Endpoint, format_authority, make_endpoint


def test_what_it_is_made_of() -> None:
    endpoint = make_endpoint("10.0.0.1", 8080, name="pod-a", uid="1234")
    assert endpoint.key == ("1234", "10.0.0.1", 8080)
    assert (endpoint.uid, endpoint.address, endpoint.port, endpoint.name) == ("1234", "10.0.0.1", 8080, "pod-a")
    assert (endpoint.weight, endpoint.node, endpoint.zone, endpoint.ready) == (1, "", "", True)


def test_outside_kubernetes_there_is_no_uid() -> None:
    endpoint = make_endpoint("10.0.0.1", 8080)
    assert endpoint.key == ("", "10.0.0.1", 8080)
    assert endpoint.name == ""


@pytest.mark.parametrize(
    ("host", "port", "authority"),
    [
        ("10.0.0.1", 80, "10.0.0.1:80"),
        ("example.com", 8080, "example.com:8080"),
        ("::1", 80, "[::1]:80"),
        ("fe80::1%eth0", 65535, "[fe80::1%eth0]:65535"),
    ],
)
def test_an_authority(host: str, port: int, authority: str) -> None:
    assert format_authority(host, port) == authority
    assert make_endpoint(host, port).authority == authority


def test_a_snapshot_is_plain_data() -> None:
    snapshot = (make_endpoint("10.0.0.1", 80, name="a"), make_endpoint("::1", 80)._replace(ready=False))
    assert pickle.loads(pickle.dumps(snapshot)) == snapshot
    assert hash(snapshot) == hash(
        (make_endpoint("10.0.0.1", 80, name="a"), make_endpoint("::1", 80)._replace(ready=False))
    )


def test_it_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        make_endpoint("10.0.0.1", 80).name = "b"  # type: ignore[misc]


def test_another_description_is_another_value_with_the_same_key() -> None:
    endpoint = make_endpoint("10.0.0.1", 80)
    assert endpoint._replace(ready=False) != endpoint
    assert endpoint._replace(ready=False).key == endpoint.key
    assert Endpoint(key=endpoint.key) == endpoint
