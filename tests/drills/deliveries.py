"""What was delivered: the backends' logs, of which each request head is a line, kept beyond the life of a pod.

The log of every pod is followed from its first line on, so that it is here when the pod is gone. What was cut (a
container that ended, an API server that went away) is read again from the start: a reading of a log is known by the
pod and the log's first line, which has the time of its start, and of two readings of one log the longer counts. So a
request that is found twice was delivered twice.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from tests.drills.drivers import PROGRAM_PAUSE
from tests.drills.kubectl import DrillError, Following, Kubectl, Object

ATTEMPTS = 10
_REQUEST = re.compile(r"\] request (GET|POST) \S*[?&]id=([a-z0-9-]+)")


class Log(NamedTuple):
    """The log of one process: which pod's, its first line, and the ids in it."""

    pod: str
    first: str


class Readings:
    """Readings of logs: the longest of each."""

    def __init__(self, prefix: str) -> None:
        self.logs: dict[Log, list[str]] = {}
        self.unread: list[str] = []
        """Why a log could not be read."""
        self._prefix = prefix + "-"

    def reading(self, pod: str, lines: Iterable[str]) -> None:
        """Take a log as it comes; a part of it is not lost when it is cut."""
        log: Log | None = None
        ids: list[str] = []
        for line in lines:
            if log is None:
                log = Log(pod, line.rstrip("\n"))
                self.logs.setdefault(log, ids)
            if (match := _REQUEST.search(line)) and match[2].startswith(self._prefix):
                ids.append(match[2])
                if len(ids) > len(self.logs[log]):
                    self.logs[log] = ids

    def twice(self, ids: Iterable[str]) -> list[str]:
        """Which of these were delivered more than once."""
        counts = Counter(id for delivered in list(self.logs.values()) for id in delivered)
        return [id for id in ids if counts[id] > 1]

    def processes(self) -> dict[str, list[Log]]:
        """To which processes each request was delivered."""
        found: dict[str, list[Log]] = defaultdict(list)
        for log, delivered in list(self.logs.items()):
            for id in delivered:
                found[id].append(log)
        return found


class Deliveries:
    """Follows the logs of all pods that a selector finds, those that are new included."""

    def __init__(self, kubectl: Kubectl, namespace: str, selector: str, prefix: str) -> None:
        self.readings = Readings(prefix)
        self._kubectl = kubectl
        self._namespace = namespace
        self._following = Following(kubectl, f"/api/v1/namespaces/{namespace}/pods", selector, self._pod_changed)
        self._seen: set[tuple[str, str]] = set()
        self._processes: list[subprocess.Popen[str]] = []
        self._threads: list[threading.Thread] = []

    @property
    def pods(self) -> dict[str, Object]:
        """The pods as they are now, by name."""
        return dict(self._following.objects)

    def start(self) -> None:
        self._following.start()

    def _pod_changed(self, at: float, old: Object | None, new: Object | None) -> None:
        if new is None:
            return
        for status in new["status"].get("containerStatuses") or []:
            instance = (new["metadata"]["name"], status.get("containerID", ""))
            if "running" in status["state"] and instance not in self._seen:
                self._seen.add(instance)
                self._follow(instance[0])

    def _follow(self, pod: str) -> None:
        process = self._kubectl.open("logs", "--follow", f"--namespace={self._namespace}", pod)
        self._processes.append(process)
        thread = threading.Thread(target=self._read, args=(pod, process), name=f"log of {pod}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _read(self, pod: str, process: subprocess.Popen[str]) -> None:
        with process:
            assert process.stdout is not None
            self.readings.reading(pod, process.stdout)

    def stop(self) -> Readings:
        """Read again what may have been cut, and return all."""
        for pod, item in self.pods.items():
            restarts = sum(status["restartCount"] for status in item["status"].get("containerStatuses") or [])
            self._read_again(pod)
            if restarts:
                self._read_again(pod, "--previous")
        self._following.stop()
        for process in self._processes:
            process.terminate()
        for thread in self._threads:
            thread.join(10)
        return self.readings

    def _read_again(self, pod: str, *options: str) -> None:
        """Read a log from its start. An API server that has just come back may not reach the kubelet yet."""
        for _ in range(ATTEMPTS):
            try:
                text = self._kubectl.run("logs", f"--namespace={self._namespace}", pod, *options)
            except DrillError as error:
                if "not found" in str(error) and not options:
                    return  # The pod is gone meanwhile: what was followed is all there is.
                why = str(error)
                time.sleep(PROGRAM_PAUSE)
            else:
                self.readings.reading(pod, text.splitlines())
                return
        self.readings.unread.append(why)
