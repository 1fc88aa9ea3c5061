"""As much of RFC 6455 as the echo and its load need: the handshake's key, and text frames of up to 125 bytes."""

from __future__ import annotations

import base64
import functools
import hashlib

MASK = b"\x37\xfa\x21\x3d"
"""One for all frames, so that they can be made beforehand; a browser takes another each time."""
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_FINAL, _MASKED = 0x80, 0x80
_TEXT, _BINARY = 0x1, 0x2
_LONGEST = 125


class FrameError(Exception):
    """Bytes are not a whole, masked and short frame of data."""


def accept_of(key: bytes) -> bytes:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def _masked(payload: bytes, mask: bytes) -> bytes:
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def client_frame(payload: bytes) -> bytes:
    """A text frame as a client sends it: masked."""
    return bytes((_FINAL | _TEXT, _MASKED | len(payload))) + MASK + _masked(payload, MASK)


def server_frame(payload: bytes) -> bytes:
    """A text frame as a server sends it: not masked."""
    return bytes((_FINAL | _TEXT, len(payload))) + payload


def client_frame_size(start: bytes) -> int:
    """How long the client's frame is that begins with these bytes, two at least. FrameError when it is none."""
    if start[0] not in (_FINAL | _TEXT, _FINAL | _BINARY) or not _MASKED <= start[1] <= _MASKED | _LONGEST:
        raise FrameError(f"a frame began with {start[:2].hex()}")
    return 6 + (start[1] & ~_MASKED)


@functools.lru_cache(maxsize=1024)
def echo_of(frame: bytes) -> bytes:
    """The frame with the same payload as a server sends it. Remembered: a load sends the same ones again."""
    return bytes((frame[0], frame[1] & ~_MASKED)) + _masked(frame[6:], frame[2:6])
