"""What the behaviour tests ask of a control plane, whichever it is: ours, or the real one."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any, Protocol

import yaml

from tests.controlplane.apiserver import ApiServer
from tests.controlplane.client import ApiClient
from tests.controlplane.kubeconfig import write_kubeconfig
from tests.controlplane.objects import ENDPOINTS, RESOURCES, SLICES, Object, resource_of
from tests.controlplane.real import RealServer, program
from tests.eventloop import certificates
from tests.fakes import eventually
from tests.integration.processes import ROOT

ACCOUNT = "lb"
BASE = ROOT / "deploy" / "base"
OVERLAY = ROOT / "deploy" / "overlays" / "endpoints"

_numbers = itertools.count(1)


class Plane(Protocol):
    """A namespace of a control plane, and the user in it that podlb is: it may list and watch."""

    namespace: str

    @property
    def client(self) -> ApiClient:
        """A client with podlb's token."""

    def put(self, *objects: Object) -> None:
        """Create or replace objects."""

    def delete(self, *names: str, plural: str = SLICES.plural) -> None:
        """Delete objects."""

    def permit(self, *verbs: str, plural: str = SLICES.plural) -> None:
        """Let podlb do these things with that resource, and nothing else; return when it is so."""

    def permit_older_api(self) -> None:
        """Let podlb do what the overlay for the Endpoints API lets it do."""

    def kubeconfig(self, path: Path, namespace: str | None = None) -> Path:
        """Write podlb's kubeconfig."""

    def stop(self) -> None:
        """Kill the API server."""

    def start(self) -> None:
        """Start it again; return when it is ready."""

    def freeze(self) -> None:
        """Let the API server stand still."""

    def thaw(self) -> None:
        """Let it go on."""


class FakePlane:
    """The API server of the tests."""

    def __init__(self, server: ApiServer) -> None:
        self.server = server
        self.namespace = "podlb"
        self.stop, self.start = server.stop, server.start
        self.freeze, self.thaw = server.freeze, server.thaw

    @property
    def client(self) -> ApiClient:
        return ApiClient(self.server.url, certificates.authority_pem(), next(iter(self.server.tokens)))

    def put(self, *objects: Object) -> None:
        self.server.put(self.namespace, *objects)

    def delete(self, *names: str, plural: str = SLICES.plural) -> None:
        self.server.delete(self.namespace, *names, plural=plural)

    def permit(self, *verbs: str, plural: str = SLICES.plural) -> None:
        self.server.rules = {(verb, plural) for verb in verbs}

    def permit_older_api(self) -> None:
        self.permit("list", "watch", plural=ENDPOINTS.plural)

    def kubeconfig(self, path: Path, namespace: str | None = None) -> Path:
        return self.server.kubeconfig(path, namespace)


