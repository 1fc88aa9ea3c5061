"""Drills in which something dies, freezes or falls silent."""

from __future__ import annotations

import threading
import time

from tests.drills.cluster import BACKEND, LB, is_ready, restarts
from tests.drills.drivers import PROGRAM_PAUSE
from tests.drills.faults import container_id
from tests.drills.kubectl import Object
from tests.drills.load import Kind
from tests.drills.report import Bounds, Slow
from tests.drills.stage import Drill, Stage

BACKEND_PORT = 8080
OUTAGE = 30.0
"""Seconds without an API server."""
API_START = 4.0
"""Seconds that an API server takes to start: they count. Later the node is given up, and kube-proxy drops podlb."""
LOG_GOES_ON = 15.0
"""Seconds for which the process of a pod that loses its sandbox may still log."""
SILENCE = 15.0
AFTER_SILENCE = 7.0
KUBELET_AWAY = 120.0
NOT_READY = 90.0
"""Seconds within which Kubernetes gives a node up whose kubelet is dead: 40 to 50 by default."""
CATCH_UP = 90.0
"""Seconds within which the slices are right again after an outage: 43 were seen."""
BACK_IN_ROTATION = 2.0
"""Seconds from a slice that is right to the first answer."""
STARTUP_TIMEOUT = 10.0
"""podlb's `startupTimeout`: how long it waits for an API server before its snapshot serves."""
START = 2.0
"""Seconds that a new LB process may take on top."""


def kill(stage: Stage) -> None:
    """kill -9 of one pod's process after the other."""
    victims = sorted(stage.backends)
    for name in victims:
        before = stage.backends[name]
        pid = stage.faults.kill_process(before, BACKEND.name)
        after = stage.wait_for_restart(before)
        stage.proof(f"{name}: process {pid} is gone, its container was started again ({restarts(after)})")
        stage.wait_for_backends(BACKEND.replicas)
        stage.run_on(2)


def silent(stage: Stage) -> None:
    """A pod drops what comes to it, but for the probes."""
    victim = stage.ready_backends()[0]
    name = victim["metadata"]["name"]
    with stage.faults.silence(victim, BACKEND.name, BACKEND_PORT) as silence:
        stage.run_on(SILENCE)
        now = stage.backends.get(name)
        stage.check(
            now is not None and is_ready(now) and restarts(now) == restarts(victim),
            f"{name} was ready all the while, and was not started again",
        )
    sound = time.monotonic()
    stage.check(silence.connections > 0, f"{silence.connections} connections to it were open")
    stage.check(silence.dropped > 0, f"it dropped {silence.dropped} packets")
    # No longer: the share of slow requests is one of all that were sent.
    stage.run_on(AFTER_SILENCE)

    def judge() -> None:
        back = stage.answers_of(name, sound)
        # Set aside for 1 s at first, and twice as long with each attempt in vain: for up to 30 s.
        when = f"not within {AFTER_SILENCE:g} s" if back is None else f"{back - sound:.1f} s"
        stage.proof(f"it answers again {when} after the end of it")

    stage.afterwards(judge)


def frozen_api(stage: Stage) -> None:
    """The API server is frozen, and a process is killed meanwhile."""
    victim = stage.ready_backends()[0]
    begun = time.monotonic()
    with stage.faults.frozen_api():
        stage.run_on(3)
        pid = stage.faults.kill_process(victim, BACKEND.name)
        stage.proof(f"the API server did not answer; process {pid} of {victim['metadata']['name']} is gone")
        stage.run_on(max(1.0, OUTAGE - (time.monotonic() - begun)))
    stage.proof(f"frozen for {time.monotonic() - begun:.0f} s")
    stage.wait_for_restart(victim)
    stage.wait_for_backends(BACKEND.replicas)


def killed_api(stage: Stage) -> None:
    """The API server is killed, and a pod loses its address meanwhile."""
    victim = stage.ready_backends()[0]
    name, address = victim["metadata"]["name"], victim["status"]["podIP"]
    begun = time.monotonic()
    with stage.faults.killed_api():
        stage.run_on(2)
        # kubelet removes the log together with the sandbox, and kubectl has no way to it without an API server.
        log = threading.Thread(
            target=lambda: stage.deliveries.readings.reading(name, stage.faults.log(victim, BACKEND.name, LOG_GOES_ON))
        )
        log.start()
        pid = stage.faults.kill_sandbox(victim)
        stage.proof(f"the API server was gone; process {pid}, which held the address {address} of {name}, is gone")
        stage.run_on(max(1.0, OUTAGE - API_START - (time.monotonic() - begun)))
        log.join()
    stage.proof(f"the API server was away for {time.monotonic() - begun:.0f} s")

    def new_address() -> str:
        pod: Object = stage.backends[name]
        is_new = is_ready(pod) and container_id(pod, BACKEND.name) != container_id(victim, BACKEND.name)
        return pod["status"].get("podIP", "") if is_new and pod["status"].get("podIP") != address else ""

    stage.wait(new_address, f"another address for {name}", CATCH_UP)

    def turned_ready() -> list[float]:
        return [ready.at for ready in stage.endpoints.turned_ready if ready.key.address == new_address()]

    # The pod is the same, so until then its old address stands there as ready.
    stage.wait(turned_ready, f"a slice with {new_address()}", CATCH_UP)
    stage.wait_for_backends(BACKEND.replicas)
    is_right = turned_ready()[0]
    stage.proof(f"the slice has its new address {new_address()}")
    stage.run_on(BACK_IN_ROTATION + 1)

    def judge() -> None:
        back = stage.answers_of(name, is_right)
        took = float("inf") if back is None else back - is_right
        stage.check(took <= BACK_IN_ROTATION, f"it answers {took:.2f} s after the slice was right")

    stage.afterwards(judge)


