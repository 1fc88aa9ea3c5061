"""SHELL: what a transport can't say or do, asked of its socket."""

from __future__ import annotations

import array
import asyncio
import fcntl
import math
import os
import socket
import struct
import termios
from collections.abc import Iterator
from contextlib import suppress

_UNREAD_BYTES = 65536
_NO_LINGER = struct.pack("ii", 1, 0)
# The kernel counts from when it first repeats what was sent (tcp_timer.c, tcp_retransmits_timed_out). With a time-out
# of 1 s it took 1.43 to 1.48 s from the request on; this much less, 1.02 to 1.04 s, on every loop.
_FIRST_REPEAT_SECONDS = 0.4
# The kernel takes no more (MAX_TCP_KEEPIDLE).
_LONGEST_PROBE_SECONDS = 32767
_TCP_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", None)


def reset(transport: asyncio.Transport) -> None:
    """Close at once and with an RST.

    `abort()` alone sends a clean FIN, which the reader of a close-delimited body takes for its end; with a linger time
    of zero the kernel resets.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None:
        # An error means that it is closed already. One that is closing still has bytes to send: those are dropped.
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


def expect_acks(transport: asyncio.Transport, seconds: float) -> None:
    """Have the kernel break the connection with ETIMEDOUT when its peer acknowledges nothing for `seconds`; 0: for as
    long as the kernel likes, a quarter of an hour and more.

    What was sent counts, and while nothing is under way a probe every `seconds`, rounded up, that the peer's kernel
    answers however busy its process is (tcp(7), TCP_USER_TIMEOUT, SO_KEEPALIVE). Not for a stream that its reader may
    rightly hold up: from Linux 5.11 on a peer that keeps its window at zero counts as silent too.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or _TCP_USER_TIMEOUT is None:
        return
    with suppress(OSError):
        counted = max(seconds - _FIRST_REPEAT_SECONDS, seconds / 2)
        sock.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, math.ceil(counted * 1000))
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, seconds > 0)
        if seconds > 0:
            interval = min(math.ceil(seconds), _LONGEST_PROBE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, interval)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, interval)


def unsent_bytes(transport: asyncio.Transport) -> int:
    """Return how many written bytes the peer has not taken yet: those in the transport and those in the kernel.

    The kernel takes megabytes before a transport has to buffer anything, and frees them in large steps; only its own
    count (tcp(7), SIOCOUTQ) shows that a slow reader goes on reading.
    """
    queued = _count(transport, termios.TIOCOUTQ)
    # Not every system counts it for sockets.
    return transport.get_write_buffer_size() + (0 if queued is None else queued)


def is_drained(transport: asyncio.Transport) -> bool:
    """Return whether nothing is there to be read, as far as is known (tcp(7), SIOCINQ)."""
    return _count(transport, termios.FIONREAD) == 0


def unread(transport: asyncio.Transport) -> Iterator[bytes]:
    """Yield what the kernel has received and nobody has read, for a transport that reads no more.

    Bytes that came before a reset are still there behind it.
    """
    sock = transport.get_extra_info("socket")
    fd = -1 if sock is None else sock.fileno()
    while fd >= 0:
        try:
            data = os.read(fd, _UNREAD_BYTES)
        except OSError:
            return
        if not data:
            return
        yield data


def _count(transport: asyncio.Transport, request: int) -> int | None:
    """Return what the kernel says to a question for a number of bytes, or None."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return None
    answer = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), request, answer)
    except OSError:
        return None
    return answer[0]
