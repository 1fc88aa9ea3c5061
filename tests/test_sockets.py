"""What the kernel is told about a connection."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from lb import sockets
from lb.sockets import expect_acks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has TCP_USER_TIMEOUT")


class Transport:
    def __init__(self, sock: socket.socket | None) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> Any:
        assert name == "socket"
        return self.sock


@pytest.fixture
def sock() -> Iterator[socket.socket]:
    with socket.socket() as sock:
        yield sock


def expect(sock: socket.socket | None, seconds: float) -> None:
    expect_acks(Transport(sock), seconds)  # type: ignore[arg-type]


def options(sock: socket.socket) -> tuple[int, ...]:
    """Return the milliseconds from the first repetition on, if there are probes, and after how many seconds each."""
    tcp = socket.IPPROTO_TCP
    return (
        sock.getsockopt(tcp, socket.TCP_USER_TIMEOUT),
        sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
        sock.getsockopt(tcp, socket.TCP_KEEPIDLE),
        sock.getsockopt(tcp, socket.TCP_KEEPINTVL),
    )


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (1.0, (600, 1, 1, 1)),
        (0.3, (150, 1, 1, 1)),
        (2.5, (2100, 1, 3, 3)),
        # 0 would be the kernel's own time-out, a quarter of an hour.
        (0.0004, (1, 1, 1, 1)),
        # As long as the configuration allows, and longer than the kernel does.
        (86400.0, (86_399_600, 1, 32767, 32767)),
    ],
)
def test_acks_are_expected_within_so_many_seconds(
    sock: socket.socket, seconds: float, expected: tuple[int, ...]
) -> None:
    expect(sock, seconds)
    assert options(sock) == expected


def test_they_are_no_longer(sock: socket.socket) -> None:
    expect(sock, 1.0)
    expect(sock, 0.0)
    assert options(sock)[:2] == (0, 0)
    expect(sock, 1.0)
    assert options(sock) == (600, 1, 1, 1)


def test_a_connection_that_is_closed_or_has_no_socket_is_left_alone(sock: socket.socket) -> None:
    expect(None, 1.0)
    sock.close()
    expect(sock, 1.0)


def test_a_system_that_has_no_such_thing(sock: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_TCP_USER_TIMEOUT", None)
    before = options(sock)
    expect(sock, 1.0)
    assert options(sock) == before
