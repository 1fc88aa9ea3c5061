"""aiohttp, server and client, on our loop, unchanged and under load."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
from contextlib import suppress

import pytest
from aiohttp import WSMsgType, web

from tests.eventloop.certificates import client_context, server_context
from tests.eventloop.conformance import OnLoop
from tests.eventloop.judges import Load, body, can_read_slowly, messages, new_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
SOCKETS = 60


async def answer_digest(request: web.Request) -> web.Response:
    hashed = hashlib.sha256()
    async for part in request.content.iter_any():
        hashed.update(part)
    return web.Response(text=hashed.hexdigest())


async def answer_body(request: web.Request) -> web.StreamResponse:
    data = body(int(request.match_info["seed"]), int(request.match_info["size"]))
    response = web.StreamResponse()
    await response.prepare(request)
    # Some clients give up.
    with suppress(ConnectionError):
        for at in range(0, len(data), 70_001):
            await response.write(data[at : at + 70_001])
        await response.write_eof()
    return response


async def echo(request: web.Request) -> web.WebSocketResponse:
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type is WSMsgType.BINARY:
            await socket.send_bytes(message.data)
        else:
            await socket.send_str(message.data)
    return socket


async def start(tls: bool) -> tuple[web.AppRunner, str]:
    """Serve; return what stops it, and its address."""
    app = web.Application()
    app.router.add_post("/digest", answer_digest)
    app.router.add_get("/body/{seed}/{size}", answer_body)
    app.router.add_get("/echo", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context() if tls else None, backlog=1000).start()
    port = runner.addresses[0][1]
    return runner, f"{'https' if tls else 'http'}://127.0.0.1:{port}"


@TLS
@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept", "closed"])
def test_requests(on_epoll: OnLoop, caplog: pytest.LogCaptureFixture, tls: bool, keep_alive: bool) -> None:
    async def main() -> None:
        runner, base = await start(tls)
        async with new_session(client_context() if tls else None, keep_alive=keep_alive) as session:
            await Load(session, base).run(slow_readers=can_read_slowly(tls=tls, keep_alive=keep_alive))
        await runner.cleanup()

    on_epoll(main, seconds=50)
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@TLS
def test_websockets(on_epoll: OnLoop, caplog: pytest.LogCaptureFixture, tls: bool) -> None:
    async def main() -> None:
        runner, base = await start(tls)
        async with new_session(client_context() if tls else None, keep_alive=True) as session:

            async def talk(seed: int) -> None:
                async with session.ws_connect(f"{base}/echo") as socket:
                    for message in messages(seed):
                        if isinstance(message, bytes):
                            await socket.send_bytes(message)
                            assert await socket.receive_bytes() == message
                        else:
                            await socket.send_str(message)
                            assert await socket.receive_str() == message

            await asyncio.gather(*(talk(seed) for seed in range(SOCKETS)))
        await runner.cleanup()

    on_epoll(main, seconds=50)
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
