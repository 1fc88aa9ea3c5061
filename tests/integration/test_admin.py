"""The admin and the probe port: what they serve, to whom, and that the figures are true."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from tests.fakes import DEADLINE, Client, Message, chunked, eventually, free_port, request
from tests.integration.conftest import MakeBalancer, MakeEndpoint
from tests.integration.endpoint import respond, response
from tests.integration.harness import Balancer
from tests.integration.processes import ROOT

pytestmark = pytest.mark.one_variant

Pages = Callable[..., Message]


class Ports:
    """A balancer with both ports."""

    def __init__(self, balancer: MakeBalancer, *endpoints: object, **overrides: object) -> None:
        self.admin_port, self.probe_port = free_port(), free_port()
        self.lb: Balancer = balancer(
            *endpoints,
            admin_port=self.admin_port,
            probe_host="127.0.0.1",
            probe_port=self.probe_port,
            **overrides,
        )

    def ask(self, port: int, raw: bytes) -> Message:
        client = Client(port)
        try:
            message = client.exchange(raw)
            client.fin()
            assert client.stream.take_to_end() == b""
            return message
        finally:
            client.close()

    def admin(self, path: str, *lines: str, method: str = "GET", host: str | None = None) -> Message:
        return self.ask(self.admin_port, request(method, path, *lines, host=host or f"127.0.0.1:{self.admin_port}"))

    def probe(self, path: str, *lines: str, method: str = "GET") -> Message:
        return self.ask(self.probe_port, request(method, path, *lines, host="10.1.2.3:8082"))

    def metrics(self) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
        families = parse(self.probe("/metrics").body.decode())
        return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


@pytest.mark.parametrize("port", ["admin", "probe"])
@pytest.mark.parametrize("page", ["/livez", "/readyz", "/livez?verbose"])
def test_probes(page: str, port: str, balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    ports = Ports(balancer, endpoint())
    message = getattr(ports, port)(page)
    assert (message.status, message.body) == (200, b"ok\n")
    assert message.get(b"cache-control") == b"no-store"
    assert message.get(b"content-type") == b"text/plain; charset=utf-8"


def test_ready_also_with_an_empty_snapshot(balancer: MakeBalancer) -> None:
    assert Ports(balancer).probe("/readyz").status == 200


def test_head_and_other_methods(balancer: MakeBalancer) -> None:
    ports = Ports(balancer)
    message = ports.admin("/livez", method="HEAD")
    assert (message.status, message.get(b"content-length")) == (200, b"3")
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
        message = ports.admin("/livez", method=method)
        assert (message.status, message.get(b"allow")) == (405, b"GET, HEAD")
    assert ports.admin("/nothing").status == 404
    assert ports.probe("/endpoints").status == 404, "addresses are for the admin port"
    assert ports.probe("/").status == 404
    assert b"/endpoints" in ports.admin("/").body


def test_bodies_and_bad_heads_are_refused(balancer: MakeBalancer) -> None:
    ports = Ports(balancer)
    for raw, status in [
        (request("POST", "/livez", body=b"abc"), 413),
        (request("POST", "/livez", "Transfer-Encoding: chunked") + chunked(b"abc"), 413),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez\r\n\r\n", 400),
        (request("GET", "/livez", "A: " + "b" * 20000), 431),
        (request("GET", "/" + "a" * 3000), 414),
    ]:
        client = Client(ports.probe_port)
        message = client.exchange(raw, "GET")
        assert (message.status, message.get(b"connection")) == (status, b"close")
        client.close()


def test_keep_alive_and_pipelining(balancer: MakeBalancer) -> None:
    ports = Ports(balancer)
    client = Client(ports.probe_port)
    client.send(request("GET", "/livez") * 3 + request("GET", "/readyz", "Connection: close"))
    assert [client.read_response().status for _ in range(4)] == [200] * 4
    assert client.how_closed() == "fin"
    client.close()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("127.0.0.1:8081", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8081", 200),
        ("192.168.1.1", 200),
        ("evil.test", 421),
        ("evil.test:8081", 421),
        ("localhost.evil.test", 421),
        ("127.0.0.1.evil.test", 421),
        ("127.0.0.1.", 421),
    ],
)
def test_the_admin_port_checks_host(host: str, status: int, balancer: MakeBalancer) -> None:
    ports = Ports(balancer)
    for page in ("/metrics", "/endpoints", "/livez"):
        message = ports.admin(page, host=host)
        assert message.status == status
        assert status == 200 or b"podlb_" not in message.body
    assert ports.probe("/metrics").status == 200, "kubelet and Prometheus dial the pod's address"


def test_an_absolute_target_does_not_get_around_the_check(balancer: MakeBalancer) -> None:
    ports = Ports(balancer)
    message = ports.ask(ports.admin_port, request("GET", "http://evil.test/metrics", host="localhost"))
    assert b"podlb_" not in message.body


def test_endpoints(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    live, dead = endpoint(), endpoint(is_up=False)
    ports = Ports(balancer, live, dead.value, endpoint().value._replace(ready=False))
    client = ports.lb.client()
    assert [client.get().status for _ in range(4)] == [200] * 4
    message = ports.admin("/endpoints")
    assert message.get(b"content-type") == b"application/json"
    rows = {row["endpoint"]: row for row in json.loads(message.body)["endpoints"]}
    assert len(rows) == 3
    row = rows[live.value.authority]
    assert (row["state"], row["secondsLeft"], row["picks"]) == ("available", 0, 4)
    assert row["idle"] == len(live.connections)
    assert row["responses"] == {"1xx": 0, "2xx": 4, "3xx": 0, "4xx": 0, "5xx": 0}
    row = rows[dead.value.authority]
    assert (row["state"], row["picks"]) == ("set aside", 1)
    assert 0 < row["secondsLeft"] <= 1
    assert [r["state"] for r in rows.values()].count("not ready") == 1


def test_metrics_are_true(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    statuses = [200, 204, 301, 404, 500, 503]
    a = endpoint(*[respond(b"HTTP/1.1 %d X\r\n\r\n" % s if s == 204 else response(status=f"{s} X")) for s in statuses])
    dead = endpoint(is_up=False)
    ports = Ports(balancer, a, dead)
    client = ports.lb.client()
    assert [client.get().status for _ in statuses] == statuses
    assert ports.lb.client().exchange(b"GET / HTTP/1.1\r\n\r\n").status == 400
    ports.lb.wait_until_idle()
    values = ports.metrics()
    label = (("endpoint", a.value.authority), ("uid", ""))
    dead_label = (("endpoint", dead.value.authority), ("uid", ""))

    def responses(group: str) -> float:
        return values["podlb_responses_total", (("class", group), *label)]

    assert [responses(f"{n}xx") for n in range(1, 6)] == [0, 2, 1, 1, 2]
    assert values["podlb_picks_total", label] == 6
    connects = values["podlb_upstream_connects_total", label]
    assert connects == len(a.connections)
    assert values["podlb_upstream_reuses_total", label] == 6 - connects
    assert values["podlb_retries_total", label] >= 1
    assert values["podlb_pool_idle", label] == connects
    assert values["podlb_endpoint_available", label] == 1
    assert values["podlb_endpoint_available", dead_label] == 0
    assert values["podlb_upstream_connect_failures_total", dead_label] == 1
    assert values["podlb_set_asides_total", dead_label] == 1
    assert values["podlb_exchanges_total", ()] == 7
    assert values["podlb_exchanges_open", ()] == 0
    assert values["podlb_exchange_ends_total", (("reason", "ok"),)] == 6
    assert values["podlb_exchange_ends_total", (("reason", "bad_request:host"),)] == 1
    assert values["podlb_own_replies_total", (("class", "4xx"),)] == 1
    # One was refused before there was an exchange.
    assert values["podlb_exchange_seconds_count", ()] == 6
    # (uvloop's clock has milliseconds.)
    assert 0 <= values["podlb_exchange_seconds_sum", ()] < 6 * DEADLINE
    assert values["podlb_exchange_seconds_bucket", (("le", "1000"),)] == 6
    assert values["podlb_upstream_connect_seconds_count", ()] == connects
    assert values["podlb_first_byte_seconds_count", ()] <= 6
    assert values["podlb_connections_total", ()] == 2
    assert values["podlb_connections_open", ()] >= 1
    assert values["podlb_waiting", ()] == 0


def test_metrics_formats(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    ports = Ports(balancer, endpoint())
    assert ports.lb.client().get().status == 200
    message = ports.admin("/metrics")
    assert (message.get(b"content-type") or b"").startswith(b"text/plain; version=")
    names = {family.name for family in parse(message.body.decode())}
    message = ports.admin("/metrics", "Accept: application/openmetrics-text; version=1.0.0")
    assert (message.get(b"content-type") or b"").startswith(b"application/openmetrics-text; version=1.0.0")
    families = list(parse_openmetrics(message.body.decode()))
    assert {"podlb_exchanges", "podlb_picks", "podlb_exchange_ends", "podlb_connections_open"} <= names
    assert {family.name for family in families} == names
    assert all(family.documentation for family in families)


def test_counters_survive_an_endpoint_that_left(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    a, b = endpoint(), endpoint()
    ports = Ports(balancer, a)
    assert ports.lb.client().get().status == 200
    ports.lb.publish(b.value)
    values = ports.metrics()
    label = (("endpoint", a.value.authority), ("uid", ""))
    assert values["podlb_picks_total", label] == 1
    assert ("podlb_endpoint_available", label) not in values, "a state is only told of what is there"


def test_what_is_off_is_off(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    lb = balancer(endpoint(), admin_port=None, probe_port=None)
    assert lb.client().get().status == 200
    assert lb.server._side_listeners == []


def test_http_client_reads_it(balancer: MakeBalancer) -> None:
    ports = Ports(balancer)
    client = http.client.HTTPConnection("127.0.0.1", ports.admin_port, timeout=5)
    for path in ("/livez", "/metrics", "/endpoints", "/readyz"):
        client.request("GET", path)
        assert client.getresponse().read()
    client.close()


def test_a_scrape_is_made_beside_the_loop(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    """While the loop stands still, whatever is left of an answer is made; and answers come in order."""
    ports = Ports(balancer, endpoint())
    client = Client(ports.admin_port)
    client.send(request("GET", "/metrics", host="localhost") + request("GET", "/livez", host="localhost"))
    first, second = client.read_response(), client.read_response()
    assert first.body.startswith(b"# HELP podlb_build_info")
    assert second.body == b"ok\n"
    client.close()
    assert any(thread.name.startswith("admin") for thread in threading.enumerate())


def test_a_scrape_whose_client_is_gone(balancer: MakeBalancer, endpoint: MakeEndpoint) -> None:
    ports = Ports(balancer, endpoint())
    for _ in range(20):
        client = Client(ports.probe_port)
        client.send(request("GET", "/metrics", host="10.1.2.3"))
        client.reset()
    # (Until their resets are read they may be too many.)
    eventually(lambda: ports.probe("/metrics").status == 200, "a page for who waits for it")


def test_a_scrape_that_fails(balancer: MakeBalancer, endpoint: MakeEndpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = Ports(balancer, endpoint())
    ports.lb.expected_errors.append("an answer of the admin port could not be made")

    def fail(*arguments: object) -> tuple[bytes, str]:
        raise RuntimeError("no")

    monkeypatch.setattr("lb.exposition.render", fail)
    assert ports.probe("/metrics").status == 500
    monkeypatch.undo()
    assert ports.probe("/metrics").status == 200


def test_the_end_of_a_request_behind_many(balancer: MakeBalancer) -> None:
    """Reading was paused while they were answered."""
    ports = Ports(balancer)
    client = Client(ports.admin_port)
    raw = request("GET", "/livez", host="localhost")
    client.send((raw * 600)[:-5])
    assert [client.read_response().status for _ in range(599)] == [200] * 599
    client.send(raw[-5:])
    assert client.read_response().status == 200
    client.close()


def test_nothing_is_imported_in_the_loop_for_a_scrape() -> None:
    """prometheus_client takes 50 ms."""
    program = (
        "import sys\n"
        "from lb.pages import Pages\n"
        "from lb.http1.head import HeadLimits, HeadParser\n"
        "from tests.test_downstream import Harness\n"
        "head = HeadParser(HeadLimits()).request(b'GET /metrics HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n')\n"
        "make = Pages(Harness().proxy, lambda: (True, 'ok')).answer(head, admin=True)()\n"
        "assert 'prometheus_client' not in sys.modules\n"
        "assert make()[0] == 200\n"
        "assert 'prometheus_client' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT, timeout=30)
