"""The types of the configuration and what a backend may look like."""

from __future__ import annotations

import ipaddress
import subprocess
import sys

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lb.config import Backend, BackendError, Config, ConfigError, parse_backend, parse_backends

DESIGN_KEYS = [
    "host", "port", "backlog", "mode", "adminHost", "adminPort", "probeHost", "probePort", "discovery",
    "backends", "backendsFile", "backendServiceName", "namespace", "backendPort", "kubeconfig", "endpointsApi",
    "policy", "loop", "parser", "connectTimeout", "requestHeadTimeout", "idleTimeout", "bodyIdleTimeout",
    "tunnelIdleTimeout", "responseTimeout", "upstreamIdleTimeout", "maxIdlePerEndpoint", "endpointWait",
    "maxWaiting", "drainDelay", "drainTimeout", "maxRequestHeadBytes", "maxRequestTargetBytes",
    "maxHeaderFields", "maxRequestBodyBytes", "maxConnections", "retries", "retryOn", "retryBodyLimit",
    "allowedUpgrades", "trustedProxies", "startupTimeout", "snapshotFile", "snapshotMaxAge", "panic",
    "abortOnClientFin", "endpointHistograms", "tracing", "logLevel", "accessLog", "accessLogSample"
]  # fmt: skip

ports = st.integers(1, 65535)
labels = st.from_regex(r"[a-z0-9_]([a-z0-9_-]{0,8}[a-z0-9_])?", fullmatch=True)
names = st.tuples(st.lists(labels, max_size=3), st.from_regex(r"[a-z_][a-z0-9_-]{0,8}", fullmatch=True)).map(
    lambda parts: ".".join([*parts[0], parts[1]])
)


