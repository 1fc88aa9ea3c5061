"""SHELL: the composition root: wire, become ready, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import time
from collections.abc import Callable, Sequence
from functools import partial

from lb import metrics
from lb.access_logger import AccessLogger
from lb.admin import AdminProtocol
from lb.attempts import RetryRules
from lb.balancer.round_robin import RoundRobin
from lb.config import Config
from lb.discovery import DiscoveryError, Source
from lb.discovery.file import FileSource
from lb.discovery.static import StaticSource
from lb.discovery.status import SyncStatus
from lb.downstream import Downstream
from lb.endpoint import Snapshot
from lb.eviction import LOOK_AGAIN_SECONDS, Evictor
from lb.listener import Listener, bind_sockets
from lb.metrics import Metrics
from lb.pages import Pages
from lb.pool import Pool
from lb.proxy import Proxy
from lb.service import Service
from lb.stats_model import LogEvent
from lb.tcp import TcpDownstream
from lb.upstream import Upstream

log = logging.getLogger(__name__)


class StartError(Exception):
    """It can't start. One line: what is wrong, and what to do."""


class Server:
    """A load balancer: `start`, then `run` until `stop` was called."""

    def __init__(
        self,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: Callable[[], float] | None = None,
        source: Source | None = None,
        write_line: Callable[[bytes], None] | None = None,
        dropped_lines: Callable[[], int] = lambda: 0,
        recent_events: Callable[[], Sequence[LogEvent]] = lambda: (),
    ) -> None:
        """`source` replaces the one that the configuration names; `clock` is monotonic, in seconds.

        `write_line` takes lines of the access log, and never waits. For those who ask the admin port,
        `dropped_lines` returns how many lines, of any log, were dropped, and `recent_events` the last lines of the log.
        """
        self._config = config
        self._loop = loop
        self._sync = SyncStatus() if config.discovery == "kubernetes" else None
        self._source = source or make_source(config, self._sync)
        rules = RetryRules(
            retries=config.retries,
            on_connect="connect" in config.retry_on,
            on_reset="reset" in config.retry_on,
            on_503="503" in config.retry_on,
            on_timeout="timeout" in config.retry_on,
            body_limit=config.retry_body_limit,
            endpoint_wait=config.endpoint_wait,
            connect_timeout=config.connect_timeout,
        )
        service: Service[Upstream] = Service(
            policy=RoundRobin(offset=random.randrange(1 << 16)),
            pool=Pool(idle_timeout=config.upstream_idle_timeout, max_idle=config.max_idle_per_endpoint),
            metrics=Metrics(config.endpoint_histograms),
            rules=rules,
            max_waiting=config.max_waiting,
            may_panic=config.panic,
        )
        self.proxy = Proxy(config, service, loop, clock=clock or time.monotonic, id_prefix=os.urandom(8).hex().encode())
        self.proxy.on_connection_closed = self._connection_closed
        if config.access_log != "off" and write_line is not None:
            self.proxy.log_access(
                AccessLogger(
                    config.access_log,
                    config.access_log_sample,
                    write_line,
                    random=random.random,
                    call_later=loop.call_later,
                )
            )
        self.listener: Listener | None = None
        self.has_started = False
        self._side_listeners: list[Listener] = []
        self._evictor = Evictor(lambda: self.proxy.connections)
        self._pages = Pages(self.proxy, self._readiness, self._sync, dropped_lines, recent_events)
        self._listed = False
        self._is_full = False
        """Is accepting paused because all connections are in use?"""
        self._stopping = asyncio.Event()
        self._skip_delay = asyncio.Event()
        self._all_closed = asyncio.Event()
        self._end_now = asyncio.Event()

    async def start(self) -> None:
        """Bind, find the endpoints, accept. Raises StartError, or ListenError for a port that can't be had.

        Returns early, with `has_started` unset, when `stop` is called meanwhile.
        """
        config = self._config
        sockets = bind_sockets(config.host, config.port, config.backlog)
        self.listener = Listener(
            sockets,
            partial(Downstream if config.mode == "http" else TcpDownstream, self.proxy),
            self._loop,
            has_room=self._has_room,
            make_room=self._make_room,
            on_pause=self._accept_paused,
        )
        names = frozenset({"localhost", config.admin_host.lower()})
        for host, port, is_admin in (
            (config.admin_host, config.admin_port, True),
            (config.probe_host, config.probe_port, False),
        ):
            if port:
                factory = partial(AdminProtocol, self.proxy, self._pages, admin=is_admin, allowed_hosts=names)
                listener = Listener(bind_sockets(host, port, 128), factory, self._loop)
                self._side_listeners.append(listener)
                listener.start()
                log.info("%s port on %s", "admin" if is_admin else "probe", ", ".join(listener.addresses))
        if not await self._find_endpoints():
            log.info("asked to stop before there were any endpoints")
            return
        self.has_started = True
        self.proxy.start()
        self.listener.start()
        log.info("listening on %s", ", ".join(self.listener.addresses))

    async def _find_endpoints(self) -> bool:
        """Wait for the first snapshot; return False if `stop` is called before. Raises StartError."""
        # (Kubernetes has a second way to start when the time is over, and keeps it itself.)
        seconds = None if self._sync is not None else self._config.startup_timeout
        finding = self._loop.create_task(self._source.start(self._publish))
        stopping = self._loop.create_task(self._stopping.wait())
        try:
            await asyncio.wait([finding, stopping], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if finding.done():
                finding.result()
                return True
            if stopping.done():
                return False
        except DiscoveryError as error:
            raise StartError(str(error)) from None
        finally:
            finding.cancel()
            stopping.cancel()
            await asyncio.gather(finding, stopping, return_exceptions=True)
        raise StartError(f"no endpoints were found within startupTimeout ({seconds:g} s): see the lines above")

    def _publish(self, snapshot: Snapshot) -> None:
        self._listed = True
        self.proxy.replace(snapshot)

    def _readiness(self) -> tuple[bool, str]:
        if self._stopping.is_set():
            return False, "stopping"
        return (True, "ok") if self._listed else (False, "no complete list of endpoints yet")

    # Room for connections

    def _has_room(self, starting: int) -> bool:
        return len(self.proxy.connections) + starting < self._config.max_connections

    def _make_room(self) -> bool:
        if not self._evictor.make_room(self.proxy.clock()):
            return False
        self._is_full = False
        return True

    def _accept_paused(self) -> None:
        if not self._is_full:
            self._is_full = True
            counters = self.proxy.service.metrics.values
            if not counters[metrics.ACCEPT_PAUSES]:
                limit = self._config.max_connections
                log.warning("maxConnections (%d) are open and in use: accepting pauses until one is not", limit)
            counters[metrics.ACCEPT_PAUSES] += 1
        # One that is in use now may soon idle: nobody tells of that.
        self._loop.call_later(LOOK_AGAIN_SECONDS, self._try_to_accept)

    def _try_to_accept(self) -> None:
        if self.listener is not None and not self._stopping.is_set():
            self.listener.resume()

    def _connection_closed(self) -> None:
        self._is_full = False
        self._try_to_accept()
        if not self.proxy.connections:
            self._all_closed.set()

    # The end

    def stop(self, *, skip_delay: bool = False) -> None:
        """Drain and stop; a second call ends it now."""
        if self._stopping.is_set():
            log.warning("asked a second time: stopping now, %d connections are cut", len(self.proxy.connections))
            self._end_now.set()
        if skip_delay:
            self._skip_delay.set()
        self._stopping.set()

    def reload(self) -> None:
        """Read again what discovery reads from a file."""
        if isinstance(self._source, FileSource):
            self._source.reload()
        else:
            log.info("nothing to read again: only backendsFile is")

    async def run(self) -> None:
        """Serve until `stop`, drain, and return when everything is closed."""
        await self._stopping.wait()
        proxy = self.proxy
        proxy.closing = True
        delay = self._config.drain_delay
        log.info("stopping: not ready, accepting for another %g s", 0 if self._skip_delay.is_set() else delay)
        await self._wait_for(delay, self._skip_delay, self._end_now)
        assert self.listener is not None
        await self.listener.close()
        proxy.is_draining = True
        for connection in list(proxy.connections):
            connection.drain()
        if proxy.connections:
            self._all_closed.clear()
            log.info("draining: %d connections have up to %g s", len(proxy.connections), self._config.drain_timeout)
            await self._wait_for(self._config.drain_timeout, self._all_closed, self._end_now)
        await self.close()

    async def _wait_for(self, seconds: float, *events: asyncio.Event) -> None:
        """Wait until one of the events is set, `seconds` at most."""
        if seconds > 0 and not any(event.is_set() for event in events):
            waits = [self._loop.create_task(event.wait()) for event in events]
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            for wait in waits:
                wait.cancel()
            await asyncio.wait(waits)

    async def close(self) -> None:
        """Stop everything at once; also right when `start` failed half-way."""
        proxy = self.proxy
        if cut := len(proxy.connections):
            log.warning("cutting %d connections that were not finished", cut)
        for connection in list(proxy.connections):
            connection.abort()
        self._pages.works.close()
        await self._source.stop()
        for listener in (self.listener, *self._side_listeners):
            if listener is not None:
                await listener.close()
        proxy.stop()
        # Transports report their end in the next iteration.
        await asyncio.sleep(0)
        proxy.history.flush()
        log.info("stopped")


def make_source(config: Config, sync: SyncStatus | None) -> Source:
    """Return the source that the configuration names; `sync` is where that of Kubernetes tells how it fares."""
    if config.discovery == "file":
        assert config.backends_file is not None
        return FileSource(config.backends_file, config.default_backend_port)
    if sync is not None:
        # Imported only where it is needed: the Kubernetes client takes 35 MiB and 0.4 s.
        from lb.discovery.kubernetes import KubernetesSource

        return KubernetesSource(config, sync)
    return StaticSource(config.static_backends())
