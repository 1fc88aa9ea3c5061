"""Our own responses, as bytes: problem details (RFC 9457) with a Proxy-Status field (RFC 9209). Never HTML."""

from __future__ import annotations

import re
from typing import NamedTuple

REASONS = {
    200: "OK",
    400: "Bad Request",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
}


_ALLOW = b"Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH"

_PLAIN_ID = re.compile(rb"[0-9A-Za-z_][-0-9A-Za-z._:/=+]*")


class Problem(NamedTuple):
    """Why a request is answered by us and not by an endpoint."""

    status: int
    detail: str
    """One sentence for the person at the other end. It never quotes what a peer sent."""
    proxy_status: str
    """The registered error type of RFC 9209, section 2.3."""
    reason: str
    """Our end reason: the same word as in logs and metrics."""
    retry_after: int | None = None
    """Seconds after which it makes sense to try again."""


def problem_reply(problem: Problem, *, request_id: bytes, date: bytes, close: bool, body: bool = True) -> bytes:
    """Return the whole response for `problem`; `body=False` leaves the body away (for HEAD), not its length."""
    title = REASONS[problem.status]
    content = (
        b'{"type":"about:blank","title":"%b","status":%d,"detail":"%b","reason":"%b","requestId":"%b","explain":"%b"}\n'
    ) % (
        title.encode(),
        problem.status,
        _escape(problem.detail),
        problem.reason.encode(),
        _escape_bytes(request_id),
        _escape_bytes(_command(request_id)),
    )
    fields = [b'Proxy-Status: podlb; error=%b; details="%b"' % (problem.proxy_status.encode(), problem.reason.encode())]
    if request_id:
        fields.append(b"X-Request-Id: " + request_id)
    if problem.status == 405:
        fields.append(_ALLOW)
    if problem.retry_after is not None:
        fields.append(b"Retry-After: %d" % problem.retry_after)
    return reply(problem.status, b"application/problem+json", content, date=date, close=close, fields=fields, body=body)


def _command(request_id: bytes) -> bytes:
    """Return the command that explains the request, in the words of a shell: the id may be the client's own."""
    if _PLAIN_ID.fullmatch(request_id):
        return b"podlb why " + request_id
    return b"podlb why -- '" + request_id.replace(b"'", b"'\"'\"'") + b"'"


def options_reply(request_id: bytes, *, date: bytes, close: bool) -> bytes:
    """Return the response to an OPTIONS request whose last recipient we are (RFC 9110, sections 7.6.2 and 9.3.7)."""
    fields = [_ALLOW, b"X-Request-Id: " + request_id]
    return reply(200, b"text/plain; charset=utf-8", b"", date=date, close=close, fields=fields)


def reply(
    status: int,
    content_type: bytes,
    content: bytes,
    *,
    date: bytes,
    close: bool,
    fields: list[bytes] | None = None,
    body: bool = True,
) -> bytes:
    """Return a whole response with `content`; `fields` are further field lines without their CRLF."""
    lines = [
        b"HTTP/1.1 %d %b" % (status, REASONS[status].encode()),
        b"Date: " + date,
        b"Content-Type: " + content_type,
        b"Content-Length: %d" % len(content),
        b"Cache-Control: no-store",
        *(fields or ()),
    ]
    if close:
        lines.append(b"Connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n" + (content if body else b"")


def _escape(text: str) -> bytes:
    return text.replace("\\", "\\\\").replace('"', '\\"').encode()


def _escape_bytes(text: bytes) -> bytes:
    return text.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
