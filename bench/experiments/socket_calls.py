"""What a small message costs with each pair of calls for it: `python -m bench.experiments.socket_calls`."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

import pyperf

_MESSAGE = b"x" * 200


def _pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        sender = socket.create_connection(listening.getsockname())
        receiver, _ = listening.accept()
    for sock in (sender, receiver):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sender, receiver


def _send_and_recv(size: int) -> Callable[[], object]:
    sender, receiver = _pair()

    def message() -> None:
        sender.send(_MESSAGE)
        receiver.recv(size)

    return message


def _write_and_read(size: int) -> Callable[[], object]:
    sender, receiver = _pair()
    out, into = sender.detach(), receiver.detach()

    def message() -> None:
        os.write(out, _MESSAGE)
        os.read(into, size)

    return message


def _send_and_recv_into(size: int) -> Callable[[], object]:
    sender, receiver = _pair()
    buffer = bytearray(size)
    view = memoryview(buffer)

    def message() -> bytes:
        sender.send(_MESSAGE)
        return bytes(view[: receiver.recv_into(buffer)])

    return message


def main() -> None:
    runner = pyperf.Runner(program_args=("-m", "bench.experiments.socket_calls"))
    for size in (470, 4096, 32768, 65536):
        runner.bench_func(f"send, recv({size})", _send_and_recv(size))
        runner.bench_func(f"write, read({size})", _write_and_read(size))
    runner.bench_func("send, recv_into(65536) and a copy", _send_and_recv_into(65536))


if __name__ == "__main__":
    main()
