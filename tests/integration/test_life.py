"""`python -m lb`: what ends it before it has begun: one line on stderr, and an exit code."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.fakes import free_port
from tests.integration.conftest import MakeEndpoint
from tests.integration.processes import LoadBalancer, PythonProcess

BACKENDS = "--backends=127.0.0.1:9"
QUIET = ("--admin-port=off", "--host=127.0.0.1")


def fails(*arguments: str, code: int, says: str, environment: dict[str, str] | None = None) -> None:
    """Start it and check that it ends with `code` and one line on stderr that matches `says`."""
    with PythonProcess("lb", *arguments, environment=environment) as process:
        assert process.wait() == code, (process.lines, process.errors)
        assert len(process.errors) == 1, process.errors
        assert process.errors[0].startswith("podlb: ")
        assert re.search(says, process.errors[0]), process.errors[0]
        assert "Traceback" not in "".join(process.lines + process.errors)


@pytest.mark.parametrize("key", ["port", "admin-port", "probe-port"])
def test_a_port_that_is_taken(key: str, endpoint: MakeEndpoint) -> None:
    taken = endpoint().port
    flags = {"port": "0", "admin-port": "off", "probe-port": "off"} | {key: str(taken)}
    fails(
        "run",
        BACKENDS,
        "--host=127.0.0.1",
        "--probe-host=127.0.0.1",
        *[f"--{name}={value}" for name, value in flags.items()],
        code=1,
        says=rf"127\.0\.0\.1:{taken}: the port is taken: .*another port",
    )


def test_an_address_of_another_machine() -> None:
    fails("run", BACKENDS, "--admin-port=off", "--host=192.0.2.1", "--port=0", code=1, says=r"192\.0\.2\.1.*host")


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ('{"prot": 8080}', r'"prot" is not a known key; did you mean port\?'),
        ('{"connectTimout": 2}', r"did you mean connectTimeout\?"),
        ('{"port": "x"}', r'port: "x" is not a port'),
        ('{"connectTimeout": -1}', r"connectTimeout: -1 is not a number of seconds"),
        ('{"backends": ["127.0.0.1:99999"]}', r"backends.*99999"),
        ('{"port": 8080', r"line 1, column"),
        ('{"policy": "least_conn", "backends": ["127.0.0.1:9"]}', r"policy.*round_robin"),
        ('{"loop": "trio", "backends": ["127.0.0.1:9"]}', r"loop.*(uvloop|asyncio)"),
        ('{"port": 8081, "backends": ["127.0.0.1:9"]}', r"port and adminPort are both 8081"),
    ],
)
def test_a_bad_configuration_file(document: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(document)
    fails("run", f"--config={path}", code=2, says=rf"{re.escape(str(path))}.*{says}|{says}")


def test_nothing_is_named_and_there_is_no_kubernetes(tmp_path: Path) -> None:
    nowhere = {"HOME": str(tmp_path), "KUBECONFIG": "", "KUBERNETES_SERVICE_HOST": ""}
    flags = ("--port=0", *QUIET)
    says = r"no backends are named, and there is no Kubernetes.*set backends .*, backendsFile, or kubeconfig"
    fails("run", *flags, code=1, says=says, environment=nowhere)
    missing = tmp_path / "none"
    fails(
        "run",
        *flags,
        f"--kubeconfig={missing}",
        code=1,
        says=rf"kubeconfig {missing} can't be used",
        environment=nowhere,
    )


def test_flags_and_variables() -> None:
    fails("run", BACKENDS, "--prot=1", code=2, says=r"--prot.*did you mean --port\?")
    fails("run", BACKENDS, "--connect-timeout=soon", code=2, says=r'--connect-timeout: "soon" is not a number')
    fails("run", BACKENDS, code=2, says=r"did you mean PODLB_PORT\?", environment={"PODLB_PROT": "1"})
    fails("check", BACKENDS, code=2, says=r"PODLB_PORT: ", environment={"PODLB_PORT": "x"})


@pytest.mark.parametrize("flags", [("--port=1", "--port=2"), ("--port",), ("--config",)], ids=" ".join)
def test_usage(flags: tuple[str, ...]) -> None:
    fails("run", BACKENDS, *flags, code=2, says="--port|--config")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    fails("run", f"--config={tmp_path / 'none.json'}", code=2, says="there is no such file")
    fails("run", f"--config={tmp_path}", code=2, says="can't be read")
    file = tmp_path / "backends.json"
    flags = (f"--backends-file={file}", "--port=0", *QUIET)
    fails("run", *flags, code=1, says=rf"{re.escape(str(file))}: .*backendsFile")
    file.write_text('["127.0.0.1:9",\n 5]')
    fails("run", *flags, code=1, says=r"line 2: entry 2")


def test_check_prints_what_is_in_force(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"connectTimeout": 2.5, "backends": ["127.0.0.1:9"]}))
    with PythonProcess("lb", "check", f"--config={path}", "--port=81", environment={"PODLB_RETRIES": "1"}) as process:
        assert process.wait() == 0
        assert process.errors == []
        text = "\n".join(process.lines)
        for key, value, origin in [
            ("connectTimeout", "2.5", str(path)),
            ("port", "81", "flag"),
            ("retries", "1", "environment"),
            ("idleTimeout", "75", "default"),
            ("discovery", '"static"', "inferred"),
        ]:
            assert re.search(rf"(?m)^{key} +{re.escape(value)}(\.0)? +\({re.escape(origin)}\)$", text), key


def test_version_and_help() -> None:
    for flag in ("--version", "--help"):
        with PythonProcess("lb", "run", flag) as process:
            assert process.wait() == 0
            assert process.lines
            assert process.errors == []


@pytest.mark.parametrize("off", ["0", "off", "null"])
def test_ports_that_are_off(off: str, endpoint: MakeEndpoint) -> None:
    with PythonProcess(
        "lb",
        "--host=127.0.0.1",
        "--port=0",
        f"--backends=127.0.0.1:{endpoint().port}",
        f"--admin-port={off}",
        f"--probe-port={off}",
    ) as process:
        process.wait_for(r"listening on")
        process.signal(signal.SIGTERM)
        assert process.wait() == 0
        assert not [line for line in process.lines if "admin port" in line or "probe port" in line]


def test_the_seed_file_works(tmp_path: Path, endpoint: MakeEndpoint) -> None:
    a = endpoint()
    path = tmp_path / "config.json"
    port = free_port()
    path.write_text(json.dumps({"port": port, "backendPort": a.port, "backends": ["127.0.0.1"]}))
    with PythonProcess("lb", f"--config={path}", "--admin-port=off", "--host=127.0.0.1") as process:
        process.wait_for(rf"listening on 127\.0\.0\.1:{port}$")


def test_every_log_line_has_the_format(endpoint: MakeEndpoint) -> None:
    with LoadBalancer(f"--backends=127.0.0.1:{endpoint().port}", "--max-connections=50") as lb:
        client = lb.client()
        assert client.get().status == 200
        client.close()
        lb.signal(signal.SIGTERM)
        assert lb.wait() == 0
        assert lb.errors == []
        for line in lb.lines:
            assert re.fullmatch(
                r"\[lb\] \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \w+\.py:\d+ \[(DEBUG|INFO|WARN|ERROR)\] .+", line
            ), line
        assert lb.find(r"admin port on 127\.0\.0\.1:") is not None
        assert lb.find(r"\[(WARN|ERROR)\]") is None
