"""SHELL: a connect to an endpoint that is under way, and the time it has."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

from lb.endpoint import EndpointKey
from lb.errors import ConnectFailure

_LOCAL_ERRORS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
# From the event on a socket to `connection_made`: the event, the task that waits for it, the transport's first call.
_TURNS = 4


class Connecting:
    """Connects `protocol` to an endpoint within `timeout` seconds, or tells `on_failure`: nothing was sent then.

    A connect that was done in time is not taken back, however late its task hears of it: the request may be on its
    way. Nor has one failed of which a loop that was held up has not heard yet: with 1,000 connects at once and too
    little CPU an endpoint that lived was set aside for that.
    """

    __slots__ = ("_is_late", "_loop", "_on_failure", "_task", "_timer")

    def __init__(
        self,
        protocol: asyncio.BaseProtocol,
        key: EndpointKey,
        loop: asyncio.AbstractEventLoop,
        timeout: float,
        on_failure: Callable[[ConnectFailure], None],
    ) -> None:
        self._loop = loop
        self._on_failure = on_failure
        self._is_late = False
        self._task = loop.create_task(self._connect(protocol, key))
        self._timer = loop.call_later(timeout, self._time_passed, _TURNS)

    def made(self) -> bool:
        """`connection_made` was called. Was that in time? If not, the connection is of no use; `on_failure` is told."""
        self._timer.cancel()
        return not self._is_late

    def cancel(self) -> None:
        """Nobody wants the connection any more."""
        self._timer.cancel()
        self._task.cancel()

    def _time_passed(self, turns: int) -> None:
        if turns:
            self._timer = self._loop.call_later(0, self._time_passed, turns - 1)
        else:
            self._is_late = True
            self._task.cancel()

    async def _connect(self, protocol: asyncio.BaseProtocol, key: EndpointKey) -> None:
        try:
            await self._loop.create_connection(lambda: protocol, key[1], key[2])
        except asyncio.CancelledError:
            if not self._is_late:
                raise
            failure = ConnectFailure.TIMED_OUT
        except TimeoutError:
            failure = ConnectFailure.TIMED_OUT
        except ConnectionRefusedError:
            failure = ConnectFailure.REFUSED
        except OSError as error:
            failure = ConnectFailure.LOCAL if error.errno in _LOCAL_ERRORS else ConnectFailure.UNREACHABLE
        else:
            return
        self._timer.cancel()
        self._on_failure(failure)
