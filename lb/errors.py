"""How an exchange can end, and what the client is told.

`EndReason` is the closed list of end reasons: the same word in logs, metrics and the `Proxy-Status` field. A bad
message adds what was bad about it behind a colon (`bad_request:host`).
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
    CONNECT_FAILED = "connect_failed"
    """No endpoint could be connected to, for a reason that lies on this machine."""
    NO_ENDPOINT = "no_endpoint"
    """No endpoint could be reached within `endpointWait`."""
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


# RFC 9209, section 2.3: the registered error type for each reason that can stand in a reply of ours.
_PROXY_STATUS_ERRORS = {
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
