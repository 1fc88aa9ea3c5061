"""SHELL: the life of the process: listen, accept, signals, drain, exit.

    =========  ===========================================================  ========================================
    state      meaning                                                      left for
    =========  ===========================================================  ========================================
    SERVING    accepts and serves                                           DRAINING at SIGTERM or SIGINT
    DRAINING   the same, but `/readyz` is 503 and replies close             STOPPING after `drainDelay`, or at SIGINT
    STOPPING   accepts no more, finishes what is in flight                  the end: 0; at SIGINT: 1, nothing finished
    =========  ===========================================================  ========================================

SIGINT skips the delay of DRAINING. A further SIGTERM changes nothing, since a supervisor may repeat it; a further
SIGINT ends the process, since a person at a terminal means it. With `onSigterm` `exit` the process is gone at SIGTERM.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import logging
import os
import resource
import signal
import socket
from contextlib import suppress

from backend.app import App
from backend.config import Config
from backend.server import Connection
from backend.shared import Shared

log = logging.getLogger(__name__)

BACKLOG = 4096
ACCEPT_PAUSE = 0.5
"""Seconds without accepting when there are no file descriptors left."""
_WANTED_FDS = 10_240
"""The soft limit of 256 (macOS) or 1,024 is less than a load test opens; macOS takes no more than this."""
_NO_FDS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class State(enum.Enum):
    """Where in its life the process is; the table above."""

    SERVING = enum.auto()
    DRAINING = enum.auto()
    STOPPING = enum.auto()


class ListenError(Exception):
    """The address can't be listened on. The message is one line that says why."""


class Process:
    """Serves `app` as `config` says, from `run` until a signal ends it."""

    def __init__(self, config: Config, app: App) -> None:
        self._config = config
        self._app = app
        self._state = State.SERVING
        self._accepting: set[asyncio.Task[None]] = set()
        self._drain_timer: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop
        self._listener: socket.socket
        self._ended: asyncio.Future[int]
        self._shared: Shared

    async def run(self) -> int:
        """Serve. Returns the exit code; raises `ListenError`."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        self._shared = Shared(self._app, self._loop, is_logging=self._config.log_requests, emptied=self._maybe_end)
        _raise_fd_limit()
        self._listener = listen(self._config.host, self._config.port)
        self._loop.add_reader(self._listener, self._accept)
        self._loop.add_signal_handler(signal.SIGTERM, self._sigterm_received)
        self._loop.add_signal_handler(signal.SIGINT, self._sigint_received)
        log.info("listening on %s", _authority(*self._listener.getsockname()[:2]))
        return await self._ended

    @property
    def port(self) -> int:
        """The port it listens on, once it runs."""
        port: int = self._listener.getsockname()[1]
        return port

    # Connections

    def _accept(self) -> None:
        """Accept all who wait."""
        while True:
            try:
                client, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # this one has gone away while it was waiting
                continue
            except OSError as error:
                if error.errno not in _NO_FDS:
                    raise
                log.warning("cannot accept for %s s: %s", ACCEPT_PAUSE, error.strerror)
                self._loop.remove_reader(self._listener)
                self._loop.call_later(ACCEPT_PAUSE, self._accept_again)
                return
            client.setblocking(False)
            task = self._loop.create_task(self._connect(client))
            self._accepting.add(task)
            task.add_done_callback(self._connected)

    def _accept_again(self) -> None:
        if self._state is not State.STOPPING:
            self._loop.add_reader(self._listener, self._accept)

    async def _connect(self, client: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: Connection(self._shared), client)
        except OSError:  # gone before it was connected
            client.close()

    def _connected(self, task: asyncio.Task[None]) -> None:
        self._accepting.discard(task)
        self._maybe_end()

    # The way out

    def _sigterm_received(self) -> None:
        if self._config.on_sigterm == "exit":
            log.info("SIGTERM: gone at once, as onSigterm says")
            os._exit(0)
        if self._state is State.SERVING:
            self._drain("SIGTERM", self._config.drain_delay)

    def _sigint_received(self) -> None:
        if self._state is State.SERVING:
            self._drain("SIGINT", 0.0)
        elif self._state is State.DRAINING:
            log.info("SIGINT: not waiting any longer")
            self.stop()
        else:
            log.info("SIGINT again: ending with %d connections open", len(self._shared.connections))
            for connection in list(self._shared.connections):
                connection.reset()
            self._end(1)

    def _drain(self, cause: str, delay: float) -> None:
        log.info("%s: not ready any more, accepting for another %g s", cause, delay)
        self._state = State.DRAINING
        self._app.is_draining = True
        if delay:
            self._drain_timer = self._loop.call_later(delay, self.stop)
        else:
            self.stop()

    def stop(self) -> None:
        """Accept no more, finish what is in flight, and end."""
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        self._state = State.STOPPING
        self._shared.is_stopping = True
        self._accept()  # closing the listening socket resets who still waits in its queue
        self._loop.remove_reader(self._listener)
        self._listener.close()
        # A timer, since those run after the sockets of their turn: what has arrived by now is in flight, not idle.
        self._loop.call_later(0, self._stop_connections)

    def _stop_connections(self) -> None:
        for connection in list(self._shared.connections):
            connection.stop()
        log.info("stopped accepting, %d connections to finish", len(self._shared.connections))
        self._maybe_end()

    def _maybe_end(self) -> None:
        if self._state is State.STOPPING and not self._shared.connections and not self._accepting:
            self._end(0)

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on `host` (`::` is both families) and `port`. Raises `ListenError`."""
    where = _authority(host, port)
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ListenError(f"cannot listen on {where}: {error}; set host to an address of this machine") from None
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        hint = "stop what listens there, or set another port" if error.errno == errno.EADDRINUSE else "set host or port"
        raise ListenError(f"cannot listen on {where}: {error.strerror}; {hint}") from None
    listener.setblocking(False)
    return listener


def _raise_fd_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _WANTED_FDS if hard == resource.RLIM_INFINITY else min(_WANTED_FDS, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # less will do: accepting waits when there are none left
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
