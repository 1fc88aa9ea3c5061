"""No special case for the benchmark: what it sends gets nothing that other traffic of the same shape does not get.

No string in lb or backend is one that only the benchmark sends. And its requests run through exactly the same
instructions of lb, one by one, as requests of the same shape whose paths, hosts, names, values and bodies are random:
so they are answered from the same caches, and read by the recogniser or by h11, as those are.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import random
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import lb.http1.forwarding as forwarding
import lb.http1.target as target
from bench.backend import SMALL_BODY
from bench.load import SCENARIOS, Scenario
from bench.micro.fixtures import RESPONSE, CountingTransport, HotPath
from bench.proc import ROOT
from lb.downstream import Downstream
from lb.metrics import ENDED_OK

HOST = b"127.0.0.1:20480"
# Of these lb knows something that has nothing to do with the benchmark: what they mean, or that no two are alike.
KNOWN = {b"host", b"connection", b"content-length", b"referer", b"cookie", b"date"}
HEADS = 12
"""So many of each scenario: enough to fill what remembers, and to be served from it."""


def lua(name: str) -> str:
    return (ROOT / "bench" / name).read_text()


def browser_heads() -> list[bytes]:
    """Return heads that browser.lua makes, from its own text."""
    text = lua("browser.lua")
    fields = "\r\n".join(double or single for double, single in re.findall(r"""^ {4}(?:"(.+)"|'(.+)'),$""", text, re.M))
    (template,) = re.findall(r'"(GET .*)",$', text, re.M)
    host = HOST.decode()
    return [
        (
            template.replace("\\r\\n", "\r\n")
            % (at, at % 97, host, fields + "\r\n", host, at - 1, at * 7919, at * 104729, at * 1299709, at)
        ).encode()
        for at in range(1, HEADS + 1)
    ]


def post_head() -> bytes:
    """Return what post.lua makes wrk send."""
    text = lua("post.lua")
    (content_type,) = re.findall(r'wrk.headers\["Content-Type"\] = "(.+)"', text)
    piece, count = re.findall(r'string.rep\("(\w+)", (\d+)\)', text)[0]
    body = piece * int(count)
    fields = [f"Host: {HOST.decode()}", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    return "\r\n".join(["POST / HTTP/1.1", *fields, "", body]).encode()


def messages_of(scenario: Scenario) -> list[bytes]:
    """Return what wrk sends in a scenario."""
    if scenario.script == "browser.lua":
        return browser_heads()
    if scenario.script == "post.lua":
        return [post_head()] * HEADS
    assert scenario.script == "totals.lua", f"{scenario.name} has a script that this test does not read yet"
    lines = [f"GET {scenario.path} HTTP/1.1", f"Host: {HOST.decode()}", *scenario.fields, "", ""]
    return ["\r\n".join(lines).encode()] * HEADS


class Disguise:
    """Makes a message another one of the same shape: what is equal stays equal, what differs goes on to differ."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._given: dict[bytes, bytes] = {}

    def word(self, text: bytes) -> bytes:
        """Return other letters for letters, and other digits for digits."""
        if text not in self._given:
            self._given[text] = bytes(map(self._character, text))
        return self._given[text]

    def _character(self, character: int) -> int:
        letter = chr(character)
        if letter.isdigit():
            # (No leading digit makes a port too large.)
            return ord(self._random.choice("12345"))
        if not letter.isalpha():
            return character
        return ord(self._random.choice("bcdfghjklmnpqrstvwxz" if letter.islower() else "BCDFGHJKLMNPQRSTVWXZ"))

    def path(self, path: bytes) -> bytes:
        return b"/" + self.word(path[1:] or b"root")

    def message(self, message: bytes) -> bytes:
        head, _, body = message.partition(b"\r\n\r\n")
        start, *lines = head.split(b"\r\n")
        if not start.startswith(b"HTTP/"):
            method, path, version = start.split(b" ")
            start = b" ".join([method, self.path(path), version])
        return b"\r\n".join([start, *map(self._field, lines), b"", self.word(body)])

    def _field(self, line: bytes) -> bytes:
        name, _, value = line.partition(b": ")
        if name.lower() in KNOWN:
            kept = name.lower() in (b"connection", b"content-length", b"date")
            return name + b": " + (value if kept else self.word(value))
        return self.word(name) + b": " + self.word(value)


def instructions(run: Callable[[], object]) -> list[tuple[CodeType, int]]:
    """Return each instruction of lb's own code that `run` executes, in order."""
    passed: list[tuple[CodeType, int]] = []
    own = str(ROOT / "lb") + "/"

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not frame.f_code.co_filename.startswith(own):
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            passed.append((frame.f_code, frame.f_lasti))
        return trace

    before = sys.gettrace()
    # What the collector frees meanwhile would be told of as well.
    gc.collect()
    gc.disable()
    sys.settrace(trace)
    try:
        run()
    finally:
        sys.settrace(before)
        gc.enable()
    return passed


