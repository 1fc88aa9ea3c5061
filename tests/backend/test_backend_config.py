from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.app import Identity
from backend.config import KEYS, Config, ConfigError, flag_name, identity_from, load, nearest


@pytest.fixture
def nowhere(tmp_path: Path) -> Path:
    return tmp_path / "there" / "is" / "none.json"


def written(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "config.json"
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_without_anything_the_defaults_are_in_force(nowhere: Path) -> None:
    config = load(None, {}, nowhere)
    assert config == Config()
    assert (config.host, config.port, config.service_name) == ("0.0.0.0", 8080, "backend")
    assert (config.drain_delay, config.on_sigterm, config.log_requests) == (0.0, "drain", False)


def test_the_seeds_file_works_as_it_is(tmp_path: Path, nowhere: Path) -> None:
    file = written(tmp_path, '{"port": 8080, "serviceName": "backend"}')
    assert load(file, {}, nowhere) == Config()


def test_every_key_can_be_set_in_the_file(tmp_path: Path, nowhere: Path) -> None:
    values = {
        "host": "::",
        "port": 1,
        "serviceName": "s",
        "drainDelay": 2.5,
        "onSigterm": "exit",
        "logRequests": True,
    }
    assert tuple(values) == KEYS
    config = load(written(tmp_path, json.dumps(values)), {}, nowhere)
    assert config == Config(host="::", port=1, service_name="s", drain_delay=2.5, on_sigterm="exit", log_requests=True)


def test_flags_go_before_the_file(tmp_path: Path, nowhere: Path) -> None:
    file = written(tmp_path, '{"port": 1, "drainDelay": 2}')
    config = load(file, {"port": 3}, nowhere)
    assert (config.port, config.drain_delay) == (3, 2.0)


def test_the_default_file_is_read_if_it_is_there(tmp_path: Path) -> None:
    assert load(None, {}, written(tmp_path, '{"port": 7}')).port == 7


def test_the_named_file_goes_before_the_default_file(tmp_path: Path) -> None:
    default = tmp_path / "default.json"
    default.write_text('{"port": 1, "serviceName": "other"}')
    config = load(written(tmp_path, '{"port": 7}'), {}, default)
    assert (config.port, config.service_name) == (7, "backend")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not valid JSON: Input data was truncated"),
        ("{", "not valid JSON: Input data was truncated"),
        (b"\xff", "not valid JSON: JSON is malformed: invalid character (byte 0)"),
        ("[]", 'expected a JSON object such as {"port": 8080}'),
        (
            '{"prot": 1}',
            'unknown key "prot", the nearest is "port" '
            "(known: host, port, serviceName, drainDelay, onSigterm, logRequests)",
        ),
        (
            '{"service_name": "x"}',
            'unknown key "service_name", the nearest is "serviceName" '
            "(known: host, port, serviceName, drainDelay, onSigterm, logRequests)",
        ),
        ('{"port": "8080"}', 'port: expected int, got "8080"'),
        ('{"port": true}', "port: expected int, got true"),
        ('{"port": 65536}', "port: expected int <= 65535, got 65536"),
        ('{"port": -1}', "port: expected int >= 0, got -1"),
        ('{"host": ""}', 'host: expected str of length >= 1, got ""'),
        ('{"host": null}', "host: expected str, got null"),
        ('{"drainDelay": -1}', "drainDelay: expected float >= 0.0, got -1"),
        ('{"drainDelay": 86401}', "drainDelay: expected float <= 86400.0, got 86401"),
        ('{"onSigterm": "die"}', 'onSigterm: expected drain or exit, got "die"'),
        ('{"logRequests": 1}', "logRequests: expected bool, got 1"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, nowhere: Path, text: str | bytes, reason: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as raised:
        load(file, {}, nowhere)
    assert str(raised.value) == f"{file}: {reason}"


def test_a_named_file_has_to_be_there(nowhere: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(nowhere, {}, nowhere)
    assert str(raised.value) == f"{nowhere}: cannot read it: No such file or directory"


def test_a_default_file_that_is_there_has_to_be_readable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, {}, tmp_path)
    assert str(raised.value) == f"{tmp_path}: cannot read it: Is a directory"


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        ({"port": 70_000}, "--port: expected int <= 65535, got 70000"),
        ({"drainDelay": float("nan")}, "--drain-delay: "),
        ({"drainDelay": float("inf")}, "--drain-delay: expected float <= 86400.0, got Infinity"),
    ],
)
def test_a_bad_flag_is_refused_under_its_own_name(nowhere: Path, flags: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError) as raised:
        load(None, flags, nowhere)
    assert str(raised.value).startswith(reason)


def test_flags_are_named_after_keys() -> None:
    assert [flag_name(key) for key in KEYS] == [
        "--host",
        "--port",
        "--service-name",
        "--drain-delay",
        "--on-sigterm",
        "--log-requests",
    ]


@given(st.text())
def test_any_name_has_a_nearest_key(name: str) -> None:
    assert nearest(name, KEYS) in KEYS


def test_the_identity_comes_from_the_downward_api() -> None:
    environment = {"POD_NAME": "pod-1", "POD_IP": "10.0.0.1", "POD_NAMESPACE": "ns", "NODE_NAME": "node-1"}
    assert identity_from(environment, "machine", "s") == Identity("pod-1", "10.0.0.1", "ns", "node-1", "s")


@pytest.mark.parametrize("environment", [{}, {"POD_NAME": "", "POD_IP": "", "POD_NAMESPACE": "", "NODE_NAME": ""}])
def test_off_cluster_the_identity_is_that_of_the_machine(environment: dict[str, str]) -> None:
    assert identity_from(environment, "machine", "s") == Identity("machine", None, "default", "machine", "s")
