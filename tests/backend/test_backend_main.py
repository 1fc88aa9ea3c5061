from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from backend.__main__ import main
from backend.process import ListenError, listen
from tests.backend.demo_server import DemoServer


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prot", "1"], "unknown argument --prot, the nearest is --port (known: --config, --host, "),
        (["--drain-dealy=1"], "unknown argument --drain-dealy=1, the nearest is --drain-delay (known: "),
        (["extra"], "unknown argument extra, the nearest is --"),
        (["--port", "x"], "argument --port: invalid int value: 'x'"),
        (["--port"], "argument --port: expected one argument"),
        (["--port", "65536"], "--port: expected int <= 65535, got 65536"),
        (["--drain-delay", "-1"], "--drain-delay: expected float >= 0.0, got -1.0"),
        (["--drain-delay", "nan"], "--drain-delay: "),
        (["--on-sigterm", "die"], "argument --on-sigterm: invalid choice: 'die'"),
        (["--host", ""], '--host: expected str of length >= 1, got ""'),
        (["--config", "/nowhere/config.json"], "/nowhere/config.json: cannot read it: No such file or directory"),
    ],
)
def test_bad_usage_is_one_line_and_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"podlb-backend: error: {message}")
    assert output.err.count("\n") == 1
    assert output.err.endswith("\n")


def test_a_bad_file_is_one_line_and_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"prot": 1}')
    assert main(["--config", str(file)]) == 2
    assert re.fullmatch(
        re.escape(f'podlb-backend: error: {file}: unknown key "prot", the nearest is "port" (known: ') + r".*\)\n",
        capsys.readouterr().err,
    )


def test_help_names_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        main(["--help"])
    assert raised.value.code == 0
    shown = capsys.readouterr().out
    for flag in ("--config", "--host", "--port", "--service-name", "--drain-delay", "--on-sigterm", "--log-requests"):
        assert flag in shown


def test_a_port_that_is_taken_is_one_line_and_1() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = subprocess.run(
            [sys.executable, "-m", "backend", "--host", "127.0.0.1", "--port", str(port)],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 1
    assert re.fullmatch(
        rf"podlb-backend: error: cannot listen on 127\.0\.0\.1:{port}: Address already in use; "
        r"stop what listens there, or set another port\n",
        ended.stderr,
    )
    assert ended.stdout == ""


def test_an_address_that_is_not_ours_is_refused() -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on 192\.0\.2\.1:0: .*; set host or port$"):
        listen("192.0.2.1", 0)


@pytest.mark.parametrize("host", ["a..b", "not an address"])
def test_a_host_that_is_no_address_is_refused(host: str) -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on .*:0: .*; set host to an address of this machine$"):
        listen(host, 0)


def test_the_file_and_the_flags_are_in_force(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text('{"host": "192.0.2.1", "port": 1, "serviceName": "from the file"}')
    with DemoServer("--config", str(file)) as server:
        assert b'"service": "from the file"' in server.get("/")[2]
        server.send_signal(signal.SIGTERM)
        assert server.wait() == 0


def test_the_downward_api_is_in_force() -> None:
    environment = {"POD_NAME": "pod-1", "POD_IP": "10.0.0.1", "POD_NAMESPACE": "ns", "NODE_NAME": "node-1"}
    with DemoServer("--service-name", "s", environment=environment) as server:
        expected = (
            b'{"pod": "pod-1", "ip": "10.0.0.1", "namespace": "ns", "node": "node-1", "service": "s", "requests": 1}'
        )
        assert server.get("/")[2].rstrip() == expected


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_listening_on_all_addresses_is_on_both_families() -> None:
    listener = listen("::", 0)
    try:
        for address in ("127.0.0.1", "::1"):
            socket.create_connection((address, listener.getsockname()[1])).close()
    finally:
        listener.close()
