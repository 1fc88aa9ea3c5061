"""Faults from below, each with the proof that it happened."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from tests.drills.drivers import API_SERVER, KUBELET, PROGRAM_PAUSE, Driver, wait_until
from tests.drills.kubectl import DrillError, Kubectl, Object

GONE_IN = 5.0
"""Seconds within which a killed process must be gone."""

# The processes of a control group, with the instant of their start, and the clock that it is on.
_PROCESSES = r"""
cat /proc/uptime
for file in $(grep -lse "$1" -e "$2" /proc/[0-9]*/cgroup); do
  cat "${file%/cgroup}/stat" 2>/dev/null
done
exit 0
"""
_STAT = re.compile(r"^([0-9]+) \((.*)\) (\S)(?: \S+){18} ([0-9]+) ", re.MULTILINE)
_TICKS = 100
"""Clock ticks per second in /proc, the same on every Linux that Kubernetes runs on (USER_HZ)."""

# kubelet's own probes come with the full TTL from an address of the node; masqueraded traffic from there has less.
_SILENCE = r"""
set -e
gateway=$(ip route | sed -n 's/^default via \([0-9.]*\).*/\1/p')
test -n "$gateway"
iptables -N podlb-drill
iptables -A podlb-drill -s "$gateway,$1" -m ttl --ttl-eq 64 -j RETURN
iptables -A podlb-drill -j DROP
iptables -I INPUT -p tcp --dport "$2" -j podlb-drill
"""
_DROPPED = "iptables -nvxL podlb-drill"
_SOUND = r"""
iptables -D INPUT -p tcp --dport "$2" -j podlb-drill
iptables -F podlb-drill
iptables -X podlb-drill
"""
_ESTABLISHED = "01"


class Process(NamedTuple):
    """A process as its node sees it. `age` is how many seconds ago it started."""

    pid: int
    name: str
    age: float


@dataclass
class Silence:
    """A pod that drops packets: how many connections were open, and how many packets it dropped in the end."""

    connections: int
    dropped: int = 0


def read_processes(output: str) -> list[Process]:
    """Read what `_PROCESSES` prints; zombies are no processes any more."""
    first, _, rest = output.partition("\n")
    uptime = float(first.split()[0])
    return [
        Process(int(pid), name, uptime - int(started) / _TICKS)
        for pid, name, state, started in _STAT.findall(rest)
        if state != "Z"
    ]


def read_dropped(listing: str) -> int:
    """How many packets the chain has dropped, from `iptables -nvxL`."""
    match = re.search(r"^\s*([0-9]+)\s+[0-9]+\s+DROP\s", listing, re.MULTILINE)
    if match is None:
        raise DrillError(f"iptables counted nothing: {listing!r}")
    return int(match[1])


def read_log(text: str) -> list[str]:
    """The lines that a container wrote, from its log in the format of the container runtimes (CRI)."""
    return re.findall(r"^\S+ std(?:out|err) F (.*)$", text, re.MULTILINE)


def count_established(table: str, port: int) -> int:
    """How many connections to that port are established, from /proc/net/tcp."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return sum(row[1].endswith(f":{port:04X}") and row[3] == _ESTABLISHED for row in rows)


def container_id(pod: Object, name: str) -> str:
    """The id of a pod's container, without its runtime's name; empty while there is none."""
    for status in pod["status"].get("containerStatuses") or []:
        if status["name"] == name:
            return str(status.get("containerID", "")).rpartition("/")[2]
    return ""


