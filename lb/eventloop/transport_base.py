"""What a stream transport is besides reading and writing: its state, what is told of it, and its end."""

from __future__ import annotations

import asyncio
import socket
import sys
import warnings
from asyncio import constants, transports, trsock
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from lb.eventloop.poller import (
    EDGE,
    ERROR,
    NOT_READING,
    PEER_CLOSED,
    READ,
    READS_DATA,
    READS_INTO_BUFFER,
    WRITE,
    Sink,
)

if TYPE_CHECKING:
    from lb.eventloop.splice import Splice
    from lb.eventloop.watching import WatchingLoop

# The object that Python makes for so many bytes is the largest that its own allocator serves: 0.3 µs of a small request
# less than with malloc, which has to split a large block for each read and to merge it again.
READ_SMALL = 479
READ_MEDIUM = 32768
HIGH_WATER = 65536


class TransportBase(Sink, transports._FlowControlMixin):  # sendfile's fallback asks for it
    """The state of a connected stream socket on the loop."""

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_buffered",
        "_closing",
        "_empty_waiter",
        "_eof_written",
        "_error",
        "_extra_info",
        "_fd",
        "_interest",
        "_lost",
        "_missed",
        "_paused",
        "_peer_closed",
        "_protocol",
        "_read_eof",
        "_read_size",
        "_receive",
        "_send",
        "_send_now",
        "_server",
        "_sock",
        "_splice",
        "_splices",
        "_starting",
        "_way_to_read",
        "reading",
    )

    # What BaseEventLoop asks for before start_tls and sendfile.
    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __init__(
        self,
        loop: WatchingLoop,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        *,
        extra: dict[str, Any] | None = None,
        server: Any = None,
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._fd = sock.fileno()
        self._send = sock.send
        self._receive = sock.recv
        self._extra_info = extra
        self._server = server
        self._buffer: deque[bytes | memoryview] | None = None
        self._buffered = 0
        self._high_water = HIGH_WATER
        self._low_water = HIGH_WATER // 4
        self._protocol_paused = False
        self._paused = False
        self._missed = False
        """Is something there to be read that was reported, and won't be again?"""
        self._closing = False
        self._lost = 0
        self._error: BaseException | None = None
        self._eof_written = False
        self._read_eof = False
        self._peer_closed = False
        self._interest = 0
        self._read_size = READ_SMALL
        self._starting = True
        self.reading = NOT_READING
        """Not paused, not at the end, not closing: how are bytes taken when there are some?"""
        self._send_now: Callable[[bytes], int] | None = self._send
        """Sends bytes without further questions; None while something is buffered, or from when something ends."""
        self._empty_waiter: asyncio.Future[None] | None = None
        self._splice: Splice | None = None
        self._splices = True
        """Has splice(2) not been refused for this socket?"""
        self._protocol: Any = protocol
        self.set_protocol(protocol)
        if server is not None:
            server._attach(*self._attached())
        loop._transports[self._fd] = self

    def ready(self, events: int) -> None:
        """Read and write as far as one call goes."""
        raise NotImplementedError

    def _watch(self, interest: int) -> None:
        if interest != self._interest:
            if not self._interest:
                self._loop._poller.add(self._fd, self, interest | EDGE)
            elif interest:
                self._loop._poller.change(self._fd, interest | EDGE)
            else:
                self._loop._poller.remove(self._fd)
            self._interest = interest

    def _rearm(self) -> None:
        """Have what may still be there reported again."""
        self._loop._poller.rearm(self._fd)

    def _attached(self) -> tuple[object, ...]:
        """What a server is told of a connection of its own: from Python 3.13 on, which one."""
        return (self,) if sys.version_info >= (3, 13) else ()

    # Information

    def remember_addresses(self) -> None:
        """Find both addresses out now, so that they are known after the end as well."""
        for name in ("sockname", "peername", "socket"):
            self.get_extra_info(name)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return `socket`, `sockname`, `peername`, or what TLS has added; found out when it is asked for."""
        extra = self._extra_info
        if extra is None:
            extra = self._extra_info = {}
        if name not in extra:
            if name == "socket":
                extra[name] = trsock.TransportSocket(self._sock)
            elif name in ("sockname", "peername"):
                try:
                    extra[name] = self._sock.getsockname() if name == "sockname" else self._sock.getpeername()
                except OSError:
                    extra[name] = None
        return extra.get(name, default)

    def __repr__(self) -> str:
        state = "closed" if self._sock.fileno() < 0 else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} fd={self._fd} buffered={self._buffered}>"

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell another protocol from now on."""
        self._protocol = protocol
        self._way_to_read = READS_INTO_BUFFER if isinstance(protocol, asyncio.BufferedProtocol) else READS_DATA
        self.end_splice()

    def end_splice(self) -> None:
        """Give the protocol what is read from now on, in its own way."""
        self._splice = None
        if self.reading:
            self.reading = self._way_to_read

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol."""
        return cast(asyncio.BaseProtocol, self._protocol)

    def is_closing(self) -> bool:
        """Is it closed or closing?"""
        return self._closing

    # The end

    def close(self) -> None:
        """Close behind what was written."""
        if self._closing:
            return
        self._closing = True
        self._send_now = None
        self.reading = NOT_READING
        if self._buffer:
            self._watch(WRITE)
        else:
            self._connection_lost_soon(None)

    def abort(self) -> None:
        """Close at once; what is buffered is lost."""
        self._force_close(None)

    def _fatal(self, error: BaseException, message: str = "Fatal error on transport") -> None:
        if isinstance(error, OSError):
            if self._loop.get_debug():
                self._loop._debug_log("%r: %s", self, message, error)
        else:
            self._loop.call_exception_handler(
                {"message": message, "exception": error, "transport": self, "protocol": self._protocol}
            )
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        if self._lost:
            return
        self._buffer = None
        self._buffered = 0
        self._closing = True
        self.reading = NOT_READING
        self._connection_lost_soon(error)

    def _connection_lost_soon(self, error: BaseException | None) -> None:
        self._lost += 1
        self._send_now = None
        self._watch(0)
        self._error = error
        # It is its own handle. One of asyncio's would copy a context, and cost 1 µs.
        self._loop._ready.append(self)

    _cancelled = False

    def _run(self) -> None:
        """Tell the protocol that the connection is lost, and close the socket. Called by the loop, once."""
        try:
            if not self._starting:
                self._protocol.connection_lost(self._error)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._loop.call_exception_handler(
                {"message": "Exception in connection_lost()", "exception": error, "transport": self}
            )
        finally:
            self._error = None
            self._loop._transports.pop(self._fd, None)
            self._loop._unwatch_closed(self._fd)
            self._sock.close()
            self._protocol = None
            self._splice = None
            server, self._server = self._server, None
            if server is not None:
                server._detach(*self._attached())
            if self._empty_waiter is not None and not self._empty_waiter.done():
                self._empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))

    def __del__(self) -> None:
        sock = getattr(self, "_sock", None)
        if sock is not None and sock.fileno() >= 0:
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self, stacklevel=2)
            sock.close()

    # For sendfile

    def _lend(self) -> socket.socket:
        """Let somebody else use the socket: nothing is read or written here until `_take_back`."""
        self._watch(0)
        self._loop._transports.pop(self._fd, None)
        return self._sock

    def _take_back(self) -> None:
        if not self._lost:
            self._loop._transports[self._fd] = self
            self._watch((ERROR if self._read_eof else READ | PEER_CLOSED) | (WRITE if self._buffer else 0))

    def _make_empty_waiter(self) -> asyncio.Future[None]:
        if self._empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        self._empty_waiter = self._loop.create_future()
        self._send_now = None
        if not self._buffer:
            self._empty_waiter.set_result(None)
        return self._empty_waiter

    def _reset_empty_waiter(self) -> None:
        self._empty_waiter = None
        self._reconsider()

    def _reconsider(self) -> None:
        is_direct = not (self._buffer or self._closing or self._eof_written or self._empty_waiter is not None)
        self._send_now = self._send if is_direct else None
