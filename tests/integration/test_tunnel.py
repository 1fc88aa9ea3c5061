"""Raw bytes both ways, of upgraded connections and in TCP mode: all, in order, at any pace, half-closed or not."""

from __future__ import annotations

import random
import threading

import pytest

from lb import metrics
from tests.eventloop.splicing import Splices
from tests.fakes import Client, eventually, pieces
from tests.integration.harness import Variant
from tests.integration.long_bodies import assert_spliced, body_of, digest_of, read_digest
from tests.integration.tunnels import NASTY, MakeTunnels, Pump, fill, read_all

pytestmark = pytest.mark.any_parser

MIB = 1 << 20
# What podlb may hold of one direction: a full buffer, and the read that filled it.
HELD = 512 * 1024


def ends(client: Client, peer: Client, first: str) -> tuple[Client, Client]:
    """Return the end that acts, and the other."""
    return (client, peer) if first == "client" else (peer, client)


both = pytest.mark.parametrize("first", ["client", "endpoint"])


@both
def test_bytes_are_untouched(first: str, tunnels: MakeTunnels) -> None:
    """Whatever they would mean to HTTP."""
    sender, reader = ends(*tunnels().open(), first)
    for _ in range(3):
        sender.send(NASTY)
        assert reader.stream.take(len(NASTY)) == NASTY
    reader.send(NASTY[::-1])
    assert sender.stream.take(len(NASTY)) == NASTY[::-1]


def test_byte_by_byte(tunnels: MakeTunnels) -> None:
    client, peer = tunnels().open()
    client.send(*pieces(NASTY[:300]))
    peer.send(*pieces(NASTY[:300]))
    assert peer.stream.take(300) == client.stream.take(300) == NASTY[:300]


