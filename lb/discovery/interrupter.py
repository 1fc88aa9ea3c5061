"""SHELL: a thread that can be stopped wherever it waits, and that no exit of the process waits for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any


class InterruptedByStop(Exception):  # noqa: N818
    """`Interrupter.stop` was called."""


class Interrupter:
    """Ends what a thread waits for, from another thread: a pause, a connect, a handshake, a read."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._handles: set[socket.socket] = set()

    @property
    def is_stopping(self) -> bool:
        """Was `stop` called?"""
        return self._stopping.is_set()

    def stop(self) -> None:
        """Interrupt whatever goes on, and whatever begins from now on."""
        self._stopping.set()
        with self._lock:
            for handle in self._handles:
                with suppress(OSError):
                    # Wakes whoever is blocked on the socket; a connect under way is given up by it as well.
                    handle.shutdown(socket.SHUT_RDWR)

    def pause(self, seconds: float) -> None:
        """Wait. Raises InterruptedByStop."""
        if self._stopping.wait(seconds):
            raise InterruptedByStop

    def watch(self, sock: socket.socket) -> socket.socket:
        """Return a handle on `sock` by which it can be interrupted; it stays valid when `sock` is wrapped in TLS."""
        handle = sock.dup()
        with self._lock:
            if self._stopping.is_set():
                handle.close()
                raise InterruptedByStop
            self._handles.add(handle)
        return handle

    def forget(self, handle: socket.socket) -> None:
        """The socket is closed."""
        with self._lock:
            self._handles.discard(handle)
        handle.close()


class DaemonExecutor(Executor):
    """Runs each call in a daemon thread. Those of the usual executors are waited for when the process ends."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Begin the call."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(fn(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="discovery", daemon=True).start()
        return future
