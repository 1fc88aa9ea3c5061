"""The examples are those of RFC 6455, sections 1.3 and 5.7."""

from __future__ import annotations

import pytest

from bench.websocket import FrameError, accept_of, client_frame, client_frame_size, echo_of, server_frame

MASKED_HELLO = bytes.fromhex("818537fa213d7f9f4d5158")
HELLO = bytes.fromhex("810548656c6c6f")


def test_the_key_of_the_handshake() -> None:
    assert accept_of(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_frames_are_masked_by_the_client_alone() -> None:
    assert client_frame(b"Hello") == MASKED_HELLO
    assert server_frame(b"Hello") == HELLO


def test_an_echo_has_the_payload_whatever_the_mask() -> None:
    assert echo_of(MASKED_HELLO) == HELLO
    assert echo_of(bytes.fromhex("828300000000") + b"abc") == b"\x82\x03abc", "binary stays binary"


def test_the_size_is_known_from_the_first_two_bytes() -> None:
    assert client_frame_size(MASKED_HELLO[:2]) == len(MASKED_HELLO)
    assert client_frame_size(client_frame(b"x" * 125)) == 131


@pytest.mark.parametrize(
    "start",
    ["8105", "0185", "8980", "8880", "81fe", "c185"],
    ids=["unmasked", "fragment", "ping", "close", "long", "reserved bit"],
)
def test_other_frames_are_refused(start: str) -> None:
    with pytest.raises(FrameError, match=f"a frame began with {start}"):
        client_frame_size(bytes.fromhex(start))
