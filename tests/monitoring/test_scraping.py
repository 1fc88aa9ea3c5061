"""A real Prometheus scrapes a real podlb: it gets what was sent, in the format that it prefers."""

from __future__ import annotations

import pytest

from tests.deploy.monitoring import promtool
from tests.fakes import Client, Message, eventually, request
from tests.integration.endpoint import Endpoint
from tests.integration.processes import LoadBalancer
from tests.monitoring.prometheus import QueryError
from tests.monitoring.scene import Scene

pytestmark = pytest.mark.timeout(90)


def metrics(port: int, *lines: str) -> Message:
    client = Client(port)
    try:
        return client.exchange(request("GET", "/metrics", "Connection: close", *lines, host="localhost"))
    finally:
        client.close()


def send(podlb: LoadBalancer, count: int) -> None:
    client = podlb.client()
    try:
        assert [client.get().status for _ in range(count)] == [200] * count
    finally:
        client.close()


@pytest.mark.slow
def test_every_podlb_is_up_and_prometheus_does_not_complain(scraped: Scene) -> None:
    def up() -> dict[str, float]:
        return {sample.labels["pod"]: sample.value for sample in scraped.prometheus.query('up{job="podlb-lb"}')}

    def errors() -> set[str]:
        return {target["lastError"] for target in scraped.prometheus.targets()}

    eventually(lambda: up() == {"lb-1": 1, "lb-2": 1, "lb-3": 1}, "every podlb up")
    eventually(lambda: errors() == {""}, "a scrape of each without an error")
    assert scraped.prometheus.log == ""


@pytest.mark.slow
def test_what_was_sent_is_what_prometheus_has(scraped: Scene) -> None:
    prometheus, at = scraped.prometheus, 'pod="lb-1"'
    sent = 0
    for count in (1, 12, 7):
        send(scraped.quiet, count)
        sent += count
        prometheus.wait_until_scraped(scraped.quiet_target)
        assert prometheus.value(f"podlb_exchanges_total{{{at}}}") == sent
    assert len(scraped.quiet_endpoint.requests) == sent
    assert prometheus.value(f'podlb_exchange_ends_total{{reason="ok",{at}}}') == sent
    assert prometheus.value(f'podlb_responses_total{{class="2xx",{at}}}') == sent
    assert prometheus.value(f"podlb_exchange_seconds_count{{{at}}}") == sent
    assert prometheus.value(f'podlb_exchange_seconds_bucket{{le="+Inf",{at}}}') == sent


@pytest.mark.slow
def test_no_counter_ever_falls(troubled: Scene) -> None:
    prometheus = troubled.prometheus
    found = prometheus.query('group by (__name__) ({__name__=~"podlb_.+_(total|count|sum|bucket)"})')
    names = {sample.labels["__name__"] for sample in found}
    assert len(names) > 15
    assert {name for name in names if prometheus.value(f"max(resets({name}[10m]))") != 0} == set()


@pytest.mark.slow
def test_prometheus_asks_for_openmetrics_and_gets_it(scraped: Scene) -> None:
    scraped.recorder.wait_for_requests(1)
    accept = (scraped.recorder.requests[0].get(b"accept") or b"").decode()
    assert "application/openmetrics-text" in accept
    answer = metrics(scraped.quiet.probe_port, f"Accept: {accept}")
    assert (answer.get(b"content-type") or b"").startswith(b"application/openmetrics-text; version=1.0.0")
    assert answer.body.endswith(b"# EOF\n")


@pytest.mark.slow
def test_the_operators_label_endpoint_does_not_push_ours_aside(scraped: Scene) -> None:
    send(scraped.quiet, 1)
    scraped.prometheus.wait_until_scraped(scraped.quiet_target)
    (picks,) = scraped.prometheus.query('podlb_picks_total{pod="lb-1"}')
    assert picks.labels["endpoint"] == scraped.quiet_endpoint.value.authority
    assert "exported_endpoint" not in picks.labels
    (up,) = scraped.prometheus.query('up{pod="lb-1"}')
    assert "endpoint" not in up.labels


@pytest.mark.slow
def test_a_query_that_is_refused_raises(scraped: Scene) -> None:
    with pytest.raises(QueryError, match="parse error"):
        scraped.prometheus.query("sum(")


# promtool


def test_promtool_has_nothing_to_say_about_the_metrics() -> None:
    with Endpoint() as endpoint, LoadBalancer(f"--backends={endpoint.value.authority}") as podlb:
        send(podlb, 3)
        client = podlb.client()
        assert client.exchange(b"GET / HTTP/1.1\r\n\r\n").status == 400
        client.close()
        eventually(lambda: b'reason="ok"} 3.0' in metrics(podlb.probe_port).body, "the ends")
        text = metrics(podlb.probe_port).body.decode()
    assert "podlb_exchanges_total 4.0" in text
    done = promtool("check", "metrics", text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.slow
def test_promtool_has_nothing_to_say_about_those_of_discovery(troubled: Scene) -> None:
    text = metrics(troubled.following.admin_port).body.decode()
    assert 'podlb_discovery_watch_restarts_total{reason="cut"}' in text
    done = promtool("check", "metrics", text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_promtool_would_say_if_a_name_broke_the_conventions() -> None:
    done = promtool("check", "metrics", text="# TYPE podlb_things counter\npodlb_things 1\n")
    assert done.returncode != 0
    assert "_total" in done.stdout + done.stderr
