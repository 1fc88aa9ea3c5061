"""How the source for Kubernetes starts, and how a start comes to nothing, with a snapshot file and without."""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest
import yaml

from lb.config import Config
from lb.discovery import DiscoveryError
from lb.discovery.apiserver import NoClusterError
from lb.discovery.kubernetes import KubernetesSource
from lb.discovery.snapshot_file import SnapshotFile
from lb.discovery.status import SyncStatus
from lb.discovery.watcher import TRANSIENT_SECONDS, Failure, Trouble
from lb.endpoint import Snapshot, make_endpoint
from tests.discovery.kubernetes_fakes import END, OPEN, MakeRig, Rig, line, logged, page, until, warned
from tests.discovery.slices import endpoint, endpoint_slice
from tests.fakes import DEADLINE

A, B = endpoint("10.0.0.1", "a", ready=True), endpoint("10.0.0.2", "b", ready=True)
SAVED = make_endpoint("10.0.0.9", 8080, name="saved", uid="s")
SERVICE = "shop/backend-service:8080"
SOON = 0.05
UNREACHABLE = Failure(Trouble.UNREACHABLE, "Connection refused")

pytestmark = pytest.mark.asyncio


async def failure(it: Rig, *answers: object) -> str:
    """Start, and return why that failed."""
    with pytest.raises(DiscoveryError) as found:
        await it.start(*answers)
    assert it.published == []
    assert it.source._is_over.is_set(), "nothing goes on"
    assert "\n" not in str(found.value)
    return str(found.value)


