"""Drills in which Kubernetes, or its user, does something to pods."""

from __future__ import annotations

import time

from tests.drills.cluster import BACKEND, LB, Style, is_ready
from tests.drills.drivers import PROGRAM_PAUSE
from tests.drills.load import Kind
from tests.drills.report import Bounds
from tests.drills.stage import Drill, Stage, pods_of

ENDPOINT_WAIT = 3.0
"""podlb's `endpointWait`: how long a request waits while there is no endpoint."""
CONNECT_TIMEOUT = 1.0
"""podlb's `connectTimeout`: no attempt starts later than this after `endpointWait`."""
ANSWER = 2.0
"""Seconds within which one of 600 that go on at once must be answered: a demo backend takes over 0.5 ms for each."""
SLACK = 0.5
"""Seconds for what is under way when the last endpoint goes."""
FIRST_ANSWER = 0.2
"""Seconds from the first ready pod to the first answer."""


def scale(stage: Stage) -> None:
    """3 → 10 → 1 → 3."""
    for count in (10, 1, 3):
        stage.cluster.scale(BACKEND, count)
        stage.wait_for_backends(count)
        stage.proof(f"{count} pods were ready, and all endpoints were theirs")
        stage.run_on(2)


def delete(stage: Stage) -> None:
    """Delete one pod in order, and one by force."""
    before = set(stage.backends)
    victim = stage.ready_backends()[0]
    stage.cluster.delete(BACKEND, victim["metadata"]["name"])
    stage.wait(lambda: victim["metadata"]["name"] not in stage.backends, "the end of the deleted pod")
    stage.wait_for_backends(BACKEND.replicas)

    forced = stage.ready_backends()[0]
    name = forced["metadata"]["name"]
    pid = stage.faults.process(forced, BACKEND.name).pid if stage.has_faults else 0
    stage.cluster.delete(BACKEND, name, is_forced=True)
    gone = stage.wait(lambda: name not in stage.backends, "the end of the pod that was deleted by force")
    if pid:
        lives_on = stage.faults.is_there(forced, BACKEND.name, pid)
        stage.proof(f"process {pid} {'lived on' if lives_on else 'was gone'} when the API had forgotten its pod")
        stage.wait(
            lambda: not stage.faults.is_there(forced, BACKEND.name, pid),
            f"the end of process {pid}",
            pause=PROGRAM_PAUSE,
        )
        stage.proof(f"it ended {time.monotonic() - gone:.1f} s later")
    stage.wait_for_backends(BACKEND.replicas)
    new = set(stage.backends) - before
    stage.check(len(new) == 2, f"two pods are new: {', '.join(sorted(new))}")


def rolling(stage: Stage) -> None:
    """Every pod is replaced."""
    before = pods_of(stage, BACKEND)
    stage.cluster.restart(BACKEND)
    stage.cluster.rollout_status(BACKEND)
    stage.wait_for_backends(BACKEND.replicas)
    after = {pod["metadata"]["uid"] for pod in stage.backends.values()}
    stage.check(not before & after, f"all {len(before)} pods were replaced")