@pytest.fixture(autouse=True)
def forget_hosts(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What is remembered of hosts outlives a podlb: forget it now, and whenever this is called."""

    def forget() -> None:
        monkeypatch.setattr(target, "_host_lines_seen", {})
        monkeypatch.setattr(forwarding, "_usual", {})

    forget()
    return forget


class Client(CountingTransport):
    """A connection that is closed behind its response."""

    is_closed = False

    def close(self) -> None:
        self.is_closed = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.is_closed = True


def ways(
    messages: Sequence[bytes], response: bytes, parser: str = "auto", *, anew: bool = False
) -> list[list[tuple[CodeType, int]]]:
    """Return what each message, and the response to it, runs through in a podlb that is fresh before the first.

    `anew`: each comes on a connection of its own.
    """
    path = HotPath(parser=parser)
    # It is made anew each second.
    path.proxy.http_date = lambda: b"Sat, 28 Nov 2026 20:00:00 GMT"  # type: ignore[method-assign]
    turns = path._turn()

    def exchange(message: bytes) -> None:
        connection = path.downstream
        if anew:
            connection = Downstream(path.proxy)
            connection.connection_made(client := Client())  # type: ignore[arg-type]
        connection.data_received(message)
        path.proxy.outbox.flush()
        next(turns).data_received(response)
        path.proxy.outbox.flush()
        assert not anew or client.is_closed

    with contextlib.closing(path):
        found = [instructions(lambda message=message: exchange(message)) for message in messages]  # type: ignore[misc]
        assert path.proxy.counters[ENDED_OK] == len(messages)
    return found


@pytest.mark.parametrize("parser", ["auto", "h11"])
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_the_benchmarks_messages_run_through_the_same_instructions_as_any_of_their_shape(
    scenario: Scenario, parser: str, forget_hosts: Callable[[], None]
) -> None:
    messages, anew = messages_of(scenario), "Connection: close" in scenario.fields
    ours = ways(messages, RESPONSE, parser, anew=anew)
    for seed in (1, 2):
        disguise = Disguise(seed)
        others = [disguise.message(message) for message in messages]
        assert not set(others) & set(messages)
        assert len(set(others)) == len(set(messages))
        forget_hosts()
        theirs = ways(others, disguise.message(RESPONSE), parser, anew=anew)
        assert [len(way) for way in theirs] == [len(way) for way in ours]
        assert theirs == ours


def test_another_shape_and_what_is_remembered_do_show() -> None:
    """What is compared above is not always the same: it could fail."""
    plain, longer = (b"GET / HTTP/1.1\r\nHost: h\r\n%b\r\n" % field for field in (b"", b"X-One: more\r\n"))
    first, second, third = ways([plain] * 3, RESPONSE)
    # Seen for the first time, kept at the second, and answered from the cache at the third.
    assert len(first) > len(third) < len(second) != len(first)
    assert ways([longer], RESPONSE)[0] != first
    (unlike,) = ways([plain], RESPONSE.replace(b"Server: nginx\r\n", b""))
    assert unlike != first


def strings(path: Path) -> Iterator[bytes]:
    """Yield the strings of a module that are no documentation, in lower case."""
    tree = ast.parse(path.read_text())
    docs = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, (str, bytes)) and id(node) not in docs:
            value = node.value
            yield (value.encode(errors="surrogatepass") if isinstance(value, str) else value).lower()


def sent_by_the_benchmark() -> set[bytes]:
    """Return the paths, and the names and values of fields, of every scenario and of the backend's answers."""
    found = {b"wrk", SMALL_BODY.strip(), b"server: nginx"}
    for scenario in SCENARIOS.values():
        for message in set(messages_of(scenario)):
            start, *lines = message.partition(b"\r\n\r\n")[0].split(b"\r\n")
            found.add(start.split(b" ")[1].rpartition(b"/")[0] if scenario.name == "browser" else start.split(b" ")[1])
            for line in lines:
                name, _, value = line.partition(b": ")
                if name.lower() not in KNOWN:
                    found |= {name, value}
    found |= {name for at in browser_heads() for name in re.findall(rb"(\w+)=[0-9a-f]", at.partition(b"Cookie: ")[2])}
    return {word.lower() for word in found if word.strip(b"/?01")}


# The few that the protocol itself makes somebody say, none of them where a request is read.
SAID_BY_OURSELVES = {
    ("lb/discovery/apiserver.py", b"accept"),
    ("lb/discovery/apiserver.py", b"user-agent"),
    ("lb/pages.py", b"accept"),
    ("lb/http1/replies.py", b"content-type"),
    # Not to be taken from a trailer.
    ("lb/http1/framing.py", b"content-type"),
    ("backend/app.py", b"content-type"),
}


def test_no_string_of_lb_or_backend_is_one_that_the_benchmark_sends() -> None:
    words = sent_by_the_benchmark()
    assert {b"/articles", b"/1mib", b"sec-fetch-dest", b"seen", b"application/octet-stream"} <= words
    modules = [path for package in ("lb", "backend") for path in (ROOT / package).rglob("*.py")]
    assert len(modules) > 90
    found = {
        (str(path.relative_to(ROOT)), word)
        for path in modules
        for text in strings(path)
        for word in words
        if word == text.strip() or (len(word) > 6 and word in text)
    }
    assert found == SAID_BY_OURSELVES