def dead_kubelet(stage: Stage) -> None:
    """Every endpoint turns not ready, and every pod is healthy."""
    begun = time.monotonic()
    with stage.faults.dead_kubelet():
        at = stage.wait(lambda: not stage.endpoints.ready, "slices without a ready endpoint", NOT_READY)
        states = stage.endpoints.states
        stage.check(len(states) == BACKEND.replicas, f"{len(states)} endpoints, none ready after {at - begun:.0f} s")
        stage.run_on(max(1.0, KUBELET_AWAY - (time.monotonic() - begun)))
        stage.check(not stage.endpoints.ready, f"still none ready after {time.monotonic() - begun:.0f} s")
    stage.wait_for_backends(BACKEND.replicas)
    for pod in stage.backends.values():
        stage.check(not restarts(pod), f"{pod['metadata']['name']} was never started again")


def lb_killed(stage: Stage) -> None:
    """The LB's process is killed while the API server is frozen: its snapshot serves."""
    pod = stage.lb_pod()
    before = time.monotonic()
    with stage.faults.frozen_api():
        pid = stage.faults.kill_process(pod, LB.name)
        stage.run_on(STARTUP_TIMEOUT + START + 8)
    name = pod["metadata"]["name"]
    stage.wait(lambda: restarts(stage.cluster.pod(LB, name)) > restarts(pod), "the news of it", pause=PROGRAM_PAUSE)
    after = stage.cluster.pod(LB, name)
    stage.check(
        restarts(after) == restarts(pod) + 1 and after["status"]["podIP"] == pod["status"]["podIP"],
        f"process {pid} is gone, its container was started again, at the same address {pod['status']['podIP']}",
    )
    process = stage.faults.process(after, LB.name)
    started = time.monotonic() - process.age
    stage.check(started > before, f"the new process started {started - before:.1f} s after the API server froze")
    stage.run_on(5)
    stage.wait(lambda: is_ready(stage.cluster.pod(LB, name)), "a ready LB pod", pause=PROGRAM_PAUSE)
    log = stage.cluster.run(LB, "logs", name)
    stage.check("snapshot" in log, "its log says that the snapshot serves")

    def judge() -> None:
        first = min((r.ended for r in stage.requests if r.kind is Kind.OK and r.due > started), default=float("inf"))
        limit = STARTUP_TIMEOUT + START
        stage.check(first - started <= limit, f"the first 2xx came {first - started:.1f} s after its start")
        lost = [r for r in stage.requests if r.due > first and r.kind is not Kind.OK]
        examples = "; ".join(f"{r.id} {r.outcome} {r.detail}" for r in lost[:3])
        stage.check(not lost, f"{len(lost)} requests were lost after that {examples}".strip())

    stage.afterwards(judge)


DRILLS = (
    Drill(
        "kill",
        "kill -9 of three different pods' processes",
        kill,
        Bounds(post=5 * BACKEND.replicas, post_per_process=5, is_cut_apart=True),
        needs_faults=True,
    ),
    Drill(
        "silent",
        f"a pod drops packets for {SILENCE:g} s",
        silent,
        Bounds(post=50, is_cut_apart=True, slow=Slow(0.9, 0.02)),
        needs_faults=True,
    ),
    Drill(
        "api-frozen",
        f"API server frozen {OUTAGE:g} s, a process killed meanwhile",
        frozen_api,
        Bounds(post=5, is_cut_apart=True),
        needs_faults=True,
    ),
    Drill(
        "api-killed",
        f"API server killed {OUTAGE:g} s, a pod loses its address meanwhile",
        killed_api,
        Bounds(post=50, is_cut_apart=True),
        needs_faults=True,
        is_to_one_pod=True,
    ),
    Drill(
        "kubelet",
        "kubelet dead for 2 minutes",
        dead_kubelet,
        Bounds(),
        needs_faults=True,
        is_to_one_pod=True,
    ),
    Drill(
        "lb-killed",
        "the LB's process killed while the API server is frozen",
        lb_killed,
        Bounds(get=None, post=None, is_cut_apart=True),
        needs_faults=True,
        is_to_one_pod=True,
        is_about_lb=True,
    ),
)