def zero(stage: Stage) -> None:
    """To no pod at all, and back."""
    stage.cluster.scale(BACKEND, 0)
    stage.wait(lambda: not stage.backends and not stage.endpoints.states, "the end of all pods and endpoints")
    empty = time.monotonic()
    stage.proof("there was no pod and no endpoint")
    stage.run_on(ENDPOINT_WAIT + 2)
    back = time.monotonic()
    stage.cluster.scale(BACKEND, BACKEND.replicas)
    ready = stage.wait(stage.ready_backends, "a ready pod")
    stage.wait_for_backends(BACKEND.replicas)
    in_slice = min(turned.at for turned in stage.endpoints.turned_ready if turned.at > back)

    def judge() -> None:
        requests = stage.requests
        refused = [request for request in requests if request.status == 503]
        stage.check(bool(refused), f"{len(refused)} requests were answered with 503")
        others = [r for r in requests if r.kind is not Kind.OK and r.status != 503]
        stage.check(not others, f"nothing else than 2xx and 503 ({[(r.id, r.outcome, r.detail) for r in others[:3]]})")
        bare = [request for request in refused if not request.retry_after]
        stage.check(not bare, "every 503 has Retry-After")
        waited = [request.ended - request.written for request in refused]
        shortest, longest = min(waited, default=0), max(waited, default=0)
        stage.check(shortest >= ENDPOINT_WAIT, f"a 503 came after {shortest:.3f} s at the soonest")
        limit = ENDPOINT_WAIT + CONNECT_TIMEOUT + ANSWER
        slowest = max(r.ended - r.written for r in requests)
        stage.check(slowest <= limit, f"nothing took longer than {slowest:.3f} s; a 503 {longest:.3f} s")
        idle = [r for r in requests if r.kind is Kind.OK and empty + SLACK < r.ended < back]
        stage.check(not idle, "while there was no endpoint nothing was answered with 2xx")
        first = min((r.ended for r in requests if r.kind is Kind.OK and r.ended > back), default=float("inf"))
        text = (
            f"the first 2xx came {(first - ready) * 1000:.0f} ms after the first pod was ready, "
            f"{(first - in_slice) * 1000:.0f} ms after the first endpoint was"
        )
        stage.check(first - ready <= FIRST_ANSWER, text)

    stage.afterwards(judge)


def lb_pods(stage: Stage) -> None:
    """Every LB pod is replaced, then one is deleted."""
    before = pods_of(stage, LB)
    stage.cluster.restart(LB)
    stage.cluster.wait_for_rollout(LB)
    restarted = pods_of(stage, LB)
    stage.check(not before & restarted, f"all {len(before)} LB pods were replaced")
    victim = stage.lb_pod()["metadata"]
    stage.cluster.delete(LB, victim["name"])

    def is_replaced() -> bool:
        pods = stage.cluster.pods(LB)
        uids = {pod["metadata"]["uid"] for pod in pods}
        return victim["uid"] not in uids and len(pods) == LB.replicas and all(map(is_ready, pods))

    stage.wait(is_replaced, f"another pod than {victim['name']}", pause=PROGRAM_PAUSE)
    stage.proof(f"{victim['name']} was deleted and replaced")


def delete_elsewhere(stage: Stage) -> None:
    """Delete one pod, in another namespace than the LB's."""
    cluster = stage.cluster
    stage.check(
        cluster.namespace != cluster.backend_namespace,
        f"LB in {cluster.namespace}, backends in {cluster.backend_namespace}",
    )
    before = set(stage.backends)
    victim = stage.ready_backends()[0]["metadata"]["name"]
    cluster.delete(BACKEND, victim)
    stage.wait(lambda: victim not in stage.backends, "the end of the deleted pod")
    stage.wait_for_backends(BACKEND.replicas)
    stage.check(len(set(stage.backends) - before) == 1, f"{victim} was replaced")


DRILLS = (
    Drill("scale", "scale 3→10→1→3", scale, Bounds()),
    Drill("delete", "delete a pod; force-delete another", delete, Bounds()),
    Drill("rolling", "rolling restart, polite backends", rolling, Bounds()),
    Drill(
        "rude",
        "rolling restart, rude backends that exit at once",
        rolling,
        Bounds(post=5 * BACKEND.replicas, post_per_process=5, is_cut_apart=True),
        style=Style.RUDE,
    ),
    Drill("zero", "scale to 0 and back", zero, Bounds(get=None, post=None)),
    Drill("lb-pods", "rolling restart and deletion of an LB pod", lb_pods, Bounds(), is_about_lb=True),
)

ELSEWHERE = Drill(
    "two-namespaces", "delete a pod; LB and backends in two namespaces", delete_elsewhere, Bounds(), is_about_lb=True
)
