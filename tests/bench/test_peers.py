from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from bench.load import SCENARIOS
from bench.peers import CONTROL, PEERS, REFERENCE, SPLICING_REFERENCE, TCP_REFERENCE, Setting
from bench.peers.nginx import Content, backend_argv
from bench.peers.podlb import PODLB
from bench.peers.podlb_kubernetes import PODLB_KUBERNETES


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(port=18080, admin_port=18081, backends=("127.0.0.1:19001", "127.0.0.1:19002"), directory=tmp_path)


def written(setting: Setting) -> str:
    return "\n".join(path.read_text() for path in setting.directory.iterdir())


@pytest.mark.parametrize("name", [name for name in PEERS if name not in (CONTROL.name, PODLB_KUBERNETES.name)])
def test_every_contender_listens_on_loopback_and_balances_all_backends(name: str, setting: Setting) -> None:
    text = " ".join(PEERS[name].argv(setting)) + written(setting)
    assert "127.0.0.1" in text
    for port in ("18080", "19001", "19002"):
        assert port in text
    assert "0.0.0.0" not in text
    assert PEERS[name].install
    assert PEERS[name].takes_part_in("tcp" if name.endswith("-tcp") else "bulk")


@pytest.mark.parametrize("name", ["haproxy", "haproxy-splice", "nginx"])
def test_the_others_keep_connections_alive_and_forward_the_clients_address(name: str, setting: Setting) -> None:
    PEERS[name].argv(setting)
    text = written(setting)
    program = PEERS[name].program
    assert {"haproxy": "option forwardfor", "nginx": "X-Forwarded-For"}[program] in text
    assert {"haproxy": "http-reuse always", "nginx": "keepalive 256"}[program] in text
    assert {"haproxy": "nbthread 1", "nginx": "worker_processes 1"}[program] in text


def test_one_processor_each_for_those_that_have_no_workers(setting: Setting) -> None:
    for name in ("caddy", "traefik"):
        assert "GOMAXPROCS=1" in PEERS[name].argv(setting)
    argv = PEERS["envoy"].argv(setting)
    assert argv[argv.index("--concurrency") + 1] == "1"


