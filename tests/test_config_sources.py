"""Layers, spelling, conversion and messages of the configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lb.config import ConfigError
from lb.config_sources import _KUBERNETES_NAME, KEYS, LoadedConfig, describe, load_config

STATIC = {"backends": "127.0.0.1:9001"}
ABSENT = "/nonexistent/config.json"


def load(
    flags: dict[str, str] | None = None, environ: dict[str, str] | None = None, path: str | None = None
) -> LoadedConfig:
    return load_config(STATIC | (flags or {}), environ or {}, path, default_path=ABSENT)


def error(flags: dict[str, str] | None = None, environ: dict[str, str] | None = None, path: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(flags, environ, path)
    message = str(caught.value)
    assert message.isprintable()
    return message


@pytest.fixture
def write(tmp_path: Path) -> Any:
    def write(content: object) -> str:
        path = tmp_path / "config.json"
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        path.write_bytes(data)
        return str(path)

    return write


def test_flags_come_before_environment_before_file_before_defaults(write: Any) -> None:
    path = write({"port": 1, "retries": 1, "maxWaiting": 1})
    loaded = load({"port": "3"}, {"PODLB_PORT": "2", "PODLB_RETRIES": "2"}, path)
    config, origins = loaded
    assert (config.port, config.retries, config.max_waiting, config.backlog) == (3, 2, 1, 4096)
    assert [origins[key] for key in ("port", "retries", "maxWaiting", "backlog")] == [
        "flag",
        "environment",
        path,
        "default",
    ]


def test_the_default_file_is_read_if_it_is_there(write: Any) -> None:
    path = write({"port": 1})
    assert load_config(STATIC, {}, None, default_path=path).config.port == 1
    assert load_config(STATIC, {}, None, default_path=path + ".absent").config.port == 8080


def test_every_key_has_one_spelling_in_each_source() -> None:
    key = KEYS["maxIdlePerEndpoint"]
    assert (key.flag, key.variable) == ("--max-idle-per-endpoint", "PODLB_MAX_IDLE_PER_ENDPOINT")
    assert len({key.flag for key in KEYS.values()}) == len({key.variable for key in KEYS.values()}) == len(KEYS)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("port", "0", 0),
        ("port", " 80 ", 80),
        ("connectTimeout", "2", 2.0),
        ("connectTimeout", ".5", 0.5),
        ("connectTimeout", "1e-3", 0.001),
        ("abortOnClientFin", "off", False),
        ("abortOnClientFin", "False", False),
        ("abortOnClientFin", "0", False),
        ("abortOnClientFin", "ON", True),
        ("abortOnClientFin", "1", True),
        ("retryOn", "reset", ("reset",)),
        ("retryOn", "", ()),
        ("retryOn", '["connect"]', ("connect",)),
        ("backends", "a:1, b:2", ("a:1", "b:2")),
        ("backends", '["a:1", "b"]', ("a:1", "b")),
        ("adminPort", "off", None),
        ("adminPort", "null", None),
        ("adminPort", "0", 0),
        ("probePort", "8082", 8082),
        ("tracing", "off", False),
        ("snapshotFile", "off", None),
        ("host", "::", "::"),
        ("backendPort", "9000", 9000),
    ],
)
@pytest.mark.parametrize("source", ["flag", "environment"])
def test_text_is_converted_by_the_type_of_its_key(key: str, text: str, value: object, source: str) -> None:
    if source == "flag":
        loaded = load_config(STATIC | {key: text}, {}, None, default_path=ABSENT)
    else:
        environ = {"PODLB_BACKENDS": STATIC["backends"], KEYS[key].variable: text}
        loaded = load_config({}, environ, None, default_path=ABSENT)
    assert getattr(loaded.config, KEYS[key].attribute) == value
    assert loaded.origins[key] == source


@pytest.mark.parametrize(
    ("key", "text", "expected"),
    [
        ("port", "http", "a port from 0 to 65535"),
        ("port", "65536", "a port from 0 to 65535"),
        ("port", "-1", "a port from 0 to 65535"),
        ("port", "8_0", "a port from 0 to 65535"),
        ("port", "", "a port from 0 to 65535"),
        ("port", "9" * 5000, "a port from 0 to 65535"),
        ("connectTimeout", "2s", "a number of seconds above 0, at most 86400, without unit"),
        ("connectTimeout", "0", "above 0"),
        ("connectTimeout", "nan", "above 0"),
        ("connectTimeout", "1e999", "at most 86400"),
        ("endpointWait", "-1", "from 0 to 86400"),
        ("panic", "maybe", "true or false"),
        ("logLevel", "warning", "one of debug, info, warn, error"),
        ("retryOn", "connect,resets", "one of connect, reset, 503, timeout"),
        ("retryOn", "[1", "not a JSON list"),
        ("host", "[::]", "no brackets"),
        ("host", "", "an address or a name"),
        ("accessLogSample", "1.5", "a share from 0 to 1"),
        ("backendsFile", "", "the path of a file"),
        ("maxRequestHeadBytes", "1", "from 256"),
    ],
)
def test_a_bad_value_says_where_what_and_what_is_right(key: str, text: str, expected: str) -> None:
    message = error({key: text})
    assert message.startswith(KEYS[key].flag + ": ")
    assert expected in message
    assert len(message) < 250
    assert error({}, {KEYS[key].variable: text}) == message.replace(KEYS[key].flag, KEYS[key].variable, 1)


def test_a_bad_value_in_the_file_names_file_and_key(write: Any) -> None:
    path = write({"connectTimeout": "1"})
    assert error(path=path).startswith(f'{path}: connectTimeout: "1" is not a number of seconds')
    assert "not a port" in error(path=write({"port": True}))
    assert "not a port" in error(path=write({"port": 80.5}))
    assert "null is not a port" in error(path=write({"port": None}))


def test_a_bad_value_counts_even_when_a_flag_overrides_it(write: Any) -> None:
    assert "port" in error({"port": "80"}, path=write({"port": "x"}))


def test_an_unknown_key_gets_the_nearest_known_one(write: Any) -> None:
    path = write({"connectTimout": 1})
    assert error(path=path) == f'{path}: "connectTimout" is not a known key; did you mean connectTimeout?'
    assert "did you mean connectTimeout?" in error(path=write({"connect_timeout": 1}))
    assert "did you mean PODLB_MAX_CONNECTIONS?" in error({}, {"PODLB_MAX_CONECTIONS": "1"})
    assert "--max-conections is not a known flag; did you mean --max-connections?" in error({"maxConections": "1"})
    assert "remove it" in error(path=write({"zzzzzzzzzzzz": 1}))


@pytest.mark.parametrize("service", ["", "ADMIN_", "PROBE_", "BACKEND_", "EXTRA_"])
def test_the_variables_of_kubernetes_services_are_passed_over(service: str) -> None:
    name = f"PODLB_{service}"
    environ = {
        f"{name}SERVICE_HOST": "10.0.0.1",
        f"{name}SERVICE_PORT": "80",
        f"{name}SERVICE_PORT_HTTP": "80",
        f"{name}PORT": "tcp://10.0.0.1:80",
        f"{name}PORT_80_TCP": "tcp://10.0.0.1:80",
        f"{name}PORT_80_TCP_PROTO": "tcp",
        f"{name}PORT_80_TCP_PORT": "80",
        f"{name}PORT_80_TCP_ADDR": "10.0.0.1",
        f"{name}PORT_53_UDP": "udp://10.0.0.1:53",
        f"{name}PORT_9_SCTP_ADDR": "10.0.0.1",
    }
    loaded = load({}, environ)
    assert loaded.config == load().config
    assert "environment" not in loaded.origins.values()


def test_our_own_port_still_counts_beside_those_of_a_service() -> None:
    assert load({}, {"PODLB_PORT": "81", "PODLB_SERVICE_PORT": "80"}).config.port == 81


def test_no_key_looks_like_a_variable_of_a_kubernetes_service() -> None:
    assert [key.variable for key in KEYS.values() if _KUBERNETES_NAME.fullmatch(key.variable)] == []


def test_a_url_in_another_variable_is_ours_and_wrong() -> None:
    with pytest.raises(ConfigError, match=r'PODLB_BACKENDS: entry 1: tcp://10.0.0.1:80: remove "tcp://"'):
        load_config({}, {"PODLB_BACKENDS": "tcp://10.0.0.1:80"}, None, default_path=ABSENT)


def test_variables_of_other_programs_and_of_the_tests_are_passed_over() -> None:
    assert (
        load({}, {"PODLBX": "1", "PATH": "/bin", "PODLB_CLUSTER": "script", "PODLB_BASE_IMAGE_TAR": "file"}).config
        == load().config
    )


@pytest.mark.parametrize(
    ("data", "part"),
    [
        (b'{"port": 1,\n "retries": }', "line 2, column 13"),
        (b"", "line 1, column 1"),
        (b"{} {}", "line 1, column 4"),
        (b"[1]", "a JSON object is needed"),
        (b"null", "a JSON object is needed"),
        (b'{"port": 1, "port": 1}', 'the key "port" is there twice'),
        (b'{"connectTimeout": NaN}', "NaN is not JSON"),
        (b'{"connectTimeout": -Infinity}', "-Infinity is not JSON"),
        (b'{"connectTimeout": 1e999}', "a number of seconds"),
        (b'{"port": ' + b"9" * 5000 + b"}", "port: Infinity is not a port from 0 to 65535"),
        (b'{"host": "\xff"}', "byte 10 is not UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * 1_048_577, "larger than"),
        (b'{"\\u001b[31m": 1}', r"\u001b[31m"),
    ],
)
def test_a_broken_file_says_what_is_wrong(write: Any, data: bytes, part: str) -> None:
    path = write(data)
    message = error(path=path)
    assert message.startswith(f"{path}: ")
    assert part in message


def test_a_byte_order_mark_is_no_error(write: Any) -> None:
    assert load(path=write(b'\xef\xbb\xbf{"port": 1}')).config.port == 1


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    assert "no such file" in error(path=str(tmp_path / "absent.json"))
    assert "can't be read: Is a directory" in error(path=str(tmp_path))
    assert "not the path of a file" in error(path="a\0b")


def test_what_is_in_force_is_described_in_full() -> None:
    rows = describe(load({"port": "1"}, {"PODLB_TRACING": "off"}))
    assert [key for key, _, _ in rows] == list(KEYS)
    table = {key: (json.loads(value), origin) for key, value, origin in rows}
    assert table["port"] == (1, "flag")
    assert table["tracing"] == (False, "environment")
    assert table["connectTimeout"] == (1.0, "default")
    assert table["probePort"] == (None, "default")
    assert table["backends"] == (["127.0.0.1:9001"], "flag")
    assert table["discovery"] == ("static", "inferred")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
near_values = st.sampled_from([0, 1, 8080, -1, 2**70, 10**400, 0.5, 1e308, "off", "a:1", ["a:1"], ["connect"], [1], {}])
some_key = st.sampled_from(list(KEYS)) | st.text(st.characters(codec=None), max_size=8)


@settings(deadline=None)
@example({"port": "\ud800"})
@given(st.dictionaries(some_key, json_values | near_values, max_size=4) | json_values)
def test_any_json_is_a_configuration_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, document: object
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps(document))
    try:
        loaded = load_config({}, {}, str(path), default_path=ABSENT)
    except ConfigError as exc:
        message = str(exc)
    else:
        message = str(describe(loaded))
    assert message.isprintable()


@settings(deadline=None)
@example({"port": "\ud800"})
@given(st.dictionaries(some_key, st.text(st.characters(codec=None), max_size=8), max_size=3))
def test_any_text_is_a_configuration_or_a_configuration_error(flags: dict[str, str]) -> None:
    environ = {KEYS[key].variable if key in KEYS else f"PODLB_{key}": text for key, text in flags.items()}
    for arguments in ((flags, {}), ({}, environ)):
        try:
            message = str(describe(load(*arguments)))
        except ConfigError as exc:
            message = str(exc)
        assert message.isprintable()
