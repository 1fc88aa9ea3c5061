"""TLS on every loop, over its own transports."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.eventloop.certificates import client_context, server_context
from tests.eventloop.conformance import Echo, OnLoop, Peer, Recorder, block, turns


@asynccontextmanager
async def serving(factory: Any = Echo, **options: Any) -> AsyncIterator[tuple[str, int]]:
    """Serve with TLS; give the address."""
    context = options.pop("ssl", None) or server_context()
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, ssl=context, **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        await server.wait_closed()


async def connect(address: tuple[str, int], **options: Any) -> Recorder:
    options = {"ssl": client_context()} | options
    _, client = await asyncio.get_running_loop().create_connection(Recorder, *address, **options)
    return client


def test_megabytes_both_ways(on_loop: OnLoop) -> None:
    async def main() -> None:
        accepted = Echo()
        async with serving(lambda: accepted) as address:
            client = await connect(address)
            data = block(1 << 20)
            client.transport.write(data)
            await client.until(lambda: len(client.received) == len(data))
            assert client.received == accepted.received == data
            await client.end()
            await accepted.until("lost")
            assert [event for event in accepted.events if event not in ("paused", "resumed")] == [
                "made",
                "data",
                "eof",
                "lost",
            ]
            assert client.error is None
            assert accepted.error is None

    on_loop(main)


def test_many_at_once(on_loop: OnLoop) -> None:
    async def main() -> None:
        async with serving() as address:

            async def ask(number: int) -> None:
                client = await connect(address, ssl=context)
                client.transport.write(b"%d" % number * 1000)
                await client.until(lambda: client.received == b"%d" % number * 1000)
                await client.end()

            context = client_context()
            await asyncio.gather(*(ask(number) for number in range(40)))
            await turns()

    on_loop(main)


def test_what_a_transport_knows_of_its_tls(on_loop: OnLoop) -> None:
    async def main() -> None:
        server, client = server_context(), client_context()
        for context in (server, client):
            context.set_alpn_protocols(["one", "two"])
        accepted = Echo()
        async with serving(lambda: accepted, ssl=server) as address:
            recorder = await connect(address, ssl=client, server_hostname="localhost")
            transport = recorder.transport
            assert transport.get_extra_info("sslcontext") is client
            assert transport.get_extra_info("ssl_object").selected_alpn_protocol() == "one"
            assert ("DNS", "localhost") in transport.get_extra_info("peercert")["subjectAltName"]
            assert transport.get_extra_info("cipher")
            assert transport.get_extra_info("peername") == address
            await recorder.end()
            await accepted.until("lost")

    on_loop(main)


def test_a_server_that_is_not_trusted(on_loop: OnLoop) -> None:
    async def main() -> None:
        async with serving() as address:
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(address, ssl=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(address, server_hostname="elsewhere")
            client = await connect(address)
            await client.end()
            await turns()

    on_loop(main)


@pytest.mark.parametrize("first", [b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff" + bytes(200)])
def test_a_client_that_does_not_speak_tls(on_loop: OnLoop, first: bytes) -> None:
    async def main() -> None:
        made: list[Echo] = []

        def accept() -> Echo:
            made.append(Echo())
            return made[-1]

        async with serving(accept) as address:
            peer = Peer(socket.create_connection(address))
            await peer.send(first)
            peer.fin()
            await peer.read_to_end()
            peer.close()
            client = await connect(address)
            client.transport.write(b"fine")
            await client.until(lambda: client.received == b"fine")
            await client.end()
            await made[-1].until("lost")
            assert made[0].events == []

    on_loop(main)


def test_a_client_that_says_nothing_is_given_up(on_loop: OnLoop) -> None:
    async def main() -> None:
        async with serving(ssl_handshake_timeout=0.05) as address:
            peer = Peer(socket.create_connection(address))
            assert await peer.read_to_end() == b""
            peer.close()

    on_loop(main)


def test_tls_in_the_middle_of_a_connection(on_loop: OnLoop) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        upgraded = loop.create_future()

        class Plain(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                assert data == b"STARTTLS"
                tasks.append(loop.create_task(self.upgrade()))

            async def upgrade(self) -> None:
                self.transport.write(b"GO")
                echo = Echo()
                transport = await loop.start_tls(self.transport, echo, server_context(), server_side=True)
                # start_tls calls no connection_made.
                echo.connection_made(transport)
                upgraded.set_result(echo)

        tasks: list[asyncio.Task[None]] = []
        server = await loop.create_server(Plain, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        _, plain = await loop.create_connection(Recorder, *address)
        plain.transport.write(b"STARTTLS")
        await plain.until(lambda: plain.received == b"GO")
        client = Recorder()
        client.transport = await loop.start_tls(plain.transport, client, client_context(), server_hostname="127.0.0.1")
        echo = await upgraded
        data = block(1 << 20)
        client.transport.write(data)
        await client.until(lambda: client.received == data)
        await client.end()
        await echo.until("lost")
        server.close()
        await server.wait_closed()

    on_loop(main)


def test_a_slow_reader_pauses_a_writer(on_loop: OnLoop) -> None:
    async def main() -> None:
        accepted = Recorder()
        async with serving(lambda: accepted) as address:
            client = await connect(address)
            await accepted.until("made")
            client.transport.pause_reading()
            data = block(4 << 20)
            written = 0
            while "paused" not in accepted.events:
                accepted.transport.write(data)
                written += len(data)
                await turns()
            client.transport.resume_reading()
            await accepted.until("resumed")
            accepted.transport.close()
            await client.until("lost")
            assert client.received == data * (written // len(data))
            await accepted.until("lost")
            assert accepted.error is None

    on_loop(main)


def test_a_connection_that_is_cut(on_loop: OnLoop) -> None:
    async def main() -> None:
        accepted = Recorder()
        async with serving(lambda: accepted) as address:
            client = await connect(address)
            await accepted.until("made")
            client.transport.abort()
            await client.until("lost")
            await accepted.until("lost")
            assert client.error is None
            # Neither is an end that TLS would vouch for.
            assert isinstance(accepted.error, ConnectionResetError | ssl.SSLError | None)

    on_loop(main)


def test_streams_over_tls(on_loop: OnLoop) -> None:
    async def main() -> None:
        async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(10_000):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()
            copied.set()

        copied = asyncio.Event()
        server = await asyncio.start_server(copy, "127.0.0.1", 0, ssl=server_context())
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname(), ssl=client_context())
        data = block(1 << 20)
        writer.write(data)
        assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()
        await copied.wait()
        server.close()
        await server.wait_closed()

    on_loop(main)
