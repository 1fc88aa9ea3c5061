"""What was deployed, and what a drill does to it by kubectl."""

from __future__ import annotations

import json
import re
import time
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from tests.drills.drivers import PROGRAM_PAUSE, wait_until
from tests.drills.kubectl import DrillError, Kubectl, Object

ROOT = Path(__file__).parents[2]
BASE = ROOT / "deploy/base"
TWO_NAMESPACES = ROOT / "deploy/overlays/two-namespaces"
FIELD_MANAGER = "podlb-drills"
SERVICE = "backend-service"
ROLLOUT = 120.0
"""Seconds within which a Deployment must have become what was asked for."""


class Workload(NamedTuple):
    """A Deployment of ours: its name is that of its container."""

    name: str
    selector: str
    replicas: int


LB = Workload("lb", "app.kubernetes.io/name=podlb-lb", 2)
BACKEND = Workload("backend", "app.kubernetes.io/name=podlb-backend", 3)


class Style(StrEnum):
    """How backends take SIGTERM."""

    POLITE = "polite"
    """Serving on for a while, then finishing what is in flight."""
    RUDE = "rude"
    """Gone at once."""


_CONFIGURATION: dict[Style, dict[str, object]] = {
    Style.POLITE: {"drainDelay": 5},
    Style.RUDE: {"onSigterm": "exit"},
}


def is_ready(pod: Object) -> bool:
    """Does its pod say that it is ready, and is it to stay?"""
    conditions = pod["status"].get("conditions") or []
    ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


def restarts(pod: Object) -> int:
    """How often its containers were started again."""
    return sum(status["restartCount"] for status in pod["status"].get("containerStatuses") or [])


class Cluster:
    """The Deployments `lb` in one namespace and `backend` in another, or in the same."""

    def __init__(self, kubectl: Kubectl, namespace: str, backend_namespace: str | None = None) -> None:
        self.kubectl = kubectl
        self.namespace = namespace
        self.backend_namespace = backend_namespace or namespace

    def namespace_of(self, workload: Workload) -> str:
        return self.backend_namespace if workload is BACKEND else self.namespace

    def run(self, workload: Workload, *arguments: str, stdin: str | None = None, seconds: float = 60.0) -> str:
        """kubectl in the namespace of a workload."""
        return self.kubectl.run(f"--namespace={self.namespace_of(workload)}", *arguments, stdin=stdin, seconds=seconds)

    def json(self, workload: Workload, *arguments: str) -> Any:
        return self.kubectl.json(f"--namespace={self.namespace_of(workload)}", *arguments)

    # What is there

    def require(self) -> None:
        """DrillError that says what to do when it was not deployed."""
        for workload in (LB, BACKEND):
            try:
                self.run(workload, "get", "deployment", workload.name)
            except DrillError as error:
                raise DrillError(
                    f"{error}; deploy it first (deploy/kind/kind.sh deploy), or name its namespace (--namespace)"
                ) from None

    def pods(self, workload: Workload) -> list[Object]:
        items: list[Object] = self.json(workload, "get", "pods", "--selector", workload.selector)["items"]
        return items

    def pod(self, workload: Workload, name: str) -> Object:
        item: Object = self.json(workload, "get", "pod", name)
        return item

    def service_address(self, workload: Workload) -> tuple[str, int]:
        """Address and port of the Service in front of a workload."""
        service = self.json(workload, "get", "service", SERVICE if workload is BACKEND else LB.name)
        return service["spec"]["clusterIP"], service["spec"]["ports"][0]["port"]

    # What is done to it

    def scale(self, workload: Workload, replicas: int) -> None:
        self.run(workload, "scale", f"deployment/{workload.name}", f"--replicas={replicas}")

    def restart(self, workload: Workload) -> None:
        self.run(workload, "rollout", "restart", f"deployment/{workload.name}")

    def delete(self, workload: Workload, pod: str, *, is_forced: bool = False) -> None:
        """Delete a pod; forced: the API server forgets it at once."""
        forced = ("--grace-period=0", "--force") if is_forced else ()
        self.run(workload, "delete", "pod", pod, "--wait=false", *forced)

    def rollout_status(self, workload: Workload) -> None:
        """Return when all pods of the Deployment are new; some of the old may be on their way out."""
        self.run(
            workload,
            *("rollout", "status", f"deployment/{workload.name}", f"--timeout={ROLLOUT:g}s"),
            seconds=ROLLOUT + 10,
        )

    def wait_for_rollout(self, workload: Workload) -> None:
        """Return when all pods of the Deployment are new and ready, and the old are gone."""
        replicas = workload.replicas
        self.rollout_status(workload)

        def is_done() -> bool:
            pods = self.pods(workload)
            return len(pods) == replicas and all(map(is_ready, pods))

        wait_until(is_done, f"{replicas} ready pods of {workload.name} and no others", ROLLOUT, pause=PROGRAM_PAUSE)

    # Before and after a drill

    def fresh_backends(self, style: Style) -> None:
        """Three new backends that log each request: no restart counts against them, and their logs begin now."""
        config = {"port": 8080, "serviceName": SERVICE, "logRequests": True, **_CONFIGURATION[style]}
        name = f"backend-drill-{style}"
        self._apply_backend(
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {"name": name, "namespace": self.backend_namespace},
                "data": {"config.json": json.dumps(config)},
            }
        )
        self._mount(name)

    def restore_backends(self, config_map: str) -> None:
        """As they were before the drills."""
        self._mount(config_map)
        for style in Style:
            self.run(BACKEND, "delete", "configmap", f"backend-drill-{style}", "--ignore-not-found")

    def _apply_backend(self, item: Object) -> None:
        self.run(
            BACKEND,
            *("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "--filename=-"),
            stdin=json.dumps(item),
        )

    def config_map(self) -> str:
        """The ConfigMap that the backends' configuration comes from."""
        name: str = self._config_volume()["configMap"]["name"]
        return name

    def _config_volume(self) -> Object:
        spec = self.json(BACKEND, "get", "deployment", BACKEND.name)["spec"]["template"]["spec"]
        for volume in spec.get("volumes") or []:
            if "configMap" in volume:
                found: Object = volume
                return found
        raise DrillError(f"the Deployment {BACKEND.name} mounts no ConfigMap: deploy it from deploy/base")

    def _mount(self, config_map: str) -> None:
        volume = self._config_volume()["name"]
        annotations = {"podlb/drill": str(time.time_ns())}
        patch = {
            "spec": {
                "replicas": BACKEND.replicas,
                "template": {
                    "metadata": {"annotations": annotations},
                    "spec": {"volumes": [{"name": volume, "configMap": {"name": config_map}}]},
                },
            }
        }
        self.run(BACKEND, "patch", "deployment", BACKEND.name, "--patch", json.dumps(patch))
        self.wait_for_rollout(BACKEND)

    def apply(self, folder: Path) -> None:
        """Apply manifests with the images that run now."""
        rendered = self.kubectl.run("kustomize", str(folder))
        for workload in (LB, BACKEND):
            deployment = self.json(workload, "get", "deployment", workload.name)
            image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
            rendered = re.sub(rf"(image: )\S*podlb-{workload.name}:\S+", rf"\g<1>{image}", rendered)
        self.kubectl.run(
            *("apply", "--server-side", "--force-conflicts", f"--field-manager={FIELD_MANAGER}", "--filename=-"),
            stdin=rendered,
        )
