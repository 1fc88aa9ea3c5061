"""The closed list of end reasons, and what the client is told."""

from __future__ import annotations

import re

import pytest

from lb.errors import ConnectFailure, EndReason, proxy_status_error

# RFC 9209, section 2.3.
REGISTERED = frozenset(
    [
        "connection_limit_reached",
        "connection_read_timeout",
        "connection_refused",
        "connection_terminated",
        "connection_timeout",
        "connection_write_timeout",
        "destination_ip_prohibited",
        "destination_ip_unroutable",
        "destination_not_found",
        "destination_unavailable",
        "dns_error",
        "dns_timeout",
        "http_protocol_error",
        "http_request_denied",
        "http_request_error",
        "http_response_body_size",
        "http_response_content_coding",
        "http_response_header_section_size",
        "http_response_header_size",
        "http_response_incomplete",
        "http_response_timeout",
        "http_response_trailer_section_size",
        "http_response_trailer_size",
        "http_response_transfer_coding",
        "http_upgrade_failed",
        "proxy_configuration_error",
        "proxy_internal_error",
        "proxy_internal_response",
        "proxy_loop_detected",
        "tls_alert_received",
        "tls_certificate_error",
        "tls_protocol_error",
    ]
)


def test_the_words_for_logs_and_metrics() -> None:
    assert sorted(EndReason) == [
        "bad_request",
        "bad_response",
        "body_timeout",
        "client_gone",
        "connect_failed",
        "drain_cut",
        "no_endpoint",
        "ok",
        "request_timeout",
        "reset_before_head",
        "reset_in_body",
        "response_timeout",
        "tunnel_idle",
        "waiting_limit",
    ]


@pytest.mark.parametrize("reason", EndReason)
def test_a_reason_is_its_word(reason: EndReason) -> None:
    assert str(reason) == f"{reason}" == reason.value == reason.name.lower()
    # It stands in a label of a metric and in a quoted string of Proxy-Status.
    assert re.fullmatch(r"[a-z_]+", reason)


def test_every_reason_that_a_client_can_be_told_has_a_registered_error_type() -> None:
    # There is nobody left to tell, or the response has begun, or all is well.
    never_told = {EndReason.OK, EndReason.CLIENT_GONE, EndReason.RESET_IN_BODY}
    for reason in set(EndReason) - never_told:
        assert {proxy_status_error(reason, 408), proxy_status_error(reason, 504)} <= REGISTERED
    for reason in never_told:
        with pytest.raises(KeyError):
            proxy_status_error(reason, 502)


def test_a_body_that_stands_still_is_the_fault_of_who_stands_still() -> None:
    assert proxy_status_error(EndReason.BODY_TIMEOUT, 408) == "http_request_error"
    assert proxy_status_error(EndReason.BODY_TIMEOUT, 504) == "connection_write_timeout"


@pytest.mark.parametrize("failure", ConnectFailure)
def test_a_failed_connect_has_words_for_the_log(failure: ConnectFailure) -> None:
    assert re.fullmatch(r"[a-z ]+", failure.value)
