"""The rules between keys, and what is refused because it is not built yet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lb.config import ConfigError
from lb.config_checks import NOT_BUILT
from lb.config_sources import KEYS, LoadedConfig, load_config

STATIC = {"backends": ["127.0.0.1:9001"]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.json"


def load(path: Path, document: dict[str, object], flags: dict[str, str] | None = None) -> LoadedConfig:
    path.write_text(json.dumps(document))
    return load_config(flags or {}, {}, str(path))


def error(path: Path, document: dict[str, object], flags: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, document, flags)
    assert str(caught.value).isprintable()
    return str(caught.value)


REFUSED = {
    "policy": "least_requests",
}


def test_every_key_that_is_not_built_is_tried_here() -> None:
    assert REFUSED.keys() == NOT_BUILT.keys()


@pytest.mark.parametrize(("key", "value"), REFUSED.items())
def test_what_is_not_built_is_refused_with_the_reason(path: Path, key: str, value: object) -> None:
    message = error(path, STATIC | {key: value})
    assert message.startswith(f"{path}: {key}: {json.dumps(value)} is not built yet (")
    assert NOT_BUILT[key] in message
    assert message.endswith(f"remove it or set it to {json.dumps(KEYS[key].default)}")


@pytest.mark.parametrize("key", REFUSED)
def test_the_default_of_what_is_not_built_is_accepted(path: Path, key: str) -> None:
    assert load(path, STATIC | {key: KEYS[key].default}).config == load(path, STATIC).config


def test_a_refusal_names_the_flag_that_asked(path: Path) -> None:
    assert error(path, STATIC, {"policy": "random"}).startswith('--policy: "random" is not built yet')


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loop", "epoll"),
        ("loop", "uvloop"),
        ("loop", "asyncio"),
        ("mode", "http"),
        ("mode", "tcp"),
        ("retryOn", ["reset"]),
        ("retryOn", []),
        ("retryOn", ["connect", "reset", "503", "timeout"]),
        ("allowedUpgrades", []),
        ("allowedUpgrades", ["websocket", "x-tunnel"]),
        ("trustedProxies", []),
        ("trustedProxies", ["10.0.0.0/8", "192.0.2.7", "::1", "fd00::/8", "0.0.0.0/0"]),
    ],
)
def test_values_that_are_in_force_are_accepted(path: Path, key: str, value: object) -> None:
    load(path, STATIC | {key: value})


def test_the_kind_of_discovery_follows_from_the_keys(path: Path) -> None:
    assert load(path, STATIC).config.discovery == "static"
    loaded = load(path, {"backendsFile": "/b.json"})
    assert (loaded.config.discovery, loaded.origins["discovery"]) == ("file", "inferred")


def test_both_kinds_need_a_decision(path: Path) -> None:
    both = STATIC | {"backendsFile": "/b.json"}
    assert "are both set: remove one, or set discovery" in error(path, both)
    assert load(path, both | {"discovery": "file"}).config.discovery == "file"
    assert load(path, both | {"discovery": "file", "backends": []}).config.discovery == "file"
    loaded = load(path, both | {"discovery": "static"})
    assert (loaded.config.discovery, loaded.origins["discovery"]) == ("static", str(path))


def test_a_kind_that_is_named_needs_its_key(path: Path) -> None:
    assert '"static" needs backends' in error(path, {"discovery": "static"})
    assert '"file" needs backendsFile' in error(path, {"discovery": "file"})
    assert '"file" needs backendsFile' in error(path, STATIC | {"discovery": "file"})


def test_without_any_backends_they_are_found_in_kubernetes(path: Path) -> None:
    for document in ({}, {"port": 8080, "backendServiceName": "backend-service", "backendPort": 8080}):
        loaded = load(path, document)
        assert (loaded.config.discovery, loaded.origins["discovery"]) == ("kubernetes", "inferred")


def test_a_ports_name_is_for_kubernetes_only(path: Path) -> None:
    assert load(path, {"backendPort": "http"}).config.backend_port == "http"
    assert f'{path}: backendPort: "http" is a port\'s name' in error(path, STATIC | {"backendPort": "http"})


def test_the_same_file_works_once_backends_are_named(path: Path) -> None:
    document: dict[str, object] = {"port": 8080, "backendServiceName": "backend-service", "backendPort": 8080}
    assert load(path, document, {"backends": "10.0.0.1"}).config.discovery == "static"


def test_bad_backends_are_named_with_their_place(path: Path) -> None:
    assert f"{path}: backends: entry 2: http://b" in error(path, {"backends": ["a", "http://b"]})
    assert "--backends: entry 2: a:1 is there already as entry 1" in error(path, {}, {"backends": "a:1,a:1"})
    assert "the list is empty" in error(path, {"backends": []})
    assert "--backends: entry 2: it is empty" in error(path, {}, {"backends": "a,"})


@pytest.mark.parametrize(
    ("host", "port", "backend"),
    [
        ("0.0.0.0", 8080, "127.0.0.1"),
        ("::", 8080, "127.0.0.2:8080"),
        ("::", 8080, "[::1]:8080"),
        ("0.0.0.0", 9000, "localhost:9000"),
        ("10.1.2.3", 80, "10.1.2.3:80"),
    ],
)
def test_podlb_is_not_its_own_backend(path: Path, host: str, port: int, backend: str) -> None:
    message = error(path, {"host": host, "port": port, "backends": [backend]})
    assert "requests would go in circles" in message


@pytest.mark.parametrize(
    ("host", "port", "backend"),
    [
        ("0.0.0.0", 8080, "[::1]:8080"),
        ("127.0.0.1", 8080, "127.0.0.2:8080"),
        ("0.0.0.0", 8080, "10.0.0.1:8080"),
        ("0.0.0.0", 8080, "127.0.0.1:8090"),
        ("0.0.0.0", 8080, "web:8080"),
    ],
)
def test_another_address_on_the_same_port_is_no_circle(path: Path, host: str, port: int, backend: str) -> None:
    load(path, {"host": host, "port": port, "backends": [backend]})


def test_two_listeners_do_not_share_a_port(path: Path) -> None:
    message = error(path, STATIC | {"port": 8081})
    assert message == f"{path}: port: port and adminPort are both 8081: give each a port of its own"
    assert "adminPort and probePort are both 8081" in error(path, STATIC, {"probePort": "8081"})


@pytest.mark.parametrize(
    "document",
    [
        {"host": "127.0.0.2", "port": 8081},
        {"host": "0.0.0.0", "port": 8081, "adminHost": "::1"},
        {"port": 0, "adminPort": 0, "probePort": 0},
        {"port": 8081, "adminPort": None},
    ],
)
def test_listeners_that_do_not_meet_may_share_one(path: Path, document: dict[str, object]) -> None:
    load(path, STATIC | document)


def test_those_values_arrive(path: Path) -> None:
    document = {"mode": "tcp", "retryOn": ["503"], "allowedUpgrades": [], "trustedProxies": ["10.0.0.0/8"]}
    config = load(path, STATIC | document).config
    assert (config.mode, config.retry_on, config.allowed_upgrades) == ("tcp", ("503",), ())
    assert config.trusted_proxies == ("10.0.0.0/8",)


def test_lists_are_flags_too(path: Path) -> None:
    flags = {"trustedProxies": "10.0.0.0/8,::1", "retryOn": "503,timeout", "allowedUpgrades": ""}
    config = load(path, STATIC, flags).config
    assert config.trusted_proxies == ("10.0.0.0/8", "::1")
    assert (config.retry_on, config.allowed_upgrades) == (("503", "timeout"), ())


@pytest.mark.parametrize("value", ["504", "always", "Reset", "", 503])
def test_what_may_not_be_retried_on(path: Path, value: object) -> None:
    message = error(path, STATIC | {"retryOn": ["connect", value]})
    assert message.startswith(f"{path}: retryOn")


@pytest.mark.parametrize("value", ["udp", "TCP", "", None])
def test_other_modes_are_refused(path: Path, value: object) -> None:
    assert error(path, STATIC | {"mode": value}).startswith(f"{path}: mode")


@pytest.mark.parametrize("name", ["h2c", "H2C", "h2", "http", "HTTP", "HTTP/2.0", "tls", "TLS/1.3"])
def test_an_upgrade_past_every_rule_is_refused(path: Path, name: str) -> None:
    message = error(path, STATIC | {"allowedUpgrades": ["websocket", name]})
    assert message.startswith(f"{path}: allowedUpgrades: entry 2: {json.dumps(name)} would carry requests past")
    assert 'mode "tcp"' in message


@pytest.mark.parametrize("name", [" ", "web socket", "websocket/13", "a,b", "b\u00fccher", "a\n", "x" * 65])
def test_an_upgrade_that_is_no_name_of_a_protocol_is_refused(path: Path, name: str) -> None:
    message = error(path, STATIC | {"allowedUpgrades": [name]})
    assert message.startswith(f"{path}: allowedUpgrades: entry 1: ")
    assert "is not the name of a protocol" in message


def test_a_flag_for_an_upgrade_is_named(path: Path) -> None:
    assert error(path, STATIC, {"allowedUpgrades": "h2c"}).startswith("--allowed-upgrades: entry 1")


@pytest.mark.parametrize(
    "text",
    ["10.0.0.0/33", "10.0.0.256", "10.0.0/8", "fd00::/129", "proxy.example", "10.0.0.0-10.0.0.9", "10.0.0.0/"],
)
def test_a_trusted_proxy_that_is_no_network_is_refused(path: Path, text: str) -> None:
    message = error(path, STATIC | {"trustedProxies": ["::1", text]})
    assert message.startswith(f"{path}: trustedProxies: {text}: neither an address nor a network such as 10.0.0.0/8")


@pytest.mark.parametrize(
    ("text", "network"), [("10.1.2.3/8", "10.0.0.0/8"), ("192.0.2.1/31", "192.0.2.0/31"), ("fd00::1/8", "fd00::/8")]
)
def test_bits_behind_the_prefix_are_a_slip(path: Path, text: str, network: str) -> None:
    message = error(path, STATIC, {"trustedProxies": text})
    assert message == (f"--trusted-proxies: {text}: bits are set behind the prefix: write {network} for the network")


@pytest.mark.parametrize(
    ("text", "network"), [("::ffff:10.0.0.0/104", "10.0.0.0/8"), ("::ffff:192.0.2.7", "192.0.2.7/32")]
)
def test_a_mapped_network_that_no_client_is_in_is_a_slip(path: Path, text: str, network: str) -> None:
    message = error(path, STATIC, {"trustedProxies": text})
    assert message == f"--trusted-proxies: {text}: no client has such an address: write {network} for the network"
    load(path, STATIC, {"trustedProxies": f"{network},::/0"})


@pytest.mark.parametrize("key", ["trustedProxies", "allowedUpgrades", "retryOn"])
@pytest.mark.parametrize("value", [[""], [7], "a", None, {}])
def test_what_is_no_list_of_texts_is_refused(path: Path, key: str, value: object) -> None:
    assert error(path, STATIC | {key: value}).startswith(f"{path}: {key}: ")
