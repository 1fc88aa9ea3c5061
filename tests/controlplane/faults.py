"""What the API server of the tests can be made to do to a request instead of answering it.

A fault is a function of connection and request. It answers, or doesn't, and returns; or it raises Gone when the
connection is over; or it returns PASS to let the request be answered as usual.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final, Literal

from tests.controlplane.objects import RESOURCES
from tests.controlplane.wire import Connection, Gone, Request, to_json

Pass = Literal["pass"]
PASS: Final[Pass] = "pass"

Act = Callable[[Connection, Request], Pass | None]


def status(code: int, reason: str, message: str, **more: object) -> dict[str, object]:
    """Return a Status, which is how the API server tells of failures."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        **more,
        "code": code,
    }


def unauthorized() -> dict[str, object]:
    """No token, an unknown one, or one that has expired."""
    return status(401, "Unauthorized", "Unauthorized")


def forbidden(request: Request, user: str) -> dict[str, object]:
    """RBAC allows it to nobody of `user`'s roles."""
    group = RESOURCES[request.resource].group
    what = f"{request.resource}.{group}" if group else request.resource
    message = (
        f'{what} is forbidden: User "{user}" cannot {request.verb} resource "{request.resource}" '
        f'in API group "{group}" in the namespace "{request.namespace}"'
    )
    details = {"group": group} if group else {}
    return status(403, "Forbidden", message, details={**details, "kind": request.resource})


def expired(message: str = "too old resource version: 1 (1000)") -> dict[str, object]:
    """The version was forgotten (compaction, or a restart that lost the watch cache)."""
    return status(410, "Expired", message)


def too_large(wanted: int, current: int) -> dict[str, object]:
    """The version is one that this API server has not seen yet (it lags behind, or etcd was restored)."""
    return status(
        504,
        "Timeout",
        f"Timeout: Too large resource version: {wanted}, current: {current}",
        details={
            "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
            "retryAfterSeconds": 1,
        },
    )


# Answers


def answer(document: dict[str, object], code: int | None = None, **fields: str) -> Act:
    """Answer with a Status (or anything else) and, of `fields`, with `Retry_After` as Retry-After."""

    def act(connection: Connection, request: Request) -> None:
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.respond_with(request, code or int(str(document["code"])), document, named)

    return act


def forbid(user: str = "system:serviceaccount:podlb:lb") -> Act:
    """Refuse as RBAC does, whatever the rules are: what an API server does that has just come back."""

    def act(connection: Connection, request: Request) -> None:
        connection.respond_with(request, 403, forbidden(request, user))

    return act


def too_many_requests(seconds: int) -> Act:
    """Refuse as priority and fairness does: 429, in plain text."""

    def act(connection: Connection, request: Request) -> None:
        fields = {"Retry-After": str(seconds), "X-Content-Type-Options": "nosniff"}
        connection.respond(
            request, 429, b"Too many requests, please try again later.\n", "text/plain; charset=utf-8", fields
        )

    return act


def unavailable(seconds: int | None) -> Act:
    """Refuse as one that is about to stop does, or a balancer in front of dead ones: 503."""

    def act(connection: Connection, request: Request) -> None:
        fields = {} if seconds is None else {"Retry-After": str(seconds)}
        connection.respond_with(request, 503, status(503, "ServiceUnavailable", "apiserver not ready"), fields)

    return act


def raw_body(body: bytes) -> Act:
    """Answer 200 with these bytes."""

    def act(connection: Connection, request: Request) -> None:
        connection.respond(request, 200, body)

    return act


def stream(*lines: bytes, then_end: bool = True) -> Act:
    """Answer a watch with these lines; then end it in order, or stay mute."""

    def act(connection: Connection, request: Request) -> None:
        connection.start_stream()
        for line in lines:
            connection.send_chunk(line)
        if not then_end:
            connection.wait_until_gone()
        connection.end_stream()

    return act


def in_stream(document: dict[str, object]) -> Act:
    """Answer a watch with 200 and an ERROR in the stream: how an API server says 410 most of the time."""
    return stream(to_json({"type": "ERROR", "object": document}))


# Silence and cuts


def mute(connection: Connection, request: Request) -> None:
    """Take the request and never answer it."""
    connection.wait_until_gone()


def mute_after_head(connection: Connection, request: Request) -> None:
    """Send the head of an answer and nothing else."""
    connection.start_stream()
    connection.wait_until_gone()


def cut(*, reset: bool, after: bytes = b"") -> Act:
    """Begin to answer, with a part of a body (none: before the head), and close."""

    def act(connection: Connection, request: Request) -> None:
        if after:
            connection.start_stream()
            connection.send_chunk(after)
        connection.close(reset=reset)
        raise Gone

    return act


def slowly(size: int, pause: float) -> Act:
    """Answer as usual, but so many bytes at a time and so many seconds apart."""

    def act(connection: Connection, request: Request) -> Pass:
        connection.pace = (size, pause)
        return PASS

    return act


class Gate:
    """Holds a request back until it is opened; then it is answered as usual."""

    def __init__(self) -> None:
        self._opened = threading.Event()

    def open(self) -> None:
        self._opened.set()

    def __call__(self, connection: Connection, request: Request) -> Pass:
        assert self._opened.wait(20.0), "the gate was not opened"
        return PASS
