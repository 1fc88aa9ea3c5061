"""One drill: what it is, the stage that it is played on, and how it is played."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from tests.drills.cluster import BACKEND, LB, SERVICE, Cluster, Style, Workload, is_ready, restarts
from tests.drills.deliveries import Deliveries, Readings
from tests.drills.drivers import NO_DRIVER, PAUSE, wait_until
from tests.drills.endpoints import Endpoints
from tests.drills.faults import Faults, container_id
from tests.drills.kubectl import DrillError, Object
from tests.drills.load import Kind, Load, Request
from tests.drills.report import Bounds, Result, first_answers, judge

LB_PORT = 8080
"""Of an LB pod itself."""
WARM_UP = 2.0
"""Seconds of load before anything is done, and after everything is over."""
RECOVERY = 180.0
"""Seconds within which Kubernetes must have put right what was done to it.

On a slow machine it had not by 60, behind an API server that was away: its controllers and the kubelet back off.
How soon podlb follows is another bound.
"""


@dataclass(frozen=True)
class Drill:
    """What is done (`play`), and what may be lost meanwhile (`bounds`)."""

    name: str
    title: str
    play: Callable[[Stage], None]
    bounds: Bounds
    style: Style = Style.POLITE
    needs_faults: bool = False
    is_to_one_pod: bool = False
    """Does the load go to one LB pod's own address? kube-proxy drops or misroutes the LB's Service in this one."""
    is_about_lb: bool = False
    """Does it make no sense without podlb?"""


class Stage:
    """Everything that a play needs. `requests` are all that were sent once the load has stopped."""

    load: Load
    endpoints: Endpoints
    deliveries: Deliveries
    requests: list[Request]
    readings: Readings

    def __init__(self, cluster: Cluster, faults: Faults | None, drill: Drill, result: Result) -> None:
        self.cluster = cluster
        self.drill = drill
        self.result = result
        self._faults = faults
        self._after: list[Callable[[], None]] = []

    @property
    def faults(self) -> Faults:
        if self._faults is None:
            raise DrillError(NO_DRIVER)
        return self._faults

    @property
    def has_faults(self) -> bool:
        return self._faults is not None

    def proof(self, text: str) -> None:
        """Something was seen to have happened."""
        self.result.proofs.append(text)

    def check(self, is_kept: bool, text: str) -> None:
        """Something was to be so."""
        if is_kept:
            self.proof(text)
        else:
            self.result.faults.append(f"not so: {text}")

    def afterwards(self, check: Callable[[], None]) -> None:
        """Do this when the load has stopped, and all that was delivered is known."""
        self._after.append(check)

    def run_on(self, seconds: float) -> None:
        """Let the load go on."""
        self.load.run_on(seconds)

    # What pods and endpoints are like, as the API server tells

    @property
    def backends(self) -> dict[str, Object]:
        """The backend pods, by name."""
        return self.deliveries.pods

    def ready_backends(self) -> list[Object]:
        return [pod for pod in self.backends.values() if is_ready(pod)]

    def wait(
        self, condition: Callable[[], object], what: str, seconds: float = RECOVERY, *, pause: float = PAUSE
    ) -> float:
        """Return the instant at which it is so. What starts a program needs a longer pause: it takes from the load."""
        return wait_until(condition, what, seconds, pause=pause)

    def wait_for_backends(self, count: int) -> None:
        """Return when there are exactly so many pods, all ready, and the slices say the same."""

        def is_so() -> bool:
            uids = {pod["metadata"]["uid"] for pod in self.ready_backends()}
            states = self.endpoints.states
            return (
                len(uids) == len(self.backends) == len(states) == count
                and {key.uid for key, state in states.items() if state.ready} == uids
            )

        self.wait(is_so, f"{count} ready backends, in the slices and nothing else there")

    def wait_for_restart(self, before: Object) -> Object:
        """Return the pod when its backend was started again and is ready."""
        name, id = before["metadata"]["name"], container_id(before, BACKEND.name)

        def is_back() -> bool:
            pod = self.backends[name]
            return restarts(pod) > restarts(before) and container_id(pod, BACKEND.name) != id and is_ready(pod)

        self.wait(is_back, f"another process in {name}")
        return self.backends[name]

    def answers_of(self, pod: str, after: float) -> float | None:
        """The instant of the first answer of a pod after another instant."""
        ids = {id for log, delivered in self.readings.logs.items() if log.pod == pod for id in delivered}
        ended = (r.ended for r in self.requests if r.id in ids and r.kind is Kind.OK and r.ended > after)
        return min(ended, default=None)

    # How it is played

    def _address(self, *, is_plain: bool) -> tuple[str, int]:
        if is_plain:
            return self.cluster.service_address(BACKEND)
        if self.drill.is_to_one_pod:
            return self.lb_pod()["status"]["podIP"], LB_PORT
        return self.cluster.service_address(LB)

    def lb_pod(self) -> Object:
        """The LB pod that gets the load, in drills that are about one."""
        return min(self.cluster.pods(LB), key=lambda pod: str(pod["metadata"]["name"]))

    def run(self, *, is_plain: bool) -> None:
        cluster, name = self.cluster, self.drill.name
        cluster.wait_for_rollout(LB)
        cluster.fresh_backends(self.drill.style)
        prefix = name.replace("-", "") + "p" * is_plain
        self.endpoints = Endpoints(cluster.kubectl, cluster.backend_namespace, SERVICE)
        self.deliveries = Deliveries(cluster.kubectl, cluster.backend_namespace, BACKEND.selector, prefix)
        self.load = Load(*self._address(is_plain=is_plain), prefix)
        in_front = Endpoints(cluster.kubectl, cluster.namespace, LB.name)
        with ExitStack() as stack:
            in_front.start()
            stack.callback(in_front.stop)
            self.endpoints.start()
            stack.callback(self.endpoints.stop)
            self.deliveries.start()
            stack.callback(self._stop_load)
            self.wait_for_backends(BACKEND.replicas)
            begun = time.monotonic()
            self.load.start()
            self.run_on(WARM_UP)
            try:
                self.drill.play(self)
                self.run_on(WARM_UP)
            except DrillError as error:
                self.result.faults.append(str(error))
        if in_front.went_dark and not (is_plain or self.drill.is_to_one_pod):
            at = in_front.went_dark[0] - begun
            self.proof(
                f"after {at:.0f} s podlb's own Service had no ready endpoint: kube-proxy drops what comes to it then"
            )
        turned = [ready for ready in self.endpoints.turned_ready if ready.at > begun]
        self.result.first_answers = first_answers(turned, self.requests, self.readings)
        judge(self.result, self.drill.bounds, self.requests, self.readings)
        for check in self._after:
            check()
        if self.load.unasked:
            self.result.faults.append(f"{self.load.unasked} connections had bytes that nobody asked for")
        if self.load.lateness > 0.2:
            self.proof(f"the load generator itself was up to {self.load.lateness * 1000:.0f} ms late")

    def _stop_load(self) -> None:
        self.requests = list(self.load.stop())
        self.readings = self.deliveries.stop()


def play(drill: Drill, cluster: Cluster, faults: Faults | None, *, is_plain: bool = False) -> Result:
    """Play one drill and return what it came to."""
    result = Result(drill.name, "Service" if is_plain else "podlb")
    if drill.needs_faults and faults is None:
        result.skipped = NO_DRIVER
        return result
    begun = time.monotonic()
    try:
        Stage(cluster, faults, drill, result).run(is_plain=is_plain)
    except DrillError as error:
        result.faults.append(str(error))
    print(f"  {result.name} by {result.via}: {time.monotonic() - begun:.0f} s", file=sys.stderr)
    return result


def pods_of(stage: Stage, workload: Workload) -> set[str]:
    """The uids of the pods that are there now."""
    return {pod["metadata"]["uid"] for pod in stage.cluster.pods(workload)}
