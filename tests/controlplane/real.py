"""A real API server over a real etcd, on ports of 127.0.0.1: programs from the folder that KUBEBUILDER_ASSETS names.

Authorization is RBAC: the administrator's token may do everything, a service account's what its Role says. There is no
node and, unless it is asked for, no controller: what is in the API, the tests have put there.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import trustme

from tests.controlplane.client import ApiClient
from tests.fakes import eventually, free_port

ADMIN_TOKEN = "the-administrator"
START_SECONDS = 60.0

_PR_SET_PDEATHSIG = 1


def why_not() -> str | None:
    """Return why there can't be one here, or None."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return "needs the programs of a control plane: set KUBEBUILDER_ASSETS to their folder (see CONTRIBUTING.md)"
    missing = [name for name in ("etcd", "kube-apiserver") if not os.access(Path(folder, name), os.X_OK)]
    return f"KUBEBUILDER_ASSETS ({folder}) has no {' and no '.join(missing)}" if missing else None


def program(name: str) -> str:
    """Return the path of one of the programs."""
    return str(Path(os.environ["KUBEBUILDER_ASSETS"], name))


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Part:
    """One of the programs. It keeps its command over `kill` and `start`, and dies with the tests."""

    def __init__(self, log: Path, command: Sequence[str]) -> None:
        self.name = Path(command[0]).name
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """The end of what it wrote."""
        return self._log.read_text(errors="replace")[-3000:]

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """Kill it, also a stopped one, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10.0)


class RealServer:
    """etcd and kube-apiserver. `stop` and `start` are of the API server alone; what is stored stays."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="podlb-controlplane-"))
        self.port, etcd_port, peer_port = _free_ports(3)
        authority = trustme.CA()
        self.authority = authority.cert_pem.bytes()
        certificate = authority.issue_cert("127.0.0.1", "localhost")
        certificate.private_key_and_cert_chain_pem.write_to_path(str(self._folder / "server.pem"))
        # Signs the tokens of service accounts.
        authority.issue_cert("tokens").private_key_pem.write_to_path(str(self._folder / "tokens.pem"))
        (self._folder / "tokens.csv").write_text(f"{ADMIN_TOKEN},admin,admin,system:masters\n")
        self.admin = ApiClient(self.url, self.authority, ADMIN_TOKEN)
        self.etcd = Part(
            self._folder / "etcd.log",
            [
                program("etcd"),
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls=http://127.0.0.1:{etcd_port}",
                f"--advertise-client-urls=http://127.0.0.1:{etcd_port}",
                f"--listen-peer-urls=http://127.0.0.1:{peer_port}",
                f"--initial-advertise-peer-urls=http://127.0.0.1:{peer_port}",
                f"--initial-cluster=default=http://127.0.0.1:{peer_port}",
                "--unsafe-no-fsync",
                "--watch-progress-notify-interval=5s",
                "--log-level=warn",
            ],
        )
        self.api = Part(
            self._folder / "kube-apiserver.log",
            [
                program("kube-apiserver"),
                f"--etcd-servers=http://127.0.0.1:{etcd_port}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self.port}",
                f"--tls-cert-file={self._folder / 'server.pem'}",
                f"--tls-private-key-file={self._folder / 'server.pem'}",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--service-account-issuer=https://kubernetes.default.svc",
                f"--service-account-key-file={self._folder / 'tokens.pem'}",
                f"--service-account-signing-key-file={self._folder / 'tokens.pem'}",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--authorization-mode=RBAC",
                # Nobody makes default service accounts here, and pods need none.
                "--disable-admission-plugins=ServiceAccount",
                # The address of a Service can't be loopback; there is none of the API's own here.
                "--advertise-address=127.0.0.1",
                "--endpoint-reconciler-type=none",
            ],
        )

    def __enter__(self) -> Self:
        try:
            self.etcd.start()
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.api.kill()
        self.etcd.kill()
        shutil.rmtree(self._folder)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start the API server; return when it is ready."""
        self.api.start()
        eventually(self._is_ready, "the start of the API server", seconds=START_SECONDS)

    def _is_ready(self) -> bool:
        for part in (self.etcd, self.api):
            assert part.is_running, f"{part.name} has ended: {part.log}"
        try:
            return self.admin.get("/readyz").status == 200
        except OSError:
            return False

    def stop(self) -> None:
        """Kill the API server."""
        self.api.kill()

    def freeze(self) -> None:
        """Stop the API server's process: the kernel goes on to accept connections, and nothing is ever sent."""
        self.api.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        self.api.signal(signal.SIGCONT)


def _free_ports(count: int) -> list[int]:
    """Return ports that are free now, all different."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return sorted(ports)
