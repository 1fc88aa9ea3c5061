"""A network namespace beside ours, as a pod has one: what it hears can be dropped there (Linux, root)."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

_CLONE_NEWNET = 0x40000000


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=10)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


class Namespace:
    """A namespace with one address, 10.98.N.2, joined to ours by a pair of virtual interfaces."""

    WHY_NOT = "needs Linux, root, and the commands ip and iptables (Debian: iproute2, iptables)"

    def __init__(self) -> None:
        number = os.getpid() % 250 + 1
        self.name = f"podlb-test-{os.getpid()}"
        self.address = f"10.98.{number}.2"
        self._link = f"podlb{os.getpid()}"
        _run("ip", "netns", "add", self.name)
        try:
            _run("ip", "link", "add", self._link, "type", "veth", "peer", "name", "eth0", "netns", self.name)
            _run("ip", "address", "add", f"10.98.{number}.1/24", "dev", self._link)
            _run("ip", "link", "set", self._link, "up")
            self._inside("ip", "address", "add", f"{self.address}/24", "dev", "eth0")
            self._inside("ip", "link", "set", "eth0", "up")
        except BaseException:
            self.stop()
            raise

    @staticmethod
    def is_possible() -> bool:
        """Can there be one?"""
        is_linux = hasattr(os, "geteuid") and Path("/proc/self/ns/net").exists()
        return is_linux and os.geteuid() == 0 and all(map(shutil.which, ("ip", "iptables")))

    def bind(self, port: int) -> socket.socket:
        """Return a socket of the namespace that is bound to its address."""
        # A socket is of the namespace in which the thread is that makes it; this one ends, and ours stays where it is.
        with ThreadPoolExecutor(1) as executor:
            return executor.submit(self._bind, port).result()

    def _bind(self, port: int) -> socket.socket:
        libc = ctypes.CDLL(None, use_errno=True)
        with open(f"/run/netns/{self.name}", "rb") as file:
            if libc.setns(file.fileno(), _CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((self.address, port))
        return sock

    def drop(self) -> None:
        """Drop every TCP packet that arrives from now on. Nobody is told."""
        self._inside("iptables", "-A", "INPUT", "-p", "tcp", "-j", "DROP")

    def dropped(self) -> int:
        """Return how many packets were dropped since."""
        lines = self._inside("iptables", "-L", "INPUT", "-nvx").splitlines()
        return sum(int(line.split()[0]) for line in lines if " DROP " in line)

    def heal(self) -> None:
        """Drop no more."""
        self._inside("iptables", "-F", "INPUT")

    def _inside(self, *command: str) -> str:
        return _run("ip", "netns", "exec", self.name, *command)

    def stop(self) -> None:
        """Remove it, and its interfaces with it."""
        _run("ip", "netns", "delete", self.name)
