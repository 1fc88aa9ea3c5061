"""The source for a Service in Kubernetes: what it asks, publishes and says."""

from __future__ import annotations

import asyncio
import logging
import re

import pytest

from lb.discovery.apiserver import NoClusterError
from lb.discovery.endpointslice import NOT_READY, READY, SERVING, TERMINATING
from lb.discovery.watcher import Failure, Trouble
from lb.endpoint import Snapshot
from tests.discovery.kubernetes_fakes import END, OPEN, MakeRig, line, logged, page, until, warned
from tests.discovery.slices import HTTP, endpoint, endpoint_slice, raw

A, B = endpoint("10.0.0.1", "a", ready=True), endpoint("10.0.0.2", "b", ready=True)
CUT = Failure(Trouble.CUT, "the connection broke")
FORBIDDEN = Failure(Trouble.FORBIDDEN, 'User "system:serviceaccount:podlb:lb" cannot do that')
UNAUTHORIZED = Failure(Trouble.UNAUTHORIZED, "Unauthorized")


@pytest.mark.asyncio
class TestFollowing:
    async def test_the_first_list_is_published_and_then_every_change(
        self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A, name="s-1")))
        assert it.names == ["pod-a"]
        it.answer(OPEN, [line("ADDED", endpoint_slice(B, name="s-2", version="101"))])
        await it.until_published("pod-a", "pod-a pod-b")
        terminating = endpoint("10.0.0.1", "a", ready=False, serving=True, terminating=True)
        it.answer([line("MODIFIED", endpoint_slice(terminating, name="s-1", version="102"))])
        await it.until_published("pod-a", "pod-a pod-b", "pod-b")
        it.answer([line("DELETED", endpoint_slice(terminating, name="s-1", version="103"))])
        await until(lambda: len(it.published) == 4)
        assert [e.name for e in it.published[-1]] == ["pod-b"]
        assert [text for text in logged(caplog) if text.startswith("endpoint")] == [
            "endpoint added: pod pod-a at 10.0.0.1:8080 (ready)",
            "endpoint added: pod pod-b at 10.0.0.2:8080 (ready)",
            "endpoint updated: pod pod-a at 10.0.0.1:8080 (ready -> serving)",
            "endpoint deleted: pod pod-a at 10.0.0.1:8080 (gone)",
        ]
        assert warned(caplog) == []

    async def test_of_very_many_changes_the_rest_is_a_number(
        self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        it = kubernetes()
        many = [endpoint(f"10.0.{at // 250}.{at % 250 + 1}", f"p{at}", ready=True) for at in range(350)]
        await it.start(page(endpoint_slice(*many, name="s-1")))
        assert len(it.published[-1]) == 350
        lines = [text for text in logged(caplog) if "endpoint" in text and text != "endpoints"]
        assert sum(text.startswith("endpoint added: ") for text in lines) == 200
        assert "150 more endpoints were added, updated or deleted" in lines

    async def test_what_is_asked(self, kubernetes: MakeRig) -> None:
        it = kubernetes(backend_service_name="web")
        await it.start(page(version="100", token="more"), page(endpoint_slice(A), version="100"))
        it.answer(OPEN, [line("BOOKMARK", raw({"metadata": {"resourceVersion": "150"}}))], END, CUT)
        await it.asked(4)
        path = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices"
        assert {asked.path for asked in it.server.asked} == {path}
        selector = {"labelSelector": "kubernetes.io/service-name=web"}
        first, second, watch, again = it.server.asked[:4]
        assert (first.parameters, first.read_seconds) == (selector | {"limit": "500"}, 10.0)
        assert second.parameters == selector | {"limit": "500", "continue": "more"}
        seconds = int(watch.parameters["timeoutSeconds"])
        assert 45 <= seconds <= 60
        assert watch.read_seconds == seconds + 10.0
        assert watch.parameters == selector | {
            "watch": "1",
            "resourceVersion": "100",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(seconds),
        }
        assert again.parameters["resourceVersion"] == "150"

    async def test_the_older_api(self, kubernetes: MakeRig) -> None:
        it = kubernetes(endpoints_api="endpoints", backend_service_name="web")
        item = raw({"metadata": {"name": "web"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}], "ports": [HTTP]}]})
        await it.start(page(item))
        assert [e.authority for e in it.published[0]] == ["10.0.0.1:8080"]
        assert it.server.asked[0].path == "/api/v1/namespaces/shop/endpoints"
        assert it.server.asked[0].parameters == {"fieldSelector": "metadata.name=web", "limit": "500"}

    @pytest.mark.parametrize(("namespace", "found"), [("shop", "shop"), (None, "of-the-credentials")])
    async def test_which_namespace(self, kubernetes: MakeRig, namespace: str | None, found: str) -> None:
        it = kubernetes(namespace=namespace)
        await it.start(page())
        assert f"/namespaces/{found}/" in it.server.asked[0].path

    async def test_lines_that_come_together_are_one_change(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A, name="s-1")))
        it.answer(OPEN)
        it.answer(
            [
                line("ADDED", endpoint_slice(B, name="s-2", version="101")),
                line("MODIFIED", endpoint_slice(name="s-1", version="102")),
            ]
        )
        await it.until_published("pod-a", "pod-b")

    async def test_what_changes_nothing_is_not_published(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(OPEN, [line("MODIFIED", endpoint_slice(A, version="101"))], [line("NEW", raw({}))], END)
        await it.asked(3)
        assert it.names == ["pod-a"]

    async def test_an_empty_list_is_honoured(self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(OPEN, Failure(Trouble.GONE, "too old"), page(version="200"), OPEN)
        await it.until_published("pod-a", "")
        assert "endpoint deleted: pod pod-a at 10.0.0.1:8080 (gone)" in logged(caplog)

    async def test_no_slice_yet_is_a_start_with_one_warning(
        self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        it = kubernetes(backend_service_name="web")
        await it.start(page())
        assert it.published == [()]
        gone = Failure(Trouble.GONE)
        it.answer(gone, page(), gone, page(), OPEN, [line("ADDED", endpoint_slice(A, version="101"))])
        await it.until_published("", "pod-a")
        about = [text for text in warned(caplog) if "Service" in text]
        assert about == [
            "Service web in namespace shop has no endpoints (is there such a Service?): "
            "requests are answered 503 until it has"
        ]

    @pytest.mark.parametrize(("port", "advice"), [(7000, "it is dialled all the same"), ("web", "set backendPort")])
    async def test_a_port_that_is_not_listed(
        self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture, port: int | str, advice: str
    ) -> None:
        it = kubernetes(backend_port=port)
        await it.start(page(endpoint_slice(A)))
        it.answer(OPEN, [line("MODIFIED", endpoint_slice(B, version="101"))], END)
        await it.asked(3)
        assert warned(caplog) == [f"Service backend-service has no port {port} (it has: 8080 (http)): {advice}"]

    async def test_one_bad_endpoint_hides_no_other(self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(endpoint("x", "x"), A), raw([])))
        assert it.names == ["pod-a"]
        assert [text.partition(":")[0] for text in warned(caplog)] == [
            "EndpointSlice s-1",
            "an EndpointSlice that can't be read",
        ]


@pytest.mark.asyncio
class TestTrouble:
    async def test_losing_the_api_changes_nothing(self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(OPEN, CUT, *[Failure(Trouble.UNREACHABLE, "Connection refused")] * 10, OPEN)
        it.answer([line("MODIFIED", endpoint_slice(A, B, version="101"))])
        await it.until_published("pod-a", "pod-a pod-b")
        assert [asked.is_watch for asked in it.server.asked] == [False] + [True] * 12, "no list"
        assert {asked.parameters.get("resourceVersion") for asked in it.server.asked[1:]} == {"100"}
        texts = [text for text in logged(caplog) if "API" in text]
        assert texts[0] == (
            "the Kubernetes API at https://fake: the connection broke; the endpoints that are known stay in use, "
            "and it is tried again"
        )
        assert re.fullmatch(r"the API server answers again, after [0-9.]+ s", texts[1])
        assert len(texts) == 2, "said once, however long it takes"
        assert it.status.watch_restarts == {"cut": 1, "unreachable": 10}
        assert all(0 < seconds <= 1 for seconds in it.pauses)

    async def test_a_line_that_can_t_be_read_makes_it_list(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A, name="s-1")))
        # What stood in front of it counts.
        it.answer(OPEN, [line("ADDED", endpoint_slice(B, name="s-2", version="101")), b"garbage"])
        await it.until_published("pod-a", "pod-a pod-b")
        it.answer(page(endpoint_slice(B, name="s-2"), version="200"), OPEN)
        await it.until_published("pod-a", "pod-a pod-b", "pod-b")
        assert it.status.watch_restarts == {"garbled": 1}
        assert it.status.relists == 1

    async def test_an_object_that_can_t_be_read_too(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(OPEN, [line("MODIFIED", raw({"metadata": {}}))], page(endpoint_slice(B), version="200"), OPEN)
        await it.until_published("pod-a", "pod-b")

    async def test_a_half_list_is_published_by_nobody(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(Failure(Trouble.GONE), page(endpoint_slice(B, name="s-2"), token="more"), CUT)
        it.answer(page(endpoint_slice(A), endpoint_slice(B, name="s-2"), version="200"), OPEN)
        await it.until_published("pod-a", "pod-a pod-b")
        assert "continue" not in it.server.asked[4].parameters, "from the first page"

    async def test_an_older_list_is_used_with_one_warning(
        self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A), version="500"))
        it.answer(Failure(Trouble.GONE), page(endpoint_slice(B), version="7"), OPEN)
        await it.until_published("pod-a", "pod-b")
        assert (
            "the API server's list is older than what was known (version 7): restored from a backup? It is used"
            in warned(caplog)
        )

    async def test_a_refused_token_is_read_again(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(OPEN, UNAUTHORIZED, OPEN, END)
        await it.asked(4)
        assert it.found == 2
        assert it.server.closed == 1, "also its connections are new"
        assert it.pauses[0] == 0.0
        assert it.server.asked[2].parameters["resourceVersion"] == "100"

    async def test_credentials_that_can_t_be_read_meanwhile_are_no_end(
        self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.places = [NoClusterError("half a file"), NoClusterError("half a file")]
        it.answer(OPEN, UNAUTHORIZED, UNAUTHORIZED, OPEN, [line("MODIFIED", endpoint_slice(B, version="101"))])
        await it.until_published("pod-a", "pod-b")
        assert warned(caplog).count("half a file") == 1

    async def test_refused_credentials_are_told_of_once_a_minute(
        self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(*[UNAUTHORIZED] * 130, OPEN, END)
        await it.asked(133)
        errors = logged(caplog, logging.ERROR)
        seconds = sum(it.pauses)
        assert 60 < seconds < 140
        assert len(errors) == 1 + int((seconds - 3.0) // 60)
        assert set(errors) == {
            "the Kubernetes API at https://fake: Unauthorized: the credentials are not accepted: "
            "check the token, or the kubeconfig"
        }

    async def test_without_the_permission_to_watch_it_lists(
        self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture
    ) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        lists = 0
        for count in range(2, 200):
            asked = await it.asked(count)
            if not asked.is_watch:
                lists += 1
                it.answer(page(endpoint_slice(A, B) if lists == 1 else endpoint_slice(B), version=str(100 + lists)))
            else:
                it.answer(FORBIDDEN)
        await it.until_published("pod-a", "pod-a pod-b", "pod-b")
        seconds = sum(it.pauses)
        assert lists == pytest.approx((seconds - 3.0) / 30.0, abs=1.1)
        assert it.status.is_watch_forbidden
        assert it.status.relists == lists
        errors = logged(caplog, logging.ERROR)
        assert len(errors) == pytest.approx((seconds - 3.0) / 60.0, abs=1.1)
        assert set(errors) == {
            "no permission to watch endpointslices.discovery.k8s.io in namespace shop: grant it with: "
            "kubectl -n shop create role podlb --verb=list,watch --resource=endpointslices.discovery.k8s.io && "
            "kubectl -n shop create rolebinding podlb --role=podlb --serviceaccount=podlb:lb"
        }
        it.answer(OPEN)
        await until(lambda: not it.status.is_watch_forbidden)

    async def test_a_fault_of_ours_is_no_end(self, kubernetes: MakeRig, caplog: pytest.LogCaptureFixture) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(ZeroDivisionError("oops"), OPEN, [line("MODIFIED", endpoint_slice(B, version="101"))])
        await it.until_published("pod-a", "pod-b")
        assert logged(caplog, logging.ERROR) == ["following the Kubernetes API failed, it is tried again"]
        assert it.status.watch_restarts == {"error": 1}


@pytest.mark.asyncio
class TestStatus:
    async def test_how_many_are_in_each_state(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        leaving = endpoint("10.0.0.3", "c", ready=False, serving=True, terminating=True)
        await it.start(page(endpoint_slice(A, B, leaving)))
        assert it.status.states == {READY: 2, SERVING: 1, TERMINATING: 0, NOT_READY: 0}

    async def test_when_it_last_heard(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        await it.asked(2)
        assert it.status.last_sync == 1000.0
        it.now = 1010.0
        it.answer(OPEN)
        await until(it.server.answers.empty)
        for at, answer in ((1020.0, [line("NEW", raw({}))]), (1030.0, END)):
            assert it.status.last_sync is not None
            assert it.status.last_sync != 1010.0, "a watch that begins says nothing of what is"
            it.now = at
            it.answer(answer)
            await until(lambda at=at: it.status.last_sync == at)

    async def test_restarts_by_reason_and_lists(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        gone = Failure(Trouble.GONE)
        await it.start(CUT, page(endpoint_slice(A)))
        it.answer(OPEN, END, CUT, gone, CUT, page(endpoint_slice(A)), OPEN, END)
        await it.asked(9)
        assert it.status.watch_restarts == {"end": 2, "cut": 1, "gone": 1}, "those of lists are none"
        assert it.status.relists == 1


@pytest.mark.asyncio
class TestStop:
    async def test_before_it_began_and_twice(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.source.stop()
        await it.source.stop()

    async def test_nothing_is_published_afterwards(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        it.answer(OPEN)
        await it.asked(2)
        # It is on its way to the loop when the loop calls stop.
        it.answer([line("MODIFIED", endpoint_slice(B, version="101"))])
        deadline = asyncio.get_running_loop().time() + 5.0
        while not it.server.answers.empty() or it.source._latest == it.published[0]:
            assert asyncio.get_running_loop().time() < deadline
        await it.source.stop()
        await asyncio.sleep(0)
        assert it.names == ["pod-a"]

    async def test_it_does_not_wait_for_a_thread_that_nothing_interrupts(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A)))
        await it.asked(2)
        it._stop_waiting, put = (lambda: None), it.server.answers.put
        it.server.answers.put = lambda *_: None  # type: ignore[method-assign]
        began = asyncio.get_running_loop().time()
        await it.source.stop()
        assert asyncio.get_running_loop().time() - began < 1.0
        assert not it.source._is_over.is_set()
        it.source._interrupter._stopping.set()
        put(END)
        await until(it.source._is_over.is_set)

    async def test_each_snapshot_is_complete(self, kubernetes: MakeRig) -> None:
        it = kubernetes()
        await it.start(page(endpoint_slice(A, B)))
        snapshot: Snapshot = it.published[0]
        assert [(e.key, e.name, e.node, e.zone, e.ready, e.was_ready) for e in snapshot] == [
            (("a", "10.0.0.1", 8080), "pod-a", "node-1", "zone-1", True, False),
            (("b", "10.0.0.2", 8080), "pod-b", "node-1", "zone-1", True, False),
        ]
