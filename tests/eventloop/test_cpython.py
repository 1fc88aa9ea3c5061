"""CPython's own tests of asyncio, run against our loop.

Where the interpreter does not ship them (Debian has them in a package of its own), they are skipped with a reason.

Left out, and why:
- datagram endpoints, pipes, subprocesses: our loop does not offer them (NotImplementedError names the method);
- tests that look into the selector loop's private parts (`_selector`, `_SelectorSocketTransport`, …).
"""

from __future__ import annotations

import asyncio
import unittest

import pytest

from lb.eventloop.loop import EpollEventLoop

pytest.importorskip("test.test_asyncio", reason="the interpreter does not ship its tests (test.test_asyncio)")

from test.test_asyncio import (
    test_buffered_proto,
    test_events,
    test_sendfile,
    test_server,
    test_sock_lowlevel,
    test_ssl,
    test_sslproto,
)
from test.test_asyncio import utils as test_utils

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(60),
    # They are the interpreter's, written for its own runner.
    pytest.mark.filterwarnings("ignore"),
]

LEFT_OUT = {
    "create_datagram": "datagram endpoints are not offered",
    "datagram": "datagram endpoints are not offered",
    "read_pipe": "pipes are not offered",
    "write_pipe": "pipes are not offered",
    "bidirectional_pty": "pipes are not offered",
    "unclosed_pipe": "pipes are not offered",
    "subprocess": "subprocesses are not offered",
    "pty": "pipes are not offered",
    "sendfile_not_supported": "datagram endpoints are not offered",
    "internal_fds": "looks into the selector loop's self-pipe",
    "timeout_rounding": "its failure message looks into the selector; test_epoll_loop.py counts the turns instead",
}


def new_loop(self: object) -> EpollEventLoop:
    return EpollEventLoop()


def ours(*bases: type) -> type:
    """Return a test case over our loop, without what is left out."""
    left_out = {
        test: None
        for base in bases
        for test in dir(base)
        if test.startswith("test") and any(part in test for part in LEFT_OUT)
    }
    return type(bases[0].__name__, bases, {"create_event_loop": new_loop, "new_loop": new_loop, **left_out})


class Functional(unittest.TestCase):
    """Keeps the tests that set a policy or an exception handler from leaving it behind."""

    def doCleanups(self) -> bool:  # noqa: N802
        asyncio.set_event_loop(None)
        return super().doCleanups()


TestEvents = ours(test_events.EventLoopTestsMixin, test_utils.TestCase)
TestSocketCalls = ours(test_sock_lowlevel.BaseSockTestsMixin, test_utils.TestCase)
TestSendfile = ours(test_sendfile.SendfileTestsBase, test_utils.TestCase)
TestBufferedProtocol = ours(test_buffered_proto.BaseTestBufferedProtocol, Functional)
TestServer = ours(test_server.SelectorStartServerTests)
TestStartTLS = ours(test_sslproto.BaseStartTLS, Functional)
TestSSL = ours(test_ssl.TestSSL)