class TestFailure:
    async def test_nothing_to_ask(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        it.places = [NoClusterError("there is no Kubernetes: set backends")]
        assert await failure(it) == "there is no Kubernetes: set backends"

    async def test_a_fault_of_ours_is_told(self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
        it = kubernetes()
        it.places = [ZeroDivisionError("oops")]
        assert await failure(it) == "following the Kubernetes API failed: ZeroDivisionError('oops')"
        assert logged(caplog, logging.ERROR) == ["following the Kubernetes API failed"]

    async def test_no_answer_in_time(self, kubernetes: MakeRig) -> None:
        it = kubernetes(startup_timeout=SOON)
        assert await failure(it) == (
            "the Kubernetes API at https://fake: it did not answer; no list of endpoints "
            "within startupTimeout (0.05 s): check that the API server can be reached, and kubeconfig"
        )

    async def test_the_last_failure_is_told(self, kubernetes: MakeRig) -> None:
        it = kubernetes(startup_timeout=SOON)
        assert (await failure(it, UNREACHABLE)).startswith(
            "the Kubernetes API at https://fake: Connection refused; no "
        )

    async def test_it_ends_before_the_time_is_over(self, kubernetes: MakeRig) -> None:
        # The process has to exit within startupTimeout.
        it = kubernetes(startup_timeout=1.0)
        began = time.monotonic()
        await failure(it)
        assert time.monotonic() - began < 1.0

    async def test_no_permission_to_list_is_told_after_a_moment(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        refusal = Failure(Trouble.FORBIDDEN, 'User "jane" cannot list resource "endpointslices"')
        assert await failure(it, *[refusal] * 12) == (
            "no permission to list endpointslices.discovery.k8s.io in namespace shop: grant it with: "
            "kubectl -n shop create role podlb --verb=list,watch --resource=endpointslices.discovery.k8s.io && "
            "kubectl -n shop create rolebinding podlb --role=podlb --user=jane"
        )
        assert sum(it.pauses) >= 3.0

    async def test_of_the_older_api_too(self, kubernetes: MakeRig) -> None:
        it = kubernetes(endpoints_api="endpoints")
        text = await failure(it, *[Failure(Trouble.FORBIDDEN)] * 12)
        assert text.startswith("no permission to list endpoints in namespace shop: ")

    async def test_a_403_that_passes_is_no_failure(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(*[Failure(Trouble.FORBIDDEN)] * 3, page(endpoint_slice(A)))
        assert it.names == ["pod-a"]

    async def test_credentials_that_are_not_accepted(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        assert await failure(it, *[Failure(Trouble.UNAUTHORIZED, "Unauthorized")] * 12) == (
            "the Kubernetes API at https://fake: Unauthorized: the credentials are not accepted: "
            "check the token, or the kubeconfig"
        )

    async def test_a_401_after_a_while_without_the_api_is_not_yet_that(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        unauthorized = Failure(Trouble.UNAUTHORIZED, "Unauthorized")
        await it.start(*[UNREACHABLE] * 14, unauthorized, page(endpoint_slice(A)))
        assert sum(it.pauses) > 3.0
        assert it.names == ["pod-a"]

    async def test_whatever_is_wrong_with_a_kubeconfig(self, tmp_path: Path) -> None:
        path = tmp_path / "config"
        cluster = {"server": "https://127.0.0.1:1", "proxy-url": "no-url"}
        content = {
            "clusters": [{"name": "c", "cluster": cluster}],
            "users": [{"name": "u", "user": {"token": "secret"}}],
            "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "x",
        }
        for text in ("a: b: c", yaml.safe_dump(content)):
            path.write_text(text)
            source = KubernetesSource(Config(discovery="kubernetes", kubeconfig=str(path)), SyncStatus())
            published: list[Snapshot] = []
            with pytest.raises(DiscoveryError) as found:
                await source.start(published.append)
            assert published == []
            assert "\n" not in str(found.value)
            assert "secret" not in str(found.value)


class TestSnapshotFile:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "snapshot.json"

    def save(self, path: Path, *endpoints: object, age: float = 100.0, service: str = SERVICE) -> None:
        SnapshotFile(str(path), service, 3600.0, lambda: time.time() - age).save(endpoints)  # type: ignore[arg-type]

    def load(self, path: Path) -> list[str]:
        saved = SnapshotFile(str(path), SERVICE, 3600.0).load()
        assert saved is not None
        assert saved.age() < 60.0
        return [e.name for e in saved.snapshot if e.ready]

    async def test_every_snapshot_is_written(self, kubernetes: MakeRig, path: Path) -> None:
        it = kubernetes(snapshot_file=str(path))
        await it.start(page(endpoint_slice(A)))
        await until(path.exists)
        assert self.load(path) == ["pod-a"]
        it.answer(OPEN, [line("MODIFIED", endpoint_slice(A, B, version="101"))], END)
        await it.asked(3)
        assert self.load(path) == ["pod-a", "pod-b"]

    async def test_it_serves_when_there_is_no_answer(
        self, kubernetes: MakeRig, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.save(path, SAVED)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        began = time.monotonic()
        await it.start(UNREACHABLE)
        assert SOON <= time.monotonic() - began < SOON + 2.0
        assert it.published == [(SAVED,)]
        assert it.status.snapshot_taken == pytest.approx(it.now - 100.0, abs=5.0)
        assert warned(caplog)[-1].startswith(
            "the Kubernetes API at https://fake: Connection refused: serving 1 endpoints from snapshotFile, which is 10"
        )
        # It is not written anew as if it were known to be right.
        saved = SnapshotFile(str(path), SERVICE, 3600.0).load()
        assert saved is not None
        assert saved.age() >= 100.0

    async def test_until_there_is_a_list(self, kubernetes: MakeRig, path: Path) -> None:
        self.save(path, SAVED)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        await it.start(UNREACHABLE)
        it.answer(page(endpoint_slice(A)), OPEN, END)
        await it.until_published("saved", "pod-a")
        assert it.status.snapshot_taken is None
        await it.asked(4)
        assert self.load(path) == ["pod-a"]

    async def test_also_an_empty_one(self, kubernetes: MakeRig, path: Path) -> None:
        self.save(path, SAVED)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        await it.start()
        it.answer(page())
        await it.until_published("saved", "")

    async def test_a_list_that_says_the_same_is_a_list(self, kubernetes: MakeRig, path: Path) -> None:
        first = kubernetes(snapshot_file=str(path))
        await first.start(page(endpoint_slice(A)), OPEN)
        await until(path.exists)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        await it.start()
        assert it.status.snapshot_taken is not None
        it.answer(page(endpoint_slice(A)))
        await until(lambda: it.status.snapshot_taken is None)
        assert it.names == ["pod-a"]

    async def test_with_an_answer_in_time_it_is_not_needed(self, kubernetes: MakeRig, path: Path) -> None:
        self.save(path, SAVED)
        it = kubernetes(snapshot_file=str(path))
        await it.start(UNREACHABLE, page(endpoint_slice(A)))
        assert it.names == ["pod-a"]
        assert it.status.snapshot_taken is None

    async def test_those_that_were_ready_in_it_were_ready(self, kubernetes: MakeRig, path: Path) -> None:
        known = make_endpoint("10.0.0.1", 8080, name="pod-a", uid="a")
        self.save(path, known)
        it = kubernetes(snapshot_file=str(path))
        not_ready = [endpoint(f"10.0.0.{n}", uid, ready=False) for n, uid in ((1, "a"), (2, "b"))]
        await it.start(page(endpoint_slice(*not_ready)))
        assert [(e.uid, e.was_ready) for e in it.published[0]] == [("a", True), ("b", False)]

    @pytest.mark.parametrize("what", ["too old", "another service's", "damaged", "none"])
    async def test_one_of_no_use_is_as_none(self, kubernetes: MakeRig, path: Path, what: str) -> None:
        if what == "damaged":
            path.write_text("{")
        elif what != "none":
            service = SERVICE if what == "too old" else "shop/other:8080"
            self.save(path, SAVED, age=4000.0 if what == "too old" else 1.0, service=service)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        assert "no list of endpoints within startupTimeout" in await failure(it)

    async def test_one_that_grew_too_old_meanwhile(self, kubernetes: MakeRig, path: Path) -> None:
        self.save(path, SAVED, age=3600.0 - SOON / 2)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        assert "no list of endpoints within startupTimeout" in await failure(it)

    async def test_no_permission_is_a_failure_all_the_same(self, kubernetes: MakeRig, path: Path) -> None:
        self.save(path, SAVED)
        it = kubernetes(snapshot_file=str(path))
        text = await failure(it, *[Failure(Trouble.FORBIDDEN)] * 12)
        assert text.startswith("no permission to list ")

    @pytest.mark.parametrize("trouble", [Trouble.FORBIDDEN, Trouble.UNAUTHORIZED])
    async def test_a_refusal_behind_an_outage_is_no_reason_to_fail(
        self, kubernetes: MakeRig, path: Path, trouble: Trouble
    ) -> None:
        """An API server that just came back refuses its first requests."""
        self.save(path, SAVED)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        await it.start(UNREACHABLE, *[Failure(trouble)] * 2)
        assert it.names == ["saved"]
        assert it.now < 1000.0 + TRANSIENT_SECONDS

    async def test_a_refusal_that_lasts_is(self, kubernetes: MakeRig, path: Path) -> None:
        self.save(path, SAVED)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        text = await failure(it, UNREACHABLE, *[Failure(Trouble.FORBIDDEN)] * 12)
        assert text.startswith("no permission to list ")

    async def test_without_the_permission_it_lives_on_once_it_serves(
        self, kubernetes: MakeRig, path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.save(path, SAVED)
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        await it.start()
        it.answer(*[Failure(Trouble.FORBIDDEN)] * 12, page(endpoint_slice(A)))
        await it.until_published("saved", "pod-a")
        assert any(text.startswith("no permission to list ") for text in logged(caplog, logging.ERROR))


class TestLastMoment:
    """The list comes in the turn of the loop in which the time is over."""

    def hold_up(self, it: Rig) -> None:
        """Let the loop stand still until the list is here and the time is over."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 2 * SOON

        def stand_still() -> None:
            it.answer(page(endpoint_slice(A)))
            deadline = time.monotonic() + DEADLINE
            while loop.time() < end or len(it.server.asked) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.001)

        loop.call_soon(stand_still)

    async def test_it_is_in_time(self, kubernetes: MakeRig) -> None:
        it = kubernetes(startup_timeout=SOON)
        self.hold_up(it)
        await it.start()
        assert it.names == ["pod-a"]

    async def test_the_snapshot_file_does_not_take_its_place(self, kubernetes: MakeRig, tmp_path: Path) -> None:
        path = tmp_path / "snapshot.json"
        SnapshotFile(str(path), SERVICE, 3600.0).save((SAVED,))
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        self.hold_up(it)
        await it.start()
        await until(lambda: it.names and it.names[-1] == "pod-a")
        assert it.status.snapshot_taken is None

    async def test_a_list_on_its_way_follows_the_snapshot_file(self, kubernetes: MakeRig, tmp_path: Path) -> None:
        path = tmp_path / "snapshot.json"
        SnapshotFile(str(path), SERVICE, 3600.0).save((SAVED,))
        it = kubernetes(snapshot_file=str(path), startup_timeout=SOON)
        it.places = []
        saved = it.source._serve_saved

        def serve() -> bool:
            # The thread has a list, but the loop has not heard of it.
            it.answer(page(endpoint_slice(A)))
            deadline = time.monotonic() + DEADLINE
            while len(it.server.asked) < 2:
                assert time.monotonic() < deadline
                time.sleep(0.001)
            return saved()

        it.source._serve_saved = serve  # type: ignore[method-assign]
        await it.start()
        await it.until_published("saved", "pod-a")
        assert it.status.snapshot_taken is None
