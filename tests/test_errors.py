"""The closed list of end reasons, and what the client is told."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from lb.errors import (
    BAD_MESSAGES,
    END_WORDS,
    REASONS_OF_CONNECTS,
    ConnectFailure,
    EndReason,
    end_word,
    proxy_status_error,
)

ROOT = Path(__file__).parents[1]

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
        "connect_refused",
        "connect_timeout",
        "connect_unreachable",
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


def _whats() -> set[str]:
    """Return every word for what is bad about a message that stands in the source."""
    found: set[str] = set()
    for path in (ROOT / "lb").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call):
                name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
                at = {"MessageError": 1, "_error": 0}.get(name, 9)
                words = node.args[at : at + 1]
            elif isinstance(node, ast.Tuple) and path.name == "head.py":
                # What `_explain` returns: a word and a sentence.
                words = node.elts[:1] if len(node.elts) == 2 and " " in str(getattr(node.elts[1], "value", "")) else []
            else:
                continue
            found |= {word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)}
    return found - {""}


def test_the_list_of_what_can_be_bad_is_closed() -> None:
    assert sorted(_whats()) == sorted(BAD_MESSAGES)
    assert len(_whats()) > 20


def test_every_end_reason_has_its_word_and_is_explained() -> None:
    assert len(set(END_WORDS)) == len(END_WORDS)
    for reason in EndReason:
        assert end_word(reason) in END_WORDS
    for what in BAD_MESSAGES:
        assert end_word(EndReason.BAD_REQUEST, what) == f"bad_request:{what}"
        assert {end_word(EndReason.BAD_REQUEST, what), end_word(EndReason.BAD_RESPONSE, what)} <= set(END_WORDS)
    page = (ROOT / "docs/end-reasons.md").read_text()
    rows = re.findall(r"(?m)^\| `(\w+)` \|", page)
    assert sorted(rows) == sorted(EndReason)
    named = re.findall(r"`(\w+)`", page.partition("What may be bad about a message")[2])
    assert sorted(named) == sorted(BAD_MESSAGES)


def test_every_failed_connect_is_a_reason() -> None:
    assert set(REASONS_OF_CONNECTS) == set(ConnectFailure)
    assert len(set(REASONS_OF_CONNECTS.values())) == len(ConnectFailure)


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