def dialable(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return not (address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255")


addresses = st.ip_addresses().filter(dialable).map(str)
backends = st.builds(Backend, st.one_of(names, addresses), ports)


def test_every_key_of_the_design_is_there_and_no_other() -> None:
    assert list(Config.__struct_encode_fields__) == DESIGN_KEYS


def test_the_defaults_are_the_documented_ones() -> None:
    config = Config()
    assert (config.host, config.port, config.backlog, config.mode) == ("0.0.0.0", 8080, 4096, "http")
    assert (config.admin_host, config.admin_port) == ("127.0.0.1", 8081)
    assert (config.probe_host, config.probe_port) == ("0.0.0.0", None)
    assert (config.discovery, config.backends, config.backends_file) == (None, (), None)
    assert (config.backend_service_name, config.namespace, config.backend_port) == ("backend-service", None, 8080)
    assert (config.kubeconfig, config.endpoints_api) == (None, "endpointslices")
    assert (config.policy, config.loop, config.parser) == ("round_robin", "auto", "auto")
    assert (config.connect_timeout, config.request_head_timeout, config.idle_timeout) == (1.0, 10.0, 75.0)
    assert (config.body_idle_timeout, config.tunnel_idle_timeout, config.response_timeout) == (60.0, 3600.0, 60.0)
    assert (config.upstream_idle_timeout, config.max_idle_per_endpoint) == (4.0, 256)
    assert (config.endpoint_wait, config.max_waiting) == (3.0, 1024)
    assert (config.drain_delay, config.drain_timeout) == (0.0, 25.0)
    assert (config.max_request_head_bytes, config.max_request_target_bytes) == (32768, 8192)
    assert (config.max_header_fields, config.max_request_body_bytes, config.max_connections) == (100, 0, 10000)
    assert (config.retries, config.retry_on, config.retry_body_limit) == (2, ("connect", "reset"), 65536)
    assert (config.allowed_upgrades, config.trusted_proxies) == (("websocket",), ())
    assert config.startup_timeout == 10.0
    assert (config.snapshot_file, config.snapshot_max_age) == (None, 3600.0)
    assert (config.panic, config.abort_on_client_fin, config.tracing) == (True, True, False)
    assert (config.log_level, config.access_log, config.access_log_sample) == ("info", "off", 1.0)


def test_histograms_of_endpoints_depend_on_how_many_there_are() -> None:
    assert Config().endpoint_histograms == "auto"


def test_the_defaults_satisfy_their_own_types() -> None:
    assert msgspec.convert(msgspec.to_builtins(Config()), Config) == Config()


def test_a_config_is_frozen() -> None:
    with pytest.raises(AttributeError):
        Config().port = 1  # type: ignore[misc]


def test_upgrades_are_compared_in_lower_case() -> None:
    assert Config().upgrades == {b"websocket"}
    assert Config(allowed_upgrades=("WebSocket", "x-Tunnel")).upgrades == {b"websocket", b"x-tunnel"}
    assert Config(allowed_upgrades=()).upgrades == frozenset()


def test_trusted_proxies_are_networks_or_single_addresses() -> None:
    config = Config(trusted_proxies=("10.0.0.0/8", "192.0.2.7", "fd00::/8", "2001:DB8::0:1"))
    assert [str(network) for network in config.trusted_networks()] == [
        "10.0.0.0/8",
        "192.0.2.7/32",
        "fd00::/8",
        "2001:db8::1/128",
    ]
    assert Config().trusted_networks() == ()


def test_static_backends_get_the_default_port() -> None:
    config = Config(backends=("a", "b:1"), backend_port=9000)
    assert config.static_backends() == (Backend("a", 9000), Backend("b", 1))


@settings(deadline=None)
@given(backends)
@example(Backend("::1", 80))
@example(Backend("a-b.c_d.", 1))
def test_a_written_backend_reads_as_itself(backend: Backend) -> None:
    assert parse_backend(str(backend), 1) == backend


@settings(deadline=None)
@given(backends, ports)
def test_a_backend_without_a_port_gets_the_default(backend: Backend, port: int) -> None:
    text = str(backend).rpartition(":")[0]
    assert parse_backend(text, port) == Backend(backend.host, port)


@settings(deadline=None)
@given(st.text(st.characters(codec=None), max_size=30) | st.text("0129af:.[]%@/-_ x\n", max_size=20))
def test_any_other_text_is_one_sentence_and_never_another_error(text: str) -> None:
    try:
        backend = parse_backend(text, 80)
    except ValueError as exc:
        error = exc
    else:
        assert 1 <= backend.port <= 65535
        assert parse_backend(str(backend), 80) == backend
        return
    assert type(error) is ValueError
    assert str(error).isprintable()


@pytest.mark.parametrize(
    ("text", "backend"),
    [
        ("10.0.0.1:8080", Backend("10.0.0.1", 8080)),
        ("10.0.0.1", Backend("10.0.0.1", 80)),
        ("[2001:DB8::0:1]:8080", Backend("2001:db8::1", 8080)),
        ("[::1]", Backend("::1", 80)),
        ("name:1", Backend("name", 1)),
        ("Web.default.svc.cluster.local", Backend("Web.default.svc.cluster.local", 80)),
        ("3com.example:65535", Backend("3com.example", 65535)),
    ],
)
def test_what_a_backend_may_look_like(text: str, backend: Backend) -> None:
    assert parse_backend(text, 80) == backend


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("http://a:80", 'remove "http://"'),
        ("a:80/path", "no path"),
        ("user@a:80", "no path, user or space"),
        ("a :80", "space"),
        ("::1:8080", "in brackets"),
        ("[::1", "as [::1]:8080"),
        ("[::1]8080", "as [::1]:8080"),
        ("[10.0.0.1]:80", "not an IPv6 address"),
        ("[fe80::1%eth0]:80", "zone"),
        ("a:0", "from 1 to 65535"),
        ("a:65536", "from 1 to 65535"),
        ("a:", "from 1 to 65535"),
        ("a:http", "from 1 to 65535"),
        ("a:+80", "from 1 to 65535"),
        ("a:8_0", "from 1 to 65535"),
        (":80", "the host is missing"),
        ("a..b:80", "not a host name"),
        ("-a.b:80", "not a host name"),
        ("a" * 64 + ":80", "not a host name"),
        ("10.0.0.256:80", "not an IPv4 address"),
        ("127.1:80", "not an IPv4 address"),
        ("0x7f.1:80", "not an IPv4 address"),
        ("0x7f000001:80", "not an IPv4 address"),
        ("2130706433:80", "not an IPv4 address"),
        ("0.0.0.0:80", "means any address"),
        ("[::]:80", "means any address"),
        ("224.0.0.1:80", "multicast"),
        ("bücher.example:80", "xn--"),
        ("a:٨٠", "ASCII"),
    ],
)
def test_what_a_backend_may_not_look_like(text: str, part: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_backend(text, 80)
    assert part in str(caught.value)


def test_a_password_is_not_repeated() -> None:
    with pytest.raises(ValueError) as caught:
        parse_backend("http://me:secret@host:80", 80)
    assert "secret" not in str(caught.value)


def test_a_backend_knows_whether_it_needs_a_name_server() -> None:
    assert Backend("10.0.0.1", 1).is_literal
    assert Backend("::1", 1).is_literal
    assert not Backend("localhost", 1).is_literal


@pytest.mark.parametrize("twin", ["A.example.", "a.example:80", "A.EXAMPLE"])
def test_a_backend_may_not_be_there_twice(twin: str) -> None:
    with pytest.raises(BackendError) as caught:
        parse_backends(["a.example", "b", twin], 80)
    assert caught.value.number == 3
    assert "entry 1" in str(caught.value)


def test_a_bad_entry_is_named_by_its_place() -> None:
    with pytest.raises(BackendError, match=r"entry 2: http://x"):
        parse_backends(["a", "http://x"], 80)


def test_a_configuration_error_is_one_printable_line() -> None:
    assert str(ConfigError("a\nb \x1b[31m \u2028 ü")) == r"a\nb \x1b[31m \u2028 ü"


def test_importing_the_configuration_is_light() -> None:
    heavy = {"asyncio", "kubernetes", "prometheus_client", "h11", "uvloop", "argparse", "difflib", "ssl"}
    code = "import sys, lb.config_sources; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "msgspec" in loaded
    assert not loaded & heavy
