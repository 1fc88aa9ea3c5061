"""What an API server does when it, or what is in between, is not well: podlb goes on, and ends up with the truth."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.controlplane import faults
from tests.controlplane.apiserver import ApiServer
from tests.controlplane.faults import Act
from tests.controlplane.objects import Object, endpoint_slice, ready
from tests.controlplane.plane import FakePlane
from tests.controlplane.podlb import Podlb, follow
from tests.controlplane.watching import Watch
from tests.controlplane.wire import to_json
from tests.fakes import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

NAMESPACE = "podlb"


def one(*addresses: str) -> Object:
    return endpoint_slice("one", [ready(address, pod=f"pod-{address}") for address in addresses])


@pytest.fixture
def podlb(apiserver: ApiServer, tmp_path: Path) -> Podlb:
    """Start podlb over one endpoint; return it when its watch is open."""
    apiserver.put(NAMESPACE, one("10.0.0.1"))
    with follow(FakePlane(apiserver), tmp_path) as podlb:
        podlb.wait_until_ready()
        apiserver.open_watch()
        yield podlb
        assert podlb.process.poll() is None
        assert not podlb.logged("Traceback|Error")


def end_and_wait(apiserver: ApiServer, end: Callable[[Watch], None]) -> None:
    """End the open watch in some way, and wait for the request of the next."""
    count = len(apiserver.asked("watch"))
    end(apiserver.open_watch())
    apiserver.wait_for("watch", count + 1)


# Ends of a watch

ENDS: dict[str, tuple[Callable[[Watch], None], str]] = {
    "in order": (Watch.end, "end"),
    "FIN": (lambda watch: watch.cut(reset=False), "cut"),
    "reset": (lambda watch: watch.cut(reset=True), "cut"),
    "FIN in a line": (lambda watch: watch.cut(reset=False, after=b'{"type":"ADDED","object":{"metad'), "cut"),
    "reset in a line": (lambda watch: watch.cut(reset=True, after=b'{"type":"DELETED","object":{"me'), "cut"),
}


@pytest.mark.parametrize("how", ENDS)
def test_a_watch_that_ends_goes_on_from_where_it_was(apiserver: ApiServer, podlb: Podlb, how: str) -> None:
    end, reason = ENDS[how]
    version = apiserver.put(NAMESPACE, one("10.0.0.2"))
    podlb.wait_for_rotation(["10.0.0.2"])
    end_and_wait(apiserver, end)
    assert apiserver.asked("watch")[-1].query["resourceVersion"] == str(version)
    # What happens between two watches is not missed.
    apiserver.inject("watch", gate := faults.Gate())
    end_and_wait(apiserver, end)
    apiserver.put(NAMESPACE, one("10.0.0.3"))
    gate.open()
    podlb.wait_for_rotation(["10.0.0.3"])
    assert len(apiserver.asked("list")) == 1
    assert podlb.metric("relists_total") == 0
    assert podlb.restarts() == {reason: 2}
    assert podlb.rotation() == {"10.0.0.3:8080"}


def test_a_bookmark_moves_the_version_on(apiserver: ApiServer, podlb: Podlb) -> None:
    version = apiserver.store.touch()
    apiserver.open_watch().bookmark()
    end_and_wait(apiserver, Watch.end)
    assert apiserver.asked("watch")[-1].query["resourceVersion"] == str(version)


def test_how_it_asks(apiserver: ApiServer, podlb: Podlb) -> None:
    listing, watching = apiserver.requests
    assert listing.query == {"labelSelector": "kubernetes.io/service-name=backend-service", "limit": "500"}
    seconds = int(watching.query.pop("timeoutSeconds"))
    assert 45 <= seconds <= 60
    assert watching.query == {
        "labelSelector": "kubernetes.io/service-name=backend-service",
        "watch": "1",
        "resourceVersion": str(apiserver.store.version),
        "allowWatchBookmarks": "true",
    }
    assert {request.method for request in apiserver.requests} == {"GET"}
    # One connection is enough.
    assert listing.connection == watching.connection


# Relists


def relist_slowly(apiserver: ApiServer, podlb: Podlb, begin: Callable[[], object]) -> None:
    """Hold back the list that `begin` brings about: the snapshot stays until it is complete."""
    apiserver.inject("list", gate := faults.Gate())
    begin()
    apiserver.wait_for("list", 2)
    apiserver.put(NAMESPACE, one("10.0.0.2"))
    assert podlb.rotation() == {"10.0.0.1:8080"}
    assert podlb.is_ready()
    gate.open()
    podlb.wait_for_rotation(["10.0.0.2"])
    assert podlb.metric("relists_total") == 1
    assert apiserver.asked("list")[-1].query.keys() == {"labelSelector", "limit"}


TOO_NEW = faults.too_large(2000, 1000)


@pytest.mark.parametrize(
    "act",
    [
        pytest.param(faults.answer(faults.expired()), id="410"),
        pytest.param(faults.in_stream(faults.expired()), id="410 in the stream"),
        pytest.param(faults.answer(TOO_NEW), id="504, too new"),
        pytest.param(faults.in_stream(TOO_NEW), id="504, too new, in the stream"),
    ],
)
def test_a_version_that_can_not_be_had_means_a_new_list(apiserver: ApiServer, podlb: Podlb, act: Act) -> None:
    fault = apiserver.inject("watch", act)
    relist_slowly(apiserver, podlb, apiserver.open_watch().end)
    assert fault.hits == 1


def test_410_in_the_midst_of_a_watch_means_a_new_list(apiserver: ApiServer, podlb: Podlb) -> None:
    relist_slowly(apiserver, podlb, lambda: apiserver.open_watch().error(faults.expired()))
    assert podlb.restarts() == {"gone": 1}


def test_a_list_of_a_lower_version_replaces_all_the_same(apiserver: ApiServer, podlb: Podlb) -> None:
    backup = apiserver.store.backup()
    for _ in range(3):
        apiserver.put(NAMESPACE, one("10.0.0.2"))
    podlb.wait_for_rotation(["10.0.0.2"])
    apiserver.inject("watch", faults.in_stream(faults.expired()))
    apiserver.restore(backup)
    podlb.wait_for_rotation(["10.0.0.1"])
    warning = podlb.wait_for_line(r"\[WARN\] the API server's list is older")
    assert str(backup.version) in warning
    # From there it goes on, with versions that were there before.
    apiserver.put(NAMESPACE, one("10.0.0.3"))
    podlb.wait_for_rotation(["10.0.0.3"])
    assert podlb.logged(r"\[WARN\] the API server's list is older") == [warning]


def test_pages_that_expire_are_asked_for_anew(apiserver: ApiServer, podlb: Podlb) -> None:
    many = [endpoint_slice(f"s-{n:04}", [ready(f"10.1.{n // 250}.{n % 250}", pod=f"p-{n}")]) for n in range(600)]
    apiserver.open_watch().silence()
    apiserver.put(NAMESPACE, *many)
    # The first page is given out, then everything is forgotten, so that there is no second one.
    apiserver.inject("list", lambda connection, request: faults.PASS)
    gone = apiserver.inject("list", faults.answer(faults.expired()))
    apiserver.stop()
    apiserver.forget()
    apiserver.start()
    eventually(lambda: len(podlb.rotation()) == 601, "all of them", seconds=20.0)
    assert gone.hits == 1
    pages = ["continue" in request.query for request in apiserver.asked("list")]
    assert pages == [False, False, True, False, True]


# What is in the stream


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"\n", id="empty"),
        pytest.param(b"  \r\n", id="blank"),
        pytest.param(to_json({"type": "NEWS", "object": {"metadata": {"resourceVersion": "1"}}}), id="unknown type"),
        pytest.param(to_json({"type": "NEWS", "object": {"kind": "?"}, "more": [1]}), id="unknown everything"),
    ],
)
def test_lines_that_say_nothing_do_nothing(apiserver: ApiServer, podlb: Podlb, line: bytes) -> None:
    apiserver.open_watch().line(line)
    apiserver.put(NAMESPACE, one("10.0.0.2"))
    podlb.wait_for_rotation(["10.0.0.2"])
    assert len(apiserver.requests) == 2
    assert podlb.restarts() == {}


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"garbled\n", id="no JSON"),
        pytest.param(b"\xff\xfe\x00\n", id="no UTF-8"),
        pytest.param(b'{"type":"ADDED"}\n', id="no object"),
        pytest.param(b'{"type":"ADDED","object":7}\n', id="a number for an object"),
        pytest.param(b'{"type":"ADDED","object":{"metadata":{"name":"x"},"endpoints":7}}\n', id="a number for a list"),
        pytest.param(b"[" * 5000 + b"\n", id="deep"),
    ],
)
def test_lines_that_can_not_be_read_do_not_kill_it(apiserver: ApiServer, podlb: Podlb, line: bytes) -> None:
    apiserver.open_watch().line(line)
    apiserver.wait_for("watch", 2)
    apiserver.put(NAMESPACE, one("10.0.0.2"))
    podlb.wait_for_rotation(["10.0.0.2"])
    assert podlb.restarts() == {"garbled": 1}


def test_events_behind_and_before_a_garbled_line_count(apiserver: ApiServer, podlb: Podlb) -> None:
    watch = apiserver.open_watch()
    apiserver.inject("list", faults.mute)
    apiserver.store.touch()
    # In one piece, so that they are read together.
    event = {"type": "MODIFIED", "object": one("10.0.0.7") | {"metadata": {"name": "one", "resourceVersion": "1002"}}}
    watch.line(to_json(event) + b"garbled\n")
    podlb.wait_for_rotation(["10.0.0.7"])


def test_null_lists(apiserver: ApiServer, podlb: Podlb) -> None:
    apiserver.put(NAMESPACE, endpoint_slice("null", None))
    without_ports = endpoint_slice("portless", [ready("10.0.0.5", pod="e")]) | {"ports": None}
    apiserver.put(NAMESPACE, without_ports)
    # Null ports are all ports, and a number is dialled as it is.
    podlb.wait_for_rotation(["10.0.0.1", "10.0.0.5"])
    empty = {"kind": "EndpointSliceList", "apiVersion": "discovery.k8s.io/v1", "items": None}
    apiserver.inject("list", faults.raw_body(to_json({**empty, "metadata": {"resourceVersion": "1003"}})))
    apiserver.open_watch().error(faults.expired())
    podlb.wait_for_rotation([])


def test_one_bad_endpoint_hides_no_other(apiserver: ApiServer, podlb: Podlb) -> None:
    bad: list[Object] = [{"addresses": []}, {"addresses": ["nonsense"]}, {"addresses": 7}, {"addresses": ["0.0.0.0"]}]
    apiserver.put(NAMESPACE, endpoint_slice("two", [*bad, ready("10.0.0.2", pod="b")]))
    podlb.wait_for_rotation(["10.0.0.1", "10.0.0.2"])
    podlb.wait_for_lines(r"\[WARN\] EndpointSlice two: endpoint \d is left out", len(bad))


def test_slow_bytes(apiserver: ApiServer, podlb: Podlb) -> None:
    listing = apiserver.inject("list", faults.slowly(40, 0.01))
    watching = apiserver.inject("watch", faults.slowly(7, 0.005))
    apiserver.put(NAMESPACE, one("10.0.0.2"))
    apiserver.open_watch().error(faults.expired())
    podlb.wait_for_rotation(["10.0.0.2"])
    apiserver.wait_for("watch", 2)
    apiserver.put(NAMESPACE, one("10.0.0.3"))
    podlb.wait_for_rotation(["10.0.0.3"])
    apiserver.wait_for("watch", 3) if watching.hits == 0 else None
    assert (listing.hits, watching.hits) == (1, 1)


# Refusals, and how long to wait


def gaps(apiserver: ApiServer, verb: str) -> list[float]:
    """Return the seconds between one request of `verb` and the next."""
    return [after.at - before.at for before, after in itertools.pairwise(apiserver.asked(verb))]


@pytest.mark.parametrize("act", [faults.too_many_requests(2), faults.unavailable(2)], ids=["429", "503"])
def test_retry_after_is_honoured(apiserver: ApiServer, podlb: Podlb, act: Act) -> None:
    fault = apiserver.inject("watch", act)
    apiserver.open_watch().end()
    apiserver.wait_for("watch", 3)
    assert fault.hits == 1
    assert 2.0 <= gaps(apiserver, "watch")[1] < 3.0
    assert len(apiserver.asked("list")) == 1


def test_without_retry_after_pauses_double_up_to_a_second(apiserver: ApiServer, podlb: Podlb) -> None:
    refusals = 7
    fault = apiserver.inject("watch", faults.answer(faults.status(500, "InternalError", "oops")), times=refusals)
    apiserver.open_watch().end()
    apiserver.wait_for("watch", 2 + refusals, seconds=15.0)
    assert fault.hits == refusals
    pauses = gaps(apiserver, "watch")[1:]
    # Each is shortened by up to a half, by chance; a busy machine makes them longer.
    for pause, whole in zip(pauses, [0.1, 0.2, 0.4, 0.8, 1.0, 1.0, 1.0], strict=True):
        assert whole / 2 <= pause < whole + 1.0, pauses
    apiserver.put(NAMESPACE, one("10.0.0.2"))
    podlb.wait_for_rotation(["10.0.0.2"])


def test_a_403_that_passes_is_not_worth_a_word(apiserver: ApiServer, podlb: Podlb) -> None:
    fault = apiserver.inject("watch", faults.forbid(), times=3)
    apiserver.open_watch().cut(reset=True)
    apiserver.wait_for("watch", 5)
    assert fault.hits == 3
    apiserver.put(NAMESPACE, one("10.0.0.2"))
    podlb.wait_for_rotation(["10.0.0.2"])
    assert not podlb.logged("permission")
    assert podlb.metric("watch_forbidden") == 0
    assert podlb.metric("relists_total") == 0


@pytest.mark.soak
@pytest.mark.timeout(200)
def test_staleness_is_bounded_whatever_is_silent(tmp_path: Path) -> None:
    # Both at the same time, since each takes a whole watch: one whose connection says nothing any more, and one whose
    # version is from the future, as after a restored etcd, to which the real API server says nothing either.
    with ApiServer() as mute, ApiServer() as restored:
        for server in (mute, restored):
            server.put(NAMESPACE, one("10.0.0.1"))
        backup = restored.store.backup()
        for n in range(50):
            restored.put(NAMESPACE, one(f"10.0.2.{n}"))
        for name in ("mute", "restored"):
            (tmp_path / name).mkdir()
        with (
            follow(FakePlane(mute), tmp_path / "mute") as before_silence,
            follow(FakePlane(restored), tmp_path / "restored") as from_the_future,
        ):
            before_silence.wait_until_ready()
            from_the_future.wait_until_ready()
            mute.open_watch().silence()
            restored.open_watch()
            restored.restore(backup)
            for server in (mute, restored):
                server.put(NAMESPACE, one("10.0.0.2"))
            before_silence.wait_for_rotation(["10.0.0.2"], seconds=72.0)
            from_the_future.wait_for_rotation(["10.0.0.2"], seconds=72.0)
