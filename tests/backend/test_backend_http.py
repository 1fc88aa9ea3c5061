"""The demo server over real sockets: what a query asks for, bodies of any size, and faults that really happen."""

from __future__ import annotations

import errno
import hashlib
import json
import select
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from backend.parameters import filler
from tests.backend.demo_server import DemoServer, read_to_end

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


@pytest.fixture
def faulty() -> Iterator[DemoServer]:
    with DemoServer() as running:
        yield running


def head_for(method: str, target: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", *fields, "", ""]).encode()


def read_some(client: socket.socket, until: bytes) -> bytes:
    received = b""
    while until not in received:
        data = client.recv(65536)
        assert data, f"closed after {received!r}"
        received += data
    return received


def read_until_reset(client: socket.socket) -> bytes:
    received = b""
    try:
        while data := client.recv(65536):
            received += data
    except ConnectionResetError:
        return received
    raise AssertionError(f"closed in order after {received!r}")


def test_keep_alive_serves_request_after_request_and_counts(server: DemoServer) -> None:
    client = server.http()
    counts = []
    for _ in range(3):
        client.request("GET", "/")
        counts.append(json.loads(client.getresponse().read())["requests"])
        local_port = client.sock.getsockname()[1]
    assert counts == [counts[0], counts[0] + 1, counts[0] + 2]
    assert client.sock.getsockname()[1] == local_port
    client.close()


def test_off_cluster_it_tells_the_local_address(server: DemoServer) -> None:
    told = json.loads(server.get("/")[2])
    assert (told["ip"], told["namespace"], told["service"]) == ("127.0.0.1", "default", "backend")
    assert told["pod"] == told["node"] == socket.gethostname()


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_are_answered(server: DemoServer, path: str) -> None:
    assert server.get(path)[0] == 200


def test_size(server: DemoServer) -> None:
    status, fields, body = server.get("/any/path?size=20k")
    assert (status, fields["Content-Length"]) == (200, "20480")
    assert body == filler(0, 20_480)


def test_status(server: DemoServer) -> None:
    assert server.get("/?status=503")[0] == 503


def test_delay(server: DemoServer) -> None:
    start = time.monotonic()
    assert server.get("/?delay=50ms")[0] == 200
    assert time.monotonic() - start >= 0.05


def test_cpu_is_burnt_while_probes_are_answered(server: DemoServer) -> None:
    with server.connect() as client:
        start = time.monotonic()
        client.sendall(head_for("GET", "/?cpu=400ms&close=1"))
        for _ in range(5):
            assert server.get("/livez")[0] == 200
        assert select.select([client], [], [], 0)[0] == []
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK\r\n")
        assert time.monotonic() - start >= 0.4


def test_chunked(server: DemoServer) -> None:
    _, fields, body = server.get("/?size=200k&chunked=1")
    assert (fields["Transfer-Encoding"], fields["Content-Length"]) == ("chunked", None)
    assert body == filler(0, 64) * (200 * 1024 // 64)


def test_close(server: DemoServer) -> None:
    with server.connect() as client:
        client.sendall(head_for("GET", "/?close=1"))
        assert b"\r\nConnection: close\r\n" in read_to_end(client)


def test_reset(server: DemoServer) -> None:
    with server.connect() as client:
        client.sendall(head_for("GET", "/?reset=1"))
        with pytest.raises(ConnectionResetError):
            client.recv(1)


def test_reset_in_the_middle_of_a_body(server: DemoServer) -> None:
    with server.connect() as client:
        client.sendall(head_for("GET", "/?reset=1&size=10"))
        received = read_until_reset(client)
        # The system may drop what an RST follows closely; what it delivered is the beginning of the reply.
        assert b"HTTP/1.1 200 OK\r\n".startswith(received[:17])
        assert not received.endswith(b"56789")


def test_drip(server: DemoServer) -> None:
    with server.connect() as client:
        start = time.monotonic()
        client.sendall(head_for("GET", "/?size=20&drip=40&close=1"))
        received = read_some(client, b"\r\n\r\n")
        assert not received.endswith(filler(0, 20))
        assert (received + read_to_end(client)).endswith(b"\r\n\r\n" + filler(0, 20))
        assert time.monotonic() - start >= 0.4


def test_error(server: DemoServer) -> None:
    assert server.get("/?error=100%")[0] == 500
    assert server.get("/?error=0%")[0] == 200
    client = server.http()
    statuses = []
    for _ in range(200):
        client.request("GET", "/?error=50%")
        response = client.getresponse()
        response.read()
        statuses.append(response.status)
    client.close()
    # Fewer than 40 or more than 160 of 200 happens once in 10**18 runs.
    assert 40 <= statuses.count(500) <= 160
    assert statuses.count(500) + statuses.count(200) == 200


def test_they_combine(server: DemoServer) -> None:
    start = time.monotonic()
    status, fields, body = server.get("/?status=404&delay=20ms&cpu=20ms&size=1k&chunked=1&close=1&drip=100k&error=0%")
    assert time.monotonic() - start >= 0.04
    assert (status, fields["Connection"], fields["Transfer-Encoding"]) == (404, "close", "chunked")
    assert body == filler(0, 1024)


def test_a_bad_value_is_refused_and_the_connection_goes_on(server: DemoServer) -> None:
    answer = server.exchange(head_for("GET", "/?size=big") + head_for("GET", "/livez"))
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"""{"error": "size: expected bytes such as 512, 20k or 3m, got 'big'"}""" in answer
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 1


def test_head(server: DemoServer) -> None:
    status, fields, body = server.request("HEAD", "/?size=20k")
    assert (status, fields["Content-Length"], body) == (200, "20480", b"")


def test_pipelined_requests_are_answered_in_order(server: DemoServer) -> None:
    wanted = [201, 202, 203, 204, 205, 206, 207, 208]
    targets = [f"/?status={status}&delay={'20ms' if status % 2 else '0ms'}" for status in wanted]
    answer = server.exchange(b"".join(head_for("GET", target) for target in targets))
    assert [int(part[:3]) for part in answer.split(b"HTTP/1.1 ")[1:]] == wanted


def test_a_bad_request_is_told_although_more_is_on_its_way(server: DemoServer) -> None:
    with server.connect() as client:
        client.sendall(b"nonsense\r\n\r\n" + b"x" * 200_000)
        assert read_to_end(client).startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_a_client_that_waits_is_told_to_continue(server: DemoServer) -> None:
    with server.connect() as client:
        client.sendall(head_for("POST", "/echo", "Content-Length: 5", "Expect: 100-continue", "Connection: close"))
        assert read_some(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"hello")
        answer = read_to_end(client)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b'"body": "hello"' in answer


def test_echo(server: DemoServer) -> None:
    status, _, body = server.request("PUT", "/echo?a=b", {"x": 1})
    echo = json.loads(body)
    assert status == 200
    assert (echo["method"], echo["target"], echo["body"], echo["bodyLength"]) == ("PUT", "/echo?a=b", '{"x": 1}', 8)
    assert echo["bodySha256"] == hashlib.sha256(b'{"x": 1}').hexdigest()
    assert ["Content-Length", "8"] in echo["fields"]


@pytest.mark.parametrize("framing", ["Content-Length: 67108864", "Transfer-Encoding: chunked"])
def test_a_large_upload_is_taken_in_little_memory(server: DemoServer, framing: str) -> None:
    server.request("POST", "/echo", b"\x00" * MIB)
    before = server.peak_memory()
    piece = filler(0, 32_768) * 2
    framed = piece if "Length" in framing else b"10000\r\n" + piece + b"\r\n"
    with server.connect() as client:
        client.sendall(head_for("POST", "/echo", framing, "Connection: close"))
        for _ in range(1024):
            client.sendall(framed)
        if framed is not piece:
            client.sendall(b"0\r\n\r\n")
        echo = json.loads(read_to_end(client).partition(b"\r\n\r\n")[2])
    assert (echo["bodyLength"], echo["bodyTruncated"], len(echo["body"])) == (64 * MIB, True, MIB)
    assert echo["bodySha256"] == hashlib.sha256(piece * 1024).hexdigest()
    assert server.peak_memory() - before < 8 * MIB


def test_a_large_reply_waits_for_its_reader_in_little_memory(server: DemoServer) -> None:
    server.get("/?size=1m")
    before = server.peak_memory()
    with server.connect() as client:
        client.sendall(head_for("GET", "/?size=64m&close=1"))
        read_some(client, b"\r\n\r\n")
        for _ in range(20):
            assert server.get("/livez")[0] == 200
        length = 0
        while data := client.recv(MIB):
            length += len(data)
    assert length > 63 * MIB
    assert server.peak_memory() - before < 4 * MIB


def test_many_connections_at_once(server: DemoServer) -> None:
    clients = [server.connect() for _ in range(100)]
    try:
        for number, client in enumerate(clients):
            client.sendall(head_for("GET", f"/?status={200 + number}&size=1&close=1"))
        answers = [read_to_end(client) for client in clients]
    finally:
        for client in clients:
            client.close()
    assert [int(answer[9:12]) for answer in answers] == list(range(200, 300))


def order(server: DemoServer, **keys: object) -> dict[str, object]:
    status, _, body = server.request("POST", "/fault", keys)
    assert status == 200, body
    answered = json.loads(body)
    assert isinstance(answered, dict)
    return answered


def hits(server: DemoServer) -> object:
    return json.loads(server.get("/fault")[2])["hits"]


def test_fault_exit_answers_and_ends_the_process(faulty: DemoServer) -> None:
    assert order(faulty, mode="exit")["mode"] == "exit"
    assert faulty.wait() == 1
    with pytest.raises(ConnectionRefusedError):
        faulty.connect()


def test_fault_exit_with_a_share_ends_the_process_at_a_request(faulty: DemoServer) -> None:
    order(faulty, mode="exit", share=0.999_999_999)
    assert faulty.get("/livez")[0] == 200
    with faulty.connect() as client:
        client.sendall(head_for("GET", "/"))
        assert client.recv(1) == b""
    assert faulty.wait() == 1


def test_fault_hang_leaves_requests_unanswered_until_it_is_over(faulty: DemoServer) -> None:
    start = time.monotonic()
    order(faulty, mode="hang", **{"for": "700ms"})
    with faulty.connect() as client:
        client.sendall(head_for("GET", "/?close=1"))
        assert faulty.get("/livez")[0] == 200
        assert hits(faulty) == 1
        assert select.select([client], [], [], 0)[0] == []
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK\r\n")
    assert time.monotonic() - start >= 0.7
    assert faulty.get("/")[0] == 200


def test_fault_hang_ends_when_it_is_cleared_and_takes_probes_if_told(faulty: DemoServer) -> None:
    order(faulty, mode="hang", probes=True)
    with faulty.connect() as client:
        client.sendall(head_for("GET", "/readyz", "Connection: close"))
        assert select.select([client], [], [], 0.1)[0] == []
        assert hits(faulty) == 1
        assert faulty.request("DELETE", "/fault")[0] == 200
        assert read_to_end(client).startswith(b"HTTP/1.1 200 OK\r\n")


def test_fault_reset_answers_with_an_rst(faulty: DemoServer) -> None:
    order(faulty, mode="reset")
    with faulty.connect() as client:
        client.sendall(head_for("GET", "/"))
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    assert hits(faulty) == 1
    assert faulty.request("DELETE", "/fault")[0] == 200
    assert faulty.get("/")[0] == 200


def test_fault_fast503(faulty: DemoServer) -> None:
    order(faulty, mode="fast503")
    start = time.monotonic()
    status, _, body = faulty.get("/?delay=9s")
    assert (status, json.loads(body)) == (503, {"error": "fault: fast503"})
    assert time.monotonic() - start < 5
    assert hits(faulty) == 1


def test_fault_slow(faulty: DemoServer) -> None:
    order(faulty, mode="slow", delay="100ms")
    start = time.monotonic()
    assert faulty.get("/")[0] == 200
    assert time.monotonic() - start >= 0.1
    assert hits(faulty) == 1


def test_fault_share(faulty: DemoServer) -> None:
    order(faulty, mode="fast503", share=0.5)
    client = faulty.http()
    statuses = []
    for _ in range(200):
        client.request("GET", "/")
        response = client.getresponse()
        response.read()
        statuses.append(response.status)
    client.close()
    assert 40 <= statuses.count(503) <= 160
    assert statuses.count(503) == hits(faulty)


def test_a_fault_that_is_unknown_is_refused(server: DemoServer) -> None:
    status, _, body = server.request("POST", "/fault", {"mode": "explode"})
    assert status == 400
    assert json.loads(body) == {"error": "mode: expected exit, hang, reset, fast503, slow, got 'explode'"}


def test_a_request_is_logged_before_its_body_is_here() -> None:
    with DemoServer("--log-requests") as server, server.connect() as client:
        client.sendall(head_for("POST", "/a?b", "Content-Length: 5", "X-Request-Id: id\x01 [backend]"))
        line = server.read_line()
        assert line.startswith("[backend] 20")
        assert line.endswith(r" [INFO] request POST /a?b id=id\x01\x20[backend]")
        client.sendall(b"12345" + head_for("GET", "/?c"))
        assert server.read_line().endswith(" [INFO] request GET /?c id=-")


def test_a_client_that_resets_does_no_harm(server: DemoServer) -> None:
    for target in ("/?delay=10s", "/?cpu=10s", "/?size=1024m", "/?size=1m&drip=1"):
        with server.connect() as client:
            client.sendall(head_for("GET", target))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert server.get("/livez")[0] == 200


def test_who_comes_when_all_file_descriptors_are_in_use_waits() -> None:
    with DemoServer(fd_limit=30) as server:
        clients = [server.connect() for _ in range(40)]
        try:
            assert "[WARN] cannot accept" in server.read_line()
            for client in clients:
                client.sendall(head_for("GET", "/", "Connection: close"))
                assert read_to_end(client).startswith(b"HTTP/1.1 200 OK\r\n")
                client.close()
        finally:
            for client in clients:
                client.close()


def test_the_port_is_free_as_soon_as_the_server_is_gone(faulty: DemoServer) -> None:
    with faulty.connect() as client:
        client.sendall(head_for("GET", "/"))
        read_some(client, b"}")
        faulty.process.kill()
        faulty.wait()
        with pytest.raises(OSError) as raised:
            faulty.connect()
        assert raised.value.errno == errno.ECONNREFUSED
        with DemoServer("--port", str(faulty.port)) as again:
            assert again.get("/livez")[0] == 200
