from __future__ import annotations

from pathlib import Path

import pytest

from bench.peers import PEERS, REFERENCE, Setting
from bench.peers.nginx import backend_argv


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(port=18080, admin_port=18081, backends=("127.0.0.1:19001", "127.0.0.1:19002"), directory=tmp_path)


def written(setting: Setting) -> str:
    return "\n".join(path.read_text() for path in setting.directory.iterdir())


@pytest.mark.parametrize("name", PEERS)
def test_every_contender_listens_on_loopback_and_balances_all_backends(name: str, setting: Setting) -> None:
    text = " ".join(PEERS[name].argv(setting)) + written(setting)
    assert "127.0.0.1:18080" in text or "--host 127.0.0.1 --port 18080" in text
    assert "127.0.0.1:19001" in text
    assert "127.0.0.1:19002" in text
    assert PEERS[name].install


@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_the_others_keep_connections_alive_and_forward_the_clients_address(name: str, setting: Setting) -> None:
    PEERS[name].argv(setting)
    text = written(setting)
    assert {"haproxy": "option forwardfor", "nginx": "X-Forwarded-For"}[name] in text
    assert {"haproxy": "http-reuse always", "nginx": "keepalive 256"}[name] in text
    assert {"haproxy": "nbthread 1", "nginx": "worker_processes 1"}[name] in text


def test_the_rows_of_podlb_differ_in_loop_and_parser_alone(setting: Setting) -> None:
    commands = {name: PEERS[name].argv(setting) for name in PEERS if name.startswith("podlb")}
    varying = {name: [word for word in argv if word not in commands["podlb-h11"]] for name, argv in commands.items()}
    assert varying == {
        "podlb-uvloop": ["auto"],
        "podlb-epoll": ["epoll", "auto"],
        "podlb-asyncio": ["asyncio", "auto"],
        "podlb-h11": [],
    }


def test_the_backend_answers_by_itself(setting: Setting) -> None:
    backend_argv(setting)
    assert "return 200" in written(setting)
    assert "proxy_pass" not in written(setting)


def test_the_reference_is_a_contender() -> None:
    assert REFERENCE in PEERS
