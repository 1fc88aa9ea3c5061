"""uvicorn, with h11 and websockets, on our loop, unchanged and under load; aiohttp and websockets are its clients."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect

from tests.eventloop.certificates import client_context, server_certificate
from tests.eventloop.conformance import OnLoop
from tests.eventloop.judges import Load, body, can_read_slowly, messages, new_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]

TLS = pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
SOCKETS = 60


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """What `judges.Load` asks for."""
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["path"] == "/digest":
        hashed, more = hashlib.sha256(), True
        while more:
            event = await receive()
            hashed.update(event["body"])
            more = event["more_body"]
        await respond(send, [hashed.hexdigest().encode()])
    else:
        _, _, seed, size = scope["path"].split("/")
        data = body(int(seed), int(size))
        await respond(send, [data[at : at + 70_001] for at in range(0, len(data), 70_001)])


async def respond(send: Any, parts: list[bytes]) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for part in parts:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body"})


async def echo(receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": event.get("bytes"), "text": event.get("text")})


@asynccontextmanager
async def serving(tls: bool, directory: Path) -> AsyncIterator[int]:
    """Serve; give the port."""
    options: dict[str, Any] = {}
    if tls:
        certificate = directory / "certificate.pem"
        server_certificate().private_key_and_cert_chain_pem.write_to_path(str(certificate))
        options["ssl_certfile"] = certificate
    config = uvicorn.Config(
        app,
        host="127.0.0.1",
        port=0,
        http="h11",
        ws="websockets-sansio",
        lifespan="off",
        log_level="warning",
        timeout_graceful_shutdown=5,
        **options,
    )
    server = uvicorn.Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:
        assert not running.done()
        await asyncio.sleep(0)
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await running


@TLS
@pytest.mark.parametrize("keep_alive", [True, False], ids=["kept", "closed"])
def test_requests(
    on_epoll: OnLoop, caplog: pytest.LogCaptureFixture, tmp_path: Path, tls: bool, keep_alive: bool
) -> None:
    async def main() -> None:
        async with (
            serving(tls, tmp_path) as port,
            new_session(client_context() if tls else None, keep_alive=keep_alive) as session,
        ):
            await Load(session, f"{'https' if tls else 'http'}://127.0.0.1:{port}").run(
                slow_readers=can_read_slowly(tls=tls, keep_alive=keep_alive)
            )

    on_epoll(main, seconds=50)
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@TLS
def test_websockets(on_epoll: OnLoop, caplog: pytest.LogCaptureFixture, tmp_path: Path, tls: bool) -> None:
    async def main() -> None:
        context = client_context() if tls else None
        async with serving(tls, tmp_path) as port:

            async def talk(seed: int) -> None:
                address = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/echo"
                async with connect(address, ssl=context, compression=None, proxy=None) as socket:
                    for message in messages(seed):
                        await socket.send(message)
                        assert await socket.recv() == message

            await asyncio.gather(*(talk(seed) for seed in range(SOCKETS)))

    on_epoll(main, seconds=50)
    gc.collect()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
