"""Scripted endpoints: a listening socket, a thread for each connection, and a record of everything that came.

A script is either a list of actions, one for each request in the order in which they come in over all connections
(`default` answers the others), or, as `script`, one function that has a whole connection to itself.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress

from lb.endpoint import Endpoint as EndpointValue
from lb.endpoint import make_endpoint
from tests.fakes import (
    DEADLINE,
    Message,
    Stream,
    TruncatedError,
    ViolationError,
    eventually,
    pieces,
    read_request_body,
    read_request_head,
)
from tests.integration.ports import bind, close_listener, fill_queue

_NO_LINGER = struct.pack("ii", 1, 0)


def response(body: bytes = b"ok", *lines: str, status: str = "200 OK") -> bytes:
    """Return a response with a Content-Length."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(body)}", "", ""])
    return head.encode("latin-1") + body


class Connection:
    """One connection that was accepted."""

    def __init__(self, endpoint: Endpoint, sock: socket.socket, number: int) -> None:
        self.endpoint = endpoint
        self.socket = sock
        self.stream = Stream(sock)
        self.number = number
        self.requests = 0
        """Complete requests so far."""
        self.peer_end: str | None = None
        """How the other side closed: "fin" or "reset"; None as long as it was not seen."""
        self.is_closed = False
        """By us."""

    def read_head(self) -> Message | None:
        """Read and record a request head; None when the peer has closed."""
        head = read_request_head(self.stream)
        if head is None:
            self.peer_end = "fin"
        else:
            self.endpoint.note_head(head)
        return head

    def read_body(self, head: Message) -> None:
        """Read the body of `head` and record the request as complete."""
        read_request_body(self.stream, head)
        self.requests += 1
        self.endpoint.note_request(head)

    def read_request(self) -> Message | None:
        """Read and record a whole request; None when the peer has closed."""
        head = self.read_head()
        if head is not None:
            self.read_body(head)
        return head

    def send(self, *data: bytes) -> None:
        """Send each of `data` with a call of its own."""
        for piece in data:
            self.socket.sendall(piece)

    def fin(self) -> None:
        """Close our sending side."""
        with suppress(OSError):  # the other side has reset the connection, which is no failure of ours
            self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close in order; unread bytes would make a reset of it, so there must be none."""
        self.is_closed = True
        self.fin()

    def reset(self) -> None:
        """Close with an RST."""
        self.is_closed = True
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self.socket.close()

    def wait_for_end(self) -> None:
        """Discard what comes until the other side closes."""
        while self.stream.fill():
            self.stream.buffer = b""
        self.peer_end = "fin"


Action = Callable[[Connection, Message], object]
Script = Callable[[Connection], object]


class Endpoint:
    """A scripted endpoint on 127.0.0.1. Use as a context; `stop` fails if a script failed or a request was illegal."""

    def __init__(
        self,
        *actions: Action,
        default: Action | None = None,
        script: Script | None = None,
        name: str = "",
        is_up: bool = True,
        backlog: int = 512,
        receive_buffer: int | None = None,
        bind: Callable[[int], socket.socket] = bind,
    ) -> None:
        """`bind` makes its listening socket, on a port that is free if it is given 0."""
        self.name = name
        self.connections: list[Connection] = []
        self.requests: list[Message] = []
        """Complete requests, in the order in which they were complete."""
        self.heads: list[Message] = []
        self.errors: list[BaseException] = []
        self.default = default or respond(response(name.encode() or b"ok"))
        self._actions = list(actions)
        self._script = script or self._serve
        self._backlog = backlog
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._fillers: list[socket.socket] = []
        self._bind = bind
        self._socket = bind(0)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.host: str
        self.port: int
        self.host, self.port = self._socket.getsockname()
        self._is_up = False
        if is_up:
            self.up()

    def __enter__(self) -> Endpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def value(self) -> EndpointValue:
        """The endpoint as the balancer knows it."""
        return make_endpoint(self.host, self.port)

    def up(self) -> None:
        """Listen: connects to the port were refused until now."""
        self._is_up = True
        self._socket.listen(self._backlog)
        self._start(self._accept, self._socket)

    def down(self) -> None:
        """Listen no more and reset what is connected."""
        self.stop_listening()
        self.reset_all()

    def stop_listening(self) -> None:
        """Listen no more; the port stays ours, and connects to it are refused. What is connected goes on."""
        self._is_up = False
        close_listener(self._socket)
        self._socket = self._bind(self.port)

    def reset_all(self) -> None:
        """Reset every connection."""
        for connection in self.connections:
            if not connection.is_closed:
                connection.is_closed = True
                with suppress(OSError):  # the other side was first
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
                    connection.socket.shutdown(socket.SHUT_RD)

    def swallow(self) -> None:
        """From now on connects are neither accepted nor refused (Linux). What is connected goes on."""
        self.stop_listening()
        self._fillers = fill_queue(self._socket)

    def wait_for_requests(self, count: int) -> None:
        """Wait until `count` complete requests were received."""
        eventually(lambda: len(self.requests) >= count, f"request {count} at the endpoint")

    def wait_for_heads(self, count: int) -> None:
        """Wait until `count` request heads were received."""
        eventually(lambda: len(self.heads) >= count, f"request head {count} at the endpoint")

    def wait_for_end(self, number: int) -> str:
        """Wait until the other side has closed connection `number`, and return how."""
        eventually(lambda: len(self.connections) > number, f"connection {number} to the endpoint")
        connection = self.connections[number]
        eventually(lambda: connection.peer_end is not None, f"the end of connection {number} at the endpoint")
        assert connection.peer_end is not None
        return connection.peer_end

    @property
    def open_connections(self) -> int:
        """How many connections are open on both sides, as far as was read."""
        return sum(1 for c in self.connections if not c.is_closed and c.peer_end is None)

    def stop(self) -> None:
        """Close everything."""
        if self._is_up:
            close_listener(self._socket)
        for sock in (*self._fillers, self._socket):
            sock.close()
        for connection in self.connections:
            connection.is_closed = True
            with suppress(OSError):  # it is closed
                connection.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), f"endpoint {self.name or self.port}: a script did not end"
        if self.errors:
            raise self.errors[0]

    def note_head(self, head: Message) -> None:
        with self._lock:
            self.heads.append(head)

    def note_request(self, head: Message) -> None:
        with self._lock:
            self.requests.append(head)

    def _start(self, target: Callable[..., object], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            sock.settimeout(DEADLINE * 2)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(self, sock, len(self.connections))
            self.connections.append(connection)
            self._start(self._run, connection)

    def _run(self, connection: Connection) -> None:
        try:
            self._script(connection)
        except ConnectionError:
            connection.peer_end = "reset"
        except TruncatedError:
            connection.peer_end = "fin"
        except BaseException as error:
            # What comes of closing a socket under its reader is no failure.
            if isinstance(error, ViolationError) or not connection.is_closed:
                self.errors.append(error)
        finally:
            connection.socket.close()

    def _serve(self, connection: Connection) -> None:
        while not connection.is_closed:
            message = connection.read_request()
            if message is None:
                return
            with self._lock:
                action = self._actions.pop(0) if self._actions else self.default
            action(connection, message)


# Actions


def respond(*data: bytes) -> Action:
    """Send each of `data` with a call of its own."""
    return lambda connection, message: connection.send(*data)


def respond_by_bytes(data: bytes, size: int = 1) -> Action:
    """Send `data` in pieces of `size` bytes."""
    return lambda connection, message: connection.send(*pieces(data, size))


def close(connection: Connection, message: Message) -> None:
    """Close in order instead of an answer."""
    connection.close()


def reset(connection: Connection, message: Message) -> None:
    """Reset instead of an answer."""
    connection.reset()


def respond_and_close(*data: bytes) -> Action:
    """Send `data`, then a FIN."""

    def action(connection: Connection, message: Message) -> None:
        connection.send(*data)
        connection.close()

    return action


def respond_and_reset(*data: bytes, after: threading.Event | None = None) -> Action:
    """Send `data`, then an RST, as soon as `after` is set: an RST can overtake what was sent before it."""

    def action(connection: Connection, message: Message) -> None:
        connection.send(*data)
        if after is not None:
            assert after.wait(DEADLINE)
        connection.reset()

    return action


def never(connection: Connection, message: Message) -> None:
    """Send nothing until the other side closes."""
    connection.wait_for_end()
    connection.is_closed = True


def respond_when(event: threading.Event, *data: bytes) -> Action:
    """Send `data` once `event` is set."""

    def action(connection: Connection, message: Message) -> None:
        assert event.wait(DEADLINE)
        connection.send(*data)

    return action
