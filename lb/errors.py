"""How an exchange can end, and what the client is told.

`END_WORDS` is the closed list of end reasons: the same word in metrics and in the `Proxy-Status` field. A bad
message adds what was bad about it behind a colon (`bad_request:host`). docs/end-reasons.md explains each to users.
"""

from __future__ import annotations

import enum


class EndReason(enum.StrEnum):
    """Why an exchange ended. Exactly one for each."""

    OK = "ok"
    CLIENT_GONE = "client_gone"
    """The client went away before its response was complete."""
    REQUEST_TIMEOUT = "request_timeout"
    """The client did not finish its request head in time, or its body made no progress."""
    BAD_REQUEST = "bad_request"
    """We refused the request; nothing of its head reached an endpoint."""
    CONNECT_REFUSED = "connect_refused"
    """No endpoint could be connected to within `endpointWait`: the last one that was tried refused."""
    CONNECT_TIMEOUT = "connect_timeout"
    """No endpoint could be connected to within `endpointWait`: the last one that was tried did not answer."""
    CONNECT_UNREACHABLE = "connect_unreachable"
    """No endpoint could be connected to within `endpointWait`: there is no way to the last one that was tried."""
    CONNECT_FAILED = "connect_failed"
    """No endpoint could be connected to, for a reason that lies on this machine."""
    NO_ENDPOINT = "no_endpoint"
    """There was none to be tried within `endpointWait`."""
    WAITING_LIMIT = "waiting_limit"
    """No endpoint could be reached, and `maxWaiting` requests were waiting already."""
    RESPONSE_TIMEOUT = "response_timeout"
    """The endpoint did not send a response head within `responseTimeout`."""
    RESET_BEFORE_HEAD = "reset_before_head"
    """The endpoint closed the connection before a response head, and the request could not go to another."""
    RESET_IN_BODY = "reset_in_body"
    """The endpoint closed the connection in the middle of a response body: the client sees the truncation."""
    BAD_RESPONSE = "bad_response"
    """The endpoint sent what is not an acceptable HTTP/1.1 response."""
    BODY_TIMEOUT = "body_timeout"
    """A body made no progress for `bodyIdleTimeout`, in either direction."""
    TUNNEL_IDLE = "tunnel_idle"
    """Nothing went through a tunnel or a TCP connection for `tunnelIdleTimeout`."""
    DRAIN_CUT = "drain_cut"
    """We stopped before it was finished."""


class ConnectFailure(enum.Enum):
    """Why a connect to an endpoint failed, and whose fault that is."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    TIMED_OUT = "timed out"
    LOCAL = "local"
    """This machine ran out of descriptors, ports or memory: it says nothing about the endpoint."""


BAD_MESSAGES = (
    "bare_line_end",
    "body",
    "body_too_large",
    "chunk",
    "chunk_extension",
    "chunk_size",
    "content_length",
    "content_length_and_transfer_encoding",
    "control_character",
    "empty_lines",
    "expect",
    "field_line",
    "field_name",
    "folded_line",
    "head_too_large",
    "host",
    "interim",
    "malformed",
    "max_forwards",
    "method",
    "start_line",
    "status",
    "target",
    "target_too_long",
    "too_many_fields",
    "trailers",
    "transfer_encoding",
    "upgrade",
    "version",
)
"""What can be bad about a message."""

BASE_WORDS = tuple(reason.value for reason in EndReason)
END_WORDS = (
    *BASE_WORDS,
    *(f"{reason}:{what}" for reason in (EndReason.BAD_REQUEST, EndReason.BAD_RESPONSE) for what in BAD_MESSAGES),
)
"""Every end reason. (Those of bad messages without what was bad, for it may not be known.)"""

REASONS_OF_CONNECTS = {
    ConnectFailure.REFUSED: EndReason.CONNECT_REFUSED,
    ConnectFailure.TIMED_OUT: EndReason.CONNECT_TIMEOUT,
    ConnectFailure.UNREACHABLE: EndReason.CONNECT_UNREACHABLE,
    ConnectFailure.LOCAL: EndReason.CONNECT_FAILED,
}
"""The end reason of an exchange whose last attempt failed so."""

RESET, UNAVAILABLE, TIMEOUT = "reset", "unavailable", "timeout"
ATTEMPT_FAILURES = (*(reason.value for reason in REASONS_OF_CONNECTS.values()), RESET, UNAVAILABLE, TIMEOUT)
"""How an attempt can fail: its connect did, its connection was lost before a response, the endpoint answered 503 or not
in time. (The latter two only where `retryOn` has another endpoint tried.)"""


def end_word(reason: EndReason, what: str = "") -> str:
    """Return the word for a reason; `what` is what was bad about a bad message, else empty."""
    return f"{reason.value}:{what}" if what else reason.value


# RFC 9209, section 2.3: the registered error type for each reason that can stand in a reply of ours.
_PROXY_STATUS_ERRORS = {
    EndReason.CONNECT_REFUSED: "connection_refused",
    EndReason.CONNECT_TIMEOUT: "connection_timeout",
    EndReason.CONNECT_UNREACHABLE: "destination_ip_unroutable",
    EndReason.REQUEST_TIMEOUT: "http_request_error",
    EndReason.BAD_REQUEST: "http_request_error",
    EndReason.CONNECT_FAILED: "proxy_internal_error",
    EndReason.NO_ENDPOINT: "destination_unavailable",
    EndReason.WAITING_LIMIT: "destination_unavailable",
    EndReason.RESPONSE_TIMEOUT: "http_response_timeout",
    EndReason.RESET_BEFORE_HEAD: "http_response_incomplete",
    EndReason.BAD_RESPONSE: "http_protocol_error",
    EndReason.BODY_TIMEOUT: "http_request_error",
    EndReason.TUNNEL_IDLE: "connection_read_timeout",
    EndReason.DRAIN_CUT: "proxy_internal_error",
}


def proxy_status_error(reason: EndReason, status: int) -> str:
    """Return the registered error type (RFC 9209, section 2.3) for a reply of ours. KeyError: it can't stand in one."""
    if reason is EndReason.BODY_TIMEOUT and status == 504:
        # It is the endpoint that did not take the body, not the client that did not send it (408).
        return "connection_write_timeout"
    return _PROXY_STATUS_ERRORS[reason]