@both
def test_a_half_close_leaves_the_other_direction(first: str, tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    one, other = ends(*tunnel.open(), first)
    one.send(NASTY)
    one.fin()
    assert other.stream.take_to_end() == NASTY, "the FIN comes behind all bytes"
    for _ in range(3):
        other.send(NASTY)
        assert one.stream.take(len(NASTY)) == NASTY
    assert one.is_silent()
    other.send(b"last")
    other.fin()
    assert one.stream.take_to_end() == b"last"
    assert tunnel.lb.ends() == {"ok": 1}
    eventually(lambda: tunnel.lb.counter(metrics.CONNECTIONS_OPEN) == 0, "the end of the client's connection")


@both
def test_a_fin_without_a_byte(first: str, tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    one, other = ends(*tunnel.open(), first)
    one.fin()
    assert other.how_closed() == "fin"
    other.fin()
    assert one.how_closed() == "fin"
    assert tunnel.lb.ends() == {"ok": 1}


@pytest.mark.parametrize("size", [0, 1, 5000, 100_000])
def test_both_say_all_and_go_in_the_same_turn(size: int, tunnels: MakeTunnels) -> None:
    """Neither FIN overtakes the other's bytes."""
    tunnel = tunnels()
    client, peer = tunnel.open()
    with tunnel.lb.frozen():
        for end in (client, peer):
            end.send(body_of(size))
            end.fin()
    assert client.stream.take_to_end() == peer.stream.take_to_end() == body_of(size)
    assert tunnel.lb.ends() == {"ok": 1}


@both
def test_an_answer_behind_a_long_request_that_is_half_closed(first: str, tunnels: MakeTunnels) -> None:
    """As `nc -N` or `ssh host < file` would do it."""
    tunnel = tunnels()
    one, other = ends(*tunnel.open(), first)
    request = Pump(one, 20 * MIB, fin=True)
    assert read_all(other) == digest_of(20 * MIB)
    request.join()
    answer = Pump(other, 20 * MIB, fin=True)
    assert read_all(one) == digest_of(20 * MIB)
    answer.join()
    assert tunnel.lb.ends() == {"ok": 1}


@pytest.mark.timeout(30)
def test_64_mib_each_way_at_once(variant: Variant, splices: Splices, tunnels: MakeTunnels) -> None:
    """Through the kernel where the loop can do that."""
    tunnel = tunnels()
    client, peer = tunnel.open()
    size = 64 * MIB
    pumps = [Pump(client, size, fin=True), Pump(peer, size, fin=True)]
    found: list[bytes] = []
    readers = [threading.Thread(target=lambda end=end: found.append(read_all(end))) for end in (client, peer)]
    for thread in readers:
        thread.start()
    for thread in readers:
        thread.join(25)
    for pump in pumps:
        pump.join()
    assert found == [digest_of(size)] * 2
    assert_spliced(splices, variant)
    assert tunnel.lb.ends() == {"ok": 1}


@both
@pytest.mark.parametrize("size", [65535, 65536, 65537, 131072, 8 * MIB, 8 * MIB + 1, 17 * MIB + 3])
def test_sizes_at_which_the_way_changes(first: str, size: int, tunnels: MakeTunnels) -> None:
    """Long ones go through the kernel in parts; what is short is read and written, in the same stream."""
    sender, reader = ends(*tunnels().open(), first)
    for _ in range(2):
        pump = Pump(sender, size)
        assert read_digest(reader.stream, size) == digest_of(size)
        pump.join()
        sender.send(b"short")
        assert reader.stream.take(5) == b"short"
        reader.send(b"back")
        assert sender.stream.take(4) == b"back"


def test_pieces_of_any_size_interleaved(tunnels: MakeTunnels) -> None:
    """Two streams that know nothing of each other, with their FINs at different times."""
    tunnel = tunnels()
    client, peer = tunnel.open(receive_buffer=65536)
    found: dict[str, bytes] = {}

    def talk(end: Client, size: int, seed: int) -> None:
        sizes = random.Random(seed)
        data = memoryview(body_of(size))
        while data:
            piece = sizes.choice([1, 479, 480, 16384, 16385, 65536, 300_000])
            end.send(data[:piece])  # type: ignore[arg-type]
            data = data[piece:]
        end.fin()

    def listen(name: str, end: Client) -> None:
        found[name] = read_all(end)

    sizes = {"client": 3 * MIB + 12345, "peer": MIB + 54321}
    threads = [
        threading.Thread(target=talk, args=(client, sizes["client"], 1)),
        threading.Thread(target=talk, args=(peer, sizes["peer"], 2)),
        threading.Thread(target=listen, args=("client", client)),
        threading.Thread(target=listen, args=("peer", peer)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(8)
    assert found == {"client": digest_of(sizes["peer"]), "peer": digest_of(sizes["client"])}
    assert tunnel.lb.ends() == {"ok": 1}


@pytest.mark.slow
@both
def test_a_reader_that_stands_still_holds_the_sender(first: str, tunnels: MakeTunnels) -> None:
    """The sender's writes block, podlb holds little, and the other direction goes on."""
    tunnel = tunnels(receive_buffer=16384)
    sender, still = ends(*tunnel.open(receive_buffer=16384), first)
    sent = fill(sender)
    assert 0 < tunnel.buffered() < HELD
    for _ in range(3):
        still.send(b"other way")
        assert sender.stream.take(9) == b"other way"
    assert still.stream.take(sent) == bytes(sent)
    sender.send(b"again")
    assert still.stream.take(5) == b"again"
    eventually(lambda: tunnel.buffered() == 0, "all was passed on")


@pytest.mark.slow
def test_both_stand_still(tunnels: MakeTunnels) -> None:
    """Both are held, and both go on."""
    tunnel = tunnels(receive_buffer=16384)
    client, peer = tunnel.open(receive_buffer=16384)
    up, down = fill(client), fill(peer)
    assert 0 < tunnel.buffered() < 2 * HELD
    assert client.stream.take(down) == bytes(down)
    assert peer.stream.take(up) == bytes(up)
    for end in (client, peer):
        end.fin()
    assert client.how_closed() == peer.how_closed() == "fin"
    assert tunnel.lb.ends() == {"ok": 1}


@both
def test_a_fin_waits_behind_bytes_that_are_held(first: str, tunnels: MakeTunnels) -> None:
    """Nothing is lost although the sender has gone before the reader began."""
    tunnel = tunnels(receive_buffer=16384)
    sender, still = ends(*tunnel.open(receive_buffer=16384), first)
    size = 16 * MIB
    pump = Pump(sender, size, fin=True)
    eventually(lambda: tunnel.buffered() > 0, "podlb holds something back")
    still.send(b"bye")
    still.fin()
    assert sender.stream.take_to_end() == b"bye"
    assert read_all(still) == digest_of(size)
    pump.join()
    assert tunnel.lb.ends() == {"ok": 1}


@pytest.mark.slow
@both
def test_the_last_of_both_has_time_to_arrive(first: str, tunnels: MakeTunnels) -> None:
    """Both FINs were read, and podlb still has bytes of one direction: they arrive, and their FIN behind them."""
    tunnel = tunnels(receive_buffer=16384)
    sender, still = ends(*tunnel.open(receive_buffer=16384), first)
    still.fin()
    assert sender.how_closed() == "fin"
    sent = fill(sender)
    pump = Pump(sender, MIB, fin=True)
    still.stream.take(sent)
    assert read_all(still) == digest_of(MIB)
    pump.join()
    assert tunnel.lb.ends() == {"ok": 1}


@pytest.mark.one_variant
def test_many_at_once_do_not_mix(tunnels: MakeTunnels) -> None:
    tunnel = tunnels()
    pairs = [tunnel.open() for _ in range(50)]
    for number, (client, peer) in enumerate(pairs):
        client.send(b"c%04d" % number * 400)
        peer.send(b"e%04d" % number * 400)
    for number, (client, peer) in enumerate(pairs):
        assert client.stream.take(2000) == b"e%04d" % number * 400
        assert peer.stream.take(2000) == b"c%04d" % number * 400
    assert tunnel.lb.counter(metrics.CONNECTIONS_OPEN) == 50