def test_envoy_and_caddy_forward_the_clients_address_and_keep_connections(setting: Setting) -> None:
    # (Caddy, Traefik and Envoy keep connections by themselves; of the three Envoy has to be told about the address.)
    envoy = json.loads(Path(PEERS["envoy"].argv(setting)[2]).read_text())
    [listener] = envoy["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["use_remote_address"] is True
    assert "access_log" not in manager
    PEERS["caddy"].argv(setting)
    assert "keepalive_idle_conns_per_host 256" in written(setting)


def test_haproxy_splices_in_the_row_that_says_so_alone(setting: Setting) -> None:
    configurations = {}
    for name in ("haproxy", "haproxy-auto", "haproxy-splice"):
        PEERS[name].argv(setting)
        configurations[name] = written(setting).splitlines()
    plain = configurations["haproxy"]
    further = {name: [line.strip() for line in lines if line not in plain] for name, lines in configurations.items()}
    assert further == {
        "haproxy": [],
        "haproxy-auto": ["option splice-auto"],
        "haproxy-splice": ["option splice-response"],
    }
    assert not any("splice" in line for line in plain)


@pytest.mark.parametrize(
    ("name", "usual", "raised"),
    [("haproxy", "maxconn 4096", "maxconn 10064"), ("nginx", "worker_connections 4096", "worker_connections 12500")],
)
def test_room_for_more_connections_is_made_only_where_they_are_asked_for(
    name: str, usual: str, raised: str, setting: Setting
) -> None:
    PEERS[name].argv(setting)
    assert usual in written(setting)
    PEERS[name].argv(dataclasses.replace(setting, connections=10_000))
    assert raised in written(setting)


def test_the_rows_of_podlb_differ_in_loop_and_parser_alone(setting: Setting) -> None:
    commands = {peer.name: peer.argv(setting) for peer in PODLB}
    varying = {name: [word for word in argv if word not in commands["podlb-h11"]] for name, argv in commands.items()}
    assert varying == {
        "podlb-uvloop": ["auto"],
        "podlb-epoll": ["epoll", "auto"],
        "podlb-epoll-h11": ["epoll"],
        "podlb-asyncio": ["asyncio", "auto"],
        "podlb-h11": [],
        "podlb-epoll-tcp": ["epoll", "auto", "--mode", "tcp"],
        "podlb-uvloop-tcp": ["auto", "--mode", "tcp"],
    }


def test_the_backend_answers_by_itself_with_a_text_and_with_files(setting: Setting) -> None:
    backend_argv(setting, Content(b"hello\n", {"/long": b"x" * 1000}))
    text = (setting.directory / "nginx.conf").read_text()
    assert 'return 200 "hello\\n"' in text
    assert f"location = /long {{ root {setting.directory}; sendfile on;" in text
    assert (setting.directory / "long").read_bytes() == b"x" * 1000
    assert "proxy_pass" not in text


def test_the_row_without_a_balancer_is_of_every_load_that_it_has_an_own_one_of() -> None:
    assert CONTROL.scenarios is not None
    assert set(SCENARIOS) - set(CONTROL.scenarios) == {"endpoints", "tcp"}
    assert not CONTROL.takes_part_in("idle")


def test_balancers_of_connections_are_apart() -> None:
    parts = {name: [scenario for scenario in SCENARIOS if PEERS[name].takes_part_in(scenario)] for name in PEERS}
    assert {name: part for name, part in parts.items() if "tcp" in part} == {
        "haproxy-tcp": ["small", "tcp"],
        "podlb-epoll-tcp": ["tcp"],
        "podlb-uvloop-tcp": ["tcp"],
    }
    assert SCENARIOS["tcp"].reference == TCP_REFERENCE
    assert "websocket" in parts["nginx"]


def test_haproxy_for_connections_reads_no_heads(setting: Setting) -> None:
    PEERS["haproxy-tcp"].argv(setting)
    text = written(setting)
    assert "mode tcp" in text
    for line in ("mode http", "forwardfor", "http-reuse"):
        assert line not in text


def test_where_many_endpoints_are_connections_to_all_of_them_are_kept(setting: Setting) -> None:
    many = dataclasses.replace(setting, backends=tuple(f"127.1.{i // 250}.{i % 250 + 1}:19001" for i in range(1000)))
    for name in ("nginx", "caddy"):
        PEERS[name].argv(many)
    text = written(setting)
    assert "keepalive 4000;" in text
    assert "keepalive_idle_conns 4000\n" in text
    envoy = json.loads(Path(PEERS["envoy"].argv(many)[2]).read_text())
    [limits] = envoy["static_resources"]["clusters"][0]["circuit_breakers"]["thresholds"]
    assert min(limits.values()) >= 64 * 1000


def test_those_that_must_be_told_about_websockets_are_told(setting: Setting) -> None:
    PEERS["nginx"].argv(setting)
    (location,) = [part for part in written(setting).split("location ") if part.startswith("= /websocket {")]
    assert 'Connection "upgrade"' in location
    assert "proxy_read_timeout 1h" in location
    assert "X-Forwarded-For" in location
    envoy = json.loads(Path(PEERS["envoy"].argv(setting)[2]).read_text())
    manager = envoy["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["upgrade_configs"] == [{"upgrade_type": "websocket"}]


def test_the_reference_is_a_contender() -> None:
    assert REFERENCE in PEERS
    assert SPLICING_REFERENCE in PEERS
    assert TCP_REFERENCE in PEERS


def test_a_version_does_not_tell_where_the_program_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "proxy"
    program.write_text('#!/bin/sh\necho\necho "$0  version: 1.2"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    peer = dataclasses.replace(PEERS["envoy"], program="proxy")
    assert peer.version() == "proxy  version: 1.2"
