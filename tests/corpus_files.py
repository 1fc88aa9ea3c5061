r"""Reads the corpus: one nasty message a file, with what is to become of it.

    expect: 400 content_length        what podlb says (docs below), then further options, `name: value` each
    -- sent
    POST / HTTP/1.1\r\n               the message; ends of lines stand for nothing, `\r \n \t \\ \xNN` for bytes,
    Host: x\r\n                       and `{text*12}` for twelve times the text
    -- received
    ...                               what the other side gets, where something is passed on

Requests expect `STATUS WHAT` (refused; `*` for any word) or `forwarded`. Options: `reaches: head` (it may have reached
an endpoint when the fault showed), `trailing: no` (nothing can stand behind it).
Responses expect `502 WHAT`, `passed`, or `cut REASON` (it had begun). Options: `method`, `client: 1.0`, `end: close`
(the endpoint closes behind it), `upstream: kept` or `closed`, `trailing: no`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent / "corpus"

_OPTIONS = {"expect", "reaches", "trailing", "method", "client", "end", "upstream"}
_ESCAPE = re.compile(rb"\\(?:([rnt\\])|x([0-9a-f]{2}))|\\")
_REPEATED = re.compile(rb"\{([^{}]*)\*([0-9]+)\}")
_BYTES = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}


class Entry(NamedTuple):
    """One file of the corpus."""

    name: str
    expect: list[str]
    options: dict[str, str]
    sent: bytes
    received: bytes | None


def parse(name: str, text: str) -> Entry:
    """Read one file. Raises ValueError that names it."""
    try:
        header, *sections = re.split(r"^-- (sent|received)\n", text, flags=re.MULTILINE)
        options = dict(line.split(": ", 1) for line in header.splitlines())
        if unknown := options.keys() - _OPTIONS:
            raise ValueError(f"unknown options: {sorted(unknown)}")
        parts = dict(zip(sections[::2], sections[1::2], strict=True))
        received = parts.get("received")
        expect = options["expect"].split()
        if (expect[0] in ("forwarded", "passed")) != (received is not None):
            raise ValueError("what is passed on, and nothing else, has a section `received`")
        return Entry(name, expect, options, unescape(parts["sent"]), None if received is None else unescape(received))
    except (KeyError, ValueError) as error:
        raise ValueError(f"{name}: {error}") from error


def unescape(text: str) -> bytes:
    """Return the bytes that `text` stands for."""
    raw = text.replace("\n", "").encode("ascii")
    raw = _REPEATED.sub(lambda match: match[1] * int(match[2]), raw)
    return _ESCAPE.sub(_byte, raw)


def _byte(match: re.Match[bytes]) -> bytes:
    if match[1]:
        return _BYTES[match[1]]
    if match[2]:
        return bytes([int(match[2], 16)])
    raise ValueError("a backslash that begins no escape")


def load(kind: str) -> dict[str, Entry]:
    """Return the entries in the folder `kind`, by name."""
    paths = sorted((ROOT / kind).glob("*.http"))
    return {path.stem: parse(path.stem, path.read_text("ascii")) for path in paths}