class RealPlane:
    """A namespace of its own on a real API server, with podlb's service account and the Role of deploy/base in it."""

    def __init__(self, server: RealServer) -> None:
        self.server = server
        self.namespace = f"tests-{next(_numbers)}"
        self.stop, self.start = server.stop, server.start
        self.freeze, self.thaw = server.freeze, server.thaw
        self._admin = server.admin
        self._where = f"/api/v1/namespaces/{self.namespace}"
        self._rbac = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{self.namespace}"
        self._admin.call("POST", "/api/v1/namespaces", _named("v1", "Namespace", self.namespace)).expect()
        self._admin.call("POST", f"{self._where}/serviceaccounts", _named("v1", "ServiceAccount", ACCOUNT)).expect()
        binding = _named("rbac.authorization.k8s.io/v1", "RoleBinding", ACCOUNT) | {
            "subjects": [{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": self.namespace}],
            "roleRef": {"kind": "Role", "name": ACCOUNT, "apiGroup": "rbac.authorization.k8s.io"},
        }
        self._set_rules(rules_of(BASE))
        self._admin.call("POST", f"{self._rbac}/rolebindings", binding).expect()
        self.token = self.make_token()
        self._wait_for_rules(SLICES.plural, {"list", "watch"})

    @property
    def client(self) -> ApiClient:
        return self._admin.with_token(self.token)

    def make_token(self, bound_to: str | None = None) -> str:
        """Have a token made for the service account; it is good as long as the Secret `bound_to` is there."""
        spec: Object = {"expirationSeconds": 3600}
        if bound_to is not None:
            secret = self._admin.call("POST", f"{self._where}/secrets", _named("v1", "Secret", bound_to)).expect()
            uid = secret["metadata"]["uid"]
            spec["boundObjectRef"] = {"kind": "Secret", "apiVersion": "v1", "name": bound_to, "uid": uid}
        request = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec}
        path = f"{self._where}/serviceaccounts/{ACCOUNT}/token"
        return str(self._admin.call("POST", path, request).expect()["status"]["token"])

    def revoke(self, bound_to: str) -> None:
        """Let the token that is bound to a Secret be good no more."""
        self._admin.call("DELETE", f"{self._where}/secrets/{bound_to}").expect()

    def put(self, *objects: Object) -> None:
        for obj in objects:
            path = f"{resource_of(obj).path(self.namespace)}/{obj['metadata']['name']}"
            content_type = "application/apply-patch+yaml"
            self._admin.call(
                "PATCH", path, obj, content_type=content_type, fieldManager="tests", force="true"
            ).expect()  # fmt: skip

    def delete(self, *names: str, plural: str = SLICES.plural) -> None:
        for name in names:
            self._admin.call("DELETE", f"{RESOURCES[plural].path(self.namespace)}/{name}").expect()

    def permit(self, *verbs: str, plural: str = SLICES.plural) -> None:
        rule = {"apiGroups": [RESOURCES[plural].group], "resources": [plural], "verbs": list(verbs)}
        self._set_rules([rule] if verbs else [])
        self._wait_for_rules(plural, set(verbs))

    def permit_older_api(self) -> None:
        self._set_rules(rules_of(OVERLAY))
        self._wait_for_rules(ENDPOINTS.plural, {"list", "watch"})

    def _set_rules(self, rules: list[Any]) -> None:
        role = _named("rbac.authorization.k8s.io/v1", "Role", ACCOUNT) | {"rules": rules}
        path = f"{self._rbac}/roles/{ACCOUNT}"
        content_type = "application/apply-patch+yaml"
        self._admin.call("PATCH", path, role, content_type=content_type, fieldManager="tests", force="true").expect()

    def _wait_for_rules(self, plural: str, verbs: set[str]) -> None:
        """Wait until the API server, which watches Roles as well, keeps to them."""

        def allowed(verb: str) -> bool:
            path = RESOURCES[plural].path(self.namespace)
            query = {"watch": "1", "timeoutSeconds": "0"} if verb == "watch" else {"limit": "1"}
            with self.client.stream(path, **query) as answer:
                assert answer.status in (200, 403), answer.status
                return answer.status == 200

        eventually(lambda: {verb for verb in ("list", "watch") if allowed(verb)} == verbs, f"{verbs} alone allowed")

    def kubeconfig(self, path: Path, namespace: str | None = None) -> Path:
        return write_kubeconfig(path, self.server.url, self.server.authority, self.token, namespace)


def rules_of(folder: Path) -> list[Any]:
    """Return the rules of the one Role in the manifests that kustomize makes of `folder`."""
    made = subprocess.run([program("kubectl"), "kustomize", folder], check=True, capture_output=True, text=True)
    roles = [document for document in yaml.safe_load_all(made.stdout) if document["kind"] == "Role"]
    assert len(roles) == 1, f"{folder} has {len(roles)} Roles, not one"
    rules: list[Any] = roles[0]["rules"]
    return rules


def _named(version: str, kind: str, name: str) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}}
