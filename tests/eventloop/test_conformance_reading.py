"""Reading on every loop: order, pausing, the peer's FIN and RST."""

from __future__ import annotations

import asyncio
import hashlib

import pytest

from tests.eventloop.conformance import OnLoop, Peer, Recorder, attach, block, socket_pair, turns

FAMILIES = pytest.mark.parametrize("family", ["tcp", "unix"])


@FAMILIES
def test_bytes_keep_their_order_whatever_is_paused(on_loop: OnLoop, family: str) -> None:
    class Hesitant(Recorder):
        """Takes a break after each piece."""

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()
            asyncio.get_running_loop().call_soon(self.transport.resume_reading)

    async def main() -> None:
        hesitant = Hesitant()
        peer = await attach(hesitant, family)
        data = block(2 << 20)
        await peer.send(data)
        peer.close()
        await hesitant.until("lost")
        assert hesitant.events == ["made", "data", "eof", "lost"]
        assert hashlib.sha256(hesitant.received).digest() == hashlib.sha256(data).digest()

    on_loop(main)


def test_a_sender_is_held_up_while_reading_is_paused(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder, buffers=64 << 10)
        recorder.transport.pause_reading()
        data = block(1 << 20)
        sending = asyncio.create_task(peer.send(data))
        await turns(50)
        assert not sending.done()
        assert not recorder.received
        recorder.transport.resume_reading()
        await sending
        peer.fin()
        await recorder.until("lost")
        assert recorder.received == data
        peer.close()

    on_loop(main)


@FAMILIES
def test_a_pause_before_the_first_read(on_loop: OnLoop, family: str) -> None:
    class PausedFromTheStart(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.pause_reading()

    async def main() -> None:
        ours, theirs = socket_pair(family)
        theirs.sendall(b"early")
        recorder = PausedFromTheStart()
        await asyncio.get_running_loop().connect_accepted_socket(lambda: recorder, ours)
        peer = Peer(theirs)
        await peer.send(b" and late")
        await turns()
        if on_loop.name == "uvloop":
            # It starts to read behind connection_made, whatever was asked for in it.
            assert recorder.transport.is_reading()
        else:
            assert recorder.events == ["made"]
            assert not recorder.transport.is_reading()
        recorder.transport.resume_reading()
        assert recorder.transport.is_reading()
        await recorder.until(lambda: recorder.received == b"early and late")
        await recorder.end()
        peer.close()

    on_loop(main)


def test_pausing_and_resuming_do_not_add_up(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        transport = recorder.transport
        transport.resume_reading()
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        await peer.send(b"one")
        await turns()
        assert recorder.events == ["made"]
        transport.resume_reading()
        transport.resume_reading()
        await recorder.until(lambda: recorder.received == b"one")
        transport.pause_reading()
        await peer.send(b"two")
        await turns()
        assert recorder.received == b"one"
        transport.resume_reading()
        await recorder.until(lambda: recorder.received == b"onetwo")
        await recorder.end()
        peer.close()

    on_loop(main)


def test_a_pause_in_the_middle_of_data_holds_at_once(on_loop: OnLoop) -> None:
    class OneBite(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async def main() -> None:
        recorder = OneBite()
        ours, theirs = socket_pair()
        theirs.setblocking(False)
        # More than any loop takes with one call.
        sent = theirs.send(block(1 << 20))
        await asyncio.get_running_loop().connect_accepted_socket(lambda: recorder, ours)
        await recorder.until("data")
        bite = len(recorder.received)
        await turns()
        assert len(recorder.received) == bite < sent
        recorder.transport.resume_reading()
        await recorder.until(lambda: len(recorder.received) > bite)
        recorder.transport.abort()
        await recorder.until("lost")
        assert recorder.received == block(1 << 20)[: len(recorder.received)]
        theirs.close()

    on_loop(main)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_paused_connection_can_be_ended(on_loop: OnLoop, end: str) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        recorder.transport.pause_reading()
        await peer.send(b"unread")
        getattr(recorder.transport, end)()
        await recorder.until("lost")
        assert recorder.events == ["made", "lost"]
        assert recorder.error is None
        peer.close()

    on_loop(main)


def test_pausing_and_resuming_what_is_ended_do_nothing(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        recorder.transport.close()
        for _ in range(2):
            recorder.transport.pause_reading()
            recorder.transport.resume_reading()
            assert not recorder.transport.is_reading()
            await recorder.until("lost")
        assert recorder.events == ["made", "lost"]
        peer.close()

    on_loop(main)


@FAMILIES
def test_a_fin_that_is_not_answered_leaves_the_other_direction_open(on_loop: OnLoop, family: str) -> None:
    async def main() -> None:
        recorder = Recorder(keep_open=True)
        peer = await attach(recorder, family)
        await peer.send(b"question")
        peer.fin()
        await recorder.until("eof")
        assert recorder.received == b"question"
        assert not recorder.transport.is_closing()
        data = block(1 << 20)
        recorder.transport.write(data)
        assert await peer.read(len(data)) == data
        assert recorder.events[:3] == ["made", "data", "eof"]
        await recorder.end()
        assert await peer.read_to_end() == b""
        assert recorder.events.count("eof") == recorder.events.count("lost") == 1
        assert recorder.error is None
        peer.close()

    on_loop(main)


def test_pausing_and_resuming_behind_the_fin_do_not_tell_it_again(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder(keep_open=True)
        peer = await attach(recorder)
        peer.fin()
        await recorder.until("eof")
        for _ in range(3):
            recorder.transport.pause_reading()
            await turns()
            recorder.transport.resume_reading()
            await turns()
        assert recorder.events[:2] == ["made", "eof"]
        if on_loop.name == "epoll":
            # The others read the end, and tell of it, again.
            assert recorder.events == ["made", "eof"]
        recorder.transport.write(b"still here")
        assert await peer.read(10) == b"still here"
        await recorder.end()
        peer.close()

    on_loop(main)


def test_all_that_came_before_the_fin_is_told_before_it(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        recorder.transport.pause_reading()
        data = block(256 << 10)
        sent = peer.sock.send(data)
        peer.close()
        await turns()
        assert recorder.events == ["made"]
        recorder.transport.resume_reading()
        await recorder.until("lost")
        assert recorder.events == ["made", "data", "eof", "lost"]
        assert recorder.received == data[:sent]

    on_loop(main)


def test_a_reset_is_told_as_an_error_and_not_as_an_end(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder)
        peer.reset()
        await recorder.until("lost")
        await turns()
        assert recorder.events == ["made", "lost"]
        assert type(recorder.error) is ConnectionResetError

    on_loop(main)


def test_a_unix_peer_that_closes_with_unread_bytes_resets(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorder = Recorder()
        peer = await attach(recorder, "unix")
        recorder.transport.write(b"never read")
        assert await asyncio.get_running_loop().sock_recv(peer.sock, 5) == b"never"
        peer.close()
        await recorder.until("lost")
        assert recorder.events == ["made", "lost"]
        assert type(recorder.error) is ConnectionResetError

    on_loop(main)


def test_many_connections_each_receive_what_is_theirs(on_loop: OnLoop) -> None:
    async def main() -> None:
        recorders = [Recorder() for _ in range(50)]
        peers = [await attach(recorder) for recorder in recorders]
        for round_ in range(20):
            for number, peer in enumerate(peers):
                await peer.send(b"%d.%d " % (number, round_))
        for peer in peers:
            peer.close()
        for number, recorder in enumerate(recorders):
            await recorder.until("lost")
            assert recorder.received == b"".join(b"%d.%d " % (number, round_) for round_ in range(20))

    on_loop(main)
