"""The file of a Unix socket: who removes it."""

from __future__ import annotations

import asyncio
import select
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

if not hasattr(select, "epoll"):
    pytest.skip("epoll is there on Linux only", allow_module_level=True)

from lb.eventloop.loop import EpollEventLoop


def serve_and_close(path: Path, between: Any = lambda: None, **options: Any) -> None:
    async def main() -> None:
        server = await asyncio.get_running_loop().create_unix_server(asyncio.Protocol, path, **options)
        assert path.is_socket()
        between()
        server.close()
        await server.wait_closed()

    with asyncio.Runner(loop_factory=EpollEventLoop) as runner:
        runner.run(main())


def test_it_is_removed_with_its_server_if_that_is_asked_for(tmp_path: Path) -> None:
    serve_and_close(tmp_path / "s", cleanup_socket=True)
    assert not (tmp_path / "s").exists()


def test_it_stays_if_that_is_asked_for(tmp_path: Path) -> None:
    serve_and_close(tmp_path / "s", cleanup_socket=False)
    assert (tmp_path / "s").is_socket()


def test_the_default_is_that_of_the_interpreters_own_loop(tmp_path: Path) -> None:
    serve_and_close(tmp_path / "s")
    assert (tmp_path / "s").exists() is (sys.version_info < (3, 13))


def test_somebody_elses_is_not_removed(tmp_path: Path) -> None:
    def replace() -> None:
        # Beside it first, so that it can't be given the same inode.
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(str(tmp_path / "other"))
        (tmp_path / "other").replace(tmp_path / "s")

    serve_and_close(tmp_path / "s", replace, cleanup_socket=True)
    assert (tmp_path / "s").is_socket()