class Faults:
    """Makes faults through a driver."""

    def __init__(self, driver: Driver, kubectl: Kubectl) -> None:
        self._driver = driver
        self._kubectl = kubectl

    def _processes(self, node: str, *groups: str) -> list[Process]:
        first, second = (groups * 2)[:2]
        return read_processes(self._driver.on_node(node, "sh", "-c", _PROCESSES, "sh", first, second))

    def process(self, pod: Object, container: str) -> Process:
        """The first process of a container."""
        id = container_id(pod, container)
        found = self._processes(pod["spec"]["nodeName"], id) if id else []
        if not found:
            raise DrillError(f"no process of {pod['metadata']['name']}/{container} is on its node")
        return max(found, key=lambda process: process.age)

    def is_there(self, pod: Object, container: str, pid: int) -> bool:
        """Is this process of the container still there?"""
        found = self._processes(pod["spec"]["nodeName"], container_id(pod, container))
        return any(process.pid == pid for process in found)

    def kill_process(self, pod: Object, container: str) -> int:
        """Kill -9 the process of a container from its node; returns its pid when it is gone."""
        process = self.process(pod, container)
        self._driver.on_node(pod["spec"]["nodeName"], "sh", "-c", f"kill -KILL {process.pid}")
        wait_until(lambda: not self.is_there(pod, container, process.pid), f"the end of {process.pid}", GONE_IN)
        return process.pid

    def kill_sandbox(self, pod: Object) -> int:
        """Kill the process that holds a pod's network namespace; returns its pid when it is gone."""
        node, uid = pod["spec"]["nodeName"], pod["metadata"]["uid"]
        groups = (f"pod{uid}", f"pod{uid.replace('-', '_')}")

        def holders() -> list[Process]:
            return [process for process in self._processes(node, *groups) if process.name == "pause"]

        found = holders()
        if len(found) != 1:
            raise DrillError(f"{len(found)} processes called pause in the pod {pod['metadata']['name']}, expected one")
        pid = found[0].pid
        self._driver.on_node(node, "sh", "-c", f"kill -KILL {pid}")
        wait_until(lambda: all(holder.pid != pid for holder in holders()), f"the end of {pid}", GONE_IN)
        return pid

    def log(self, pod: Object, container: str, seconds: float) -> list[str]:
        """The log of a container's process from its start until so many seconds from now, by its file on the node.

        That works without an API server, and goes on when the file is removed.
        """
        meta = pod["metadata"]
        folder = f"/var/log/pods/{meta['namespace']}_{meta['name']}_{meta['uid']}/{container}"
        script = f"timeout {seconds:g} tail -q -n +1 -f {folder}/*.log; exit 0"
        return read_log(self._driver.on_node(pod["spec"]["nodeName"], "sh", "-c", script))

    @contextmanager
    def silence(self, pod: Object, container: str, port: int) -> Iterator[Silence]:
        """The pod drops what comes to its port, but for the probes."""
        node = pod["spec"]["nodeName"]
        pid = self.process(pod, container).pid

        def inside(script: str) -> str:
            enter = ("nsenter", f"--net=/proc/{pid}/ns/net", "sh", "-c")
            return self._driver.on_node(node, *enter, script, "sh", pod["status"]["hostIP"], str(port))

        table = self._driver.on_node(node, "cat", f"/proc/{pid}/net/tcp")
        silence = Silence(count_established(table, port))
        try:
            inside(_SILENCE)
            yield silence
            silence.dropped = read_dropped(inside(_DROPPED))
        finally:
            inside(_SOUND)

    @contextmanager
    def frozen_api(self) -> Iterator[None]:
        """The API server accepts and does not answer."""
        self._driver.pause(API_SERVER)
        try:
            if self._kubectl.answers(1.0):
                raise DrillError("the API server was frozen, and it answers")
            yield
        finally:
            self._driver.resume(API_SERVER)
        wait_until(lambda: self._kubectl.answers(2.0), "an answer of the API server", 30, pause=PROGRAM_PAUSE)

    @contextmanager
    def killed_api(self) -> Iterator[None]:
        """There is no API server."""
        self._driver.kill(API_SERVER)
        try:
            if self._kubectl.answers(1.0):
                raise DrillError("the API server was killed, and it answers")
            yield
        finally:
            self._driver.start(API_SERVER)
        wait_until(lambda: self._kubectl.answers(2.0), "an answer of the API server", 60, pause=PROGRAM_PAUSE)

    @contextmanager
    def dead_kubelet(self) -> Iterator[None]:
        """There is no kubelet on any node."""
        self._driver.kill(KUBELET)
        try:
            yield
        finally:
            self._driver.start(KUBELET)
