"""SHELL: the source for a Service in Kubernetes: list and watch in a thread of its own, snapshots to the loop.

The thread only blocks, and everything it waits for can be interrupted (a name that is being looked up can't: the thread
is a daemon, so that the process ends all the same). What crosses to the loop is an immutable snapshot.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress

from lb.config import Config
from lb.discovery import DiscoveryError, Publish
from lb.discovery.apiserver import ApiServer, NoClusterError, find_server
from lb.discovery.endpointslice import UnreadableError, parse_endpoints, parse_slice
from lb.discovery.interrupter import DaemonExecutor, InterruptedByStop, Interrupter
from lb.discovery.notices import Notices
from lb.discovery.permissions import missing_permission
from lb.discovery.service_endpoints import ServiceEndpoints, describe_changes
from lb.discovery.settling import Settling
from lb.discovery.snapshot_file import Saved, SnapshotFile
from lb.discovery.status import SyncStatus
from lb.discovery.watcher import (
    Ask,
    Failure,
    GarbledError,
    Phase,
    StatusError,
    Trouble,
    Verdict,
    Watcher,
    read_event,
    read_page,
)
from lb.endpoint import Snapshot

LIST_READ_SECONDS = 10.0
WATCH_SPARE_SECONDS = 10.0
"""So much later than the server was to end a watch it counts as mute."""
_PAGE_ITEMS = "500"
_STOP_SECONDS = 0.2
_SWITCH_SECONDS = 0.0002

log = logging.getLogger(__name__)


class KubernetesSource:
    """Publishes the endpoints of the Service that `config` names, and follows them."""

    def __init__(
        self,
        config: Config,
        status: SyncStatus,
        *,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._status = status
        self._environ = environ
        self._clock = clock
        self._is_legacy = config.endpoints_api == "endpoints"
        self._endpoints = ServiceEndpoints(config.backend_port, parse_endpoints if self._is_legacy else parse_slice)
        self._settling = Settling(self._update)
        self._watcher = Watcher(random.random)
        self._interrupter = Interrupter()
        self._server: ApiServer | None = None
        self._namespace = ""
        self._file: SnapshotFile | None = None
        self._saved: Saved | None = None
        self._is_listed = False
        self._notices = Notices(clock)
        # On the loop's side.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._publish: Publish | None = None
        self._published: Snapshot | None = None
        self._began = asyncio.Event()
        self._is_over = asyncio.Event()
        # Written by one side and read by the other, each with one assignment.
        self._latest: Snapshot = ()
        self._trouble = "no API server was found yet"
        self._fatal: str | None = None
        self._is_started = False
        self._is_denied = False
        """Are we not let in? Not after one answer that says so: an API server that just came back may."""
        self._only_denials = True
        """Was every failure so far an answer that we are not let in?"""

    async def start(self, publish: Publish) -> None:
        """Return when the first list, or the snapshot file in its stead, was published. Raises DiscoveryError."""
        config = self._config
        self._loop = asyncio.get_running_loop()
        self._publish = publish
        # The thread may work for 20 ms on a list of 2,000 endpoints. Whenever the loop wants to go on meanwhile it
        # waits for this long, 5 ms by default.
        sys.setswitchinterval(_SWITCH_SECONDS)
        self._loop.run_in_executor(DaemonExecutor(), self._run)
        # So that a start that fails has said why, and ended, when startupTimeout is over.
        await self._wait_for_beginning(config.startup_timeout * 0.9)
        if not self._began.is_set() and self._saved is not None and not self._is_denied:
            await self._wait_for_beginning(config.startup_timeout * 0.1)
        if not self._began.is_set() and (self._is_denied or not self._serve_saved()):
            self._fatal = (
                f"{self._trouble}; no list of endpoints within startupTimeout ({config.startup_timeout:g} s): "
                "check that the API server can be reached, and kubeconfig"
            )
        if self._fatal is not None:
            fatal = self._fatal
            await self.stop()
            raise DiscoveryError(fatal)
        self._is_started = True

    async def _wait_for_beginning(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._began.wait()

    async def stop(self) -> None:
        """Stop following. Waits for the thread, but not long: it may be where nothing interrupts it."""
        self._publish = None
        self._interrupter.stop()
        if self._loop is not None:
            try:
                async with asyncio.timeout(_STOP_SECONDS):
                    await self._is_over.wait()
            except TimeoutError:
                log.debug("the thread that asks the API server is left behind")

    # On the loop

    def _deliver(self) -> None:
        self._began.set()
        self._status.snapshot_taken = None
        self._hand_over(self._latest)

    def _hand_over(self, snapshot: Snapshot) -> None:
        if self._publish is not None and snapshot != self._published:
            self._publish(snapshot)
            self._published = snapshot

    def _serve_saved(self) -> bool:
        saved, config = self._saved, self._config
        if saved is None:
            return False
        if saved.age() > config.snapshot_max_age:
            # It was young enough when it was read.
            log.warning(
                "snapshotFile %s is %.0f s old, older than snapshotMaxAge (%g s): not used",
                config.snapshot_file,
                saved.age(),
                config.snapshot_max_age,
            )
            return False
        self._status.snapshot_taken = self._clock() - saved.age()
        log.warning(
            "%s: serving %d endpoints from snapshotFile, which is %.0f s old, until the API server answers",
            self._trouble,
            len(saved.snapshot),
            saved.age(),
        )
        # Not by way of `_latest`: that is the thread's, which may have a list at any moment.
        self._hand_over(saved.snapshot)
        return True

    # In the thread

    def _run(self) -> None:
        try:
            self._follow()
        except InterruptedByStop:
            pass
        except NoClusterError as error:
            self._fatal = str(error)
        except Exception as error:
            log.exception("following the Kubernetes API failed")
            self._fatal = f"following the Kubernetes API failed: {error!r}"
        finally:
            if self._server is not None:
                self._server.close()
            self._call_on_loop(self._end)

    def _end(self) -> None:
        self._is_over.set()
        self._began.set()

    def _follow(self) -> None:
        self._connect()
        watcher = self._watcher
        while True:
            try:
                ask = watcher.ask(self._clock())
                if ask.phase is Phase.LIST:
                    self._list(ask)
                    continue
                self._watch(ask)
                failure = Failure(Trouble.END)
            except StatusError as error:
                failure = error.failure
            except (GarbledError, UnreadableError) as error:
                failure = Failure(Trouble.GARBLED, str(error))
            except InterruptedByStop:
                raise
            except Exception as error:
                # A fault of ours: the endpoints that are known are better than none.
                log.exception("following the Kubernetes API failed, it is tried again")
                failure = Failure(Trouble.ERROR, repr(error))
            if self._interrupter.is_stopping:
                raise InterruptedByStop
            self._failed(failure)

    def _connect(self) -> None:
        """Find the server and the credentials, anew. Raises NoClusterError."""
        place = find_server(self._config.kubeconfig, self._environ)
        server = ApiServer(place.configuration, self._interrupter)
        if self._server is not None:
            self._server.close()
        self._server = server
        if not self._namespace:
            config = self._config
            self._namespace = config.namespace or self._environ.get("POD_NAMESPACE") or place.namespace or "default"
            if config.snapshot_file is not None:
                service = f"{self._namespace}/{config.backend_service_name}:{config.backend_port}"
                self._file = SnapshotFile(config.snapshot_file, service, config.snapshot_max_age)
                self._saved = self._file.load()
                if self._saved is not None:
                    self._endpoints.remember_ready(e.key for e in self._saved.snapshot if e.ready or e.was_ready)
            self._trouble = f"the Kubernetes API at {server.url}: it did not answer"
            log.info(
                "following Service %s in namespace %s at %s",
                config.backend_service_name,
                self._namespace,
                self._server.url,
            )

    def _parameters(self) -> tuple[str, dict[str, str]]:
        name = self._config.backend_service_name
        if self._is_legacy:
            return f"/api/v1/namespaces/{self._namespace}/endpoints", {"fieldSelector": f"metadata.name={name}"}
        return (
            f"/apis/discovery.k8s.io/v1/namespaces/{self._namespace}/endpointslices",
            {"labelSelector": f"kubernetes.io/service-name={name}"},
        )

    def _list(self, ask: Ask) -> None:
        assert self._server is not None
        path, parameters = self._parameters()
        parameters["limit"] = _PAGE_ITEMS
        if ask.token:
            parameters["continue"] = ask.token
        else:
            self._endpoints.begin_list()
        page = read_page(self._server.get(path, parameters, LIST_READ_SECONDS))
        for problem in self._endpoints.page_received(page.items):
            self._notices.warn_once(problem)
        if not self._watcher.page_received(page):
            self._heard()
            return
        if self._watcher.has_gone_back:
            log.warning(
                "the API server's list is older than what was known (version %s): restored from a backup? It is used",
                page.version,
            )
        if self._is_listed:
            self._status.relists += 1
        self._is_listed = True
        with self._settling.lock:
            self._endpoints.list_complete()
            self._settling.changed()
        self._settling.settle()
        # Only now: what was known before is not right as of now.
        self._heard()
        if self._endpoints.is_empty:
            self._notices.warn_once(
                f"Service {self._config.backend_service_name} in namespace {self._namespace} has no endpoints "
                "(is there such a Service?): requests are answered 503 until it has"
            )

    def _watch(self, ask: Ask) -> None:
        assert self._server is not None
        path, parameters = self._parameters()
        parameters.update(
            watch="1",
            resourceVersion=ask.version,
            allowWatchBookmarks="true",
            timeoutSeconds=str(ask.timeout_seconds),
        )
        lines = self._server.stream(path, parameters, ask.timeout_seconds + WATCH_SPARE_SECONDS)
        next(lines)
        self._watcher.watch_opened(self._clock())
        self._status.is_watch_forbidden = False
        # (It says nothing yet of whether what is known is right.)
        self._notices.answered()
        for batch in lines:
            more_follows = False
            try:
                with self._settling.lock:
                    for line in batch:
                        self._apply(line)
                more_follows = self._server.has_more()
            finally:
                # Also what came before a line that can't be read.
                self._settling.settle(more_follows=more_follows)
                self._heard()
        self._heard()

    def _apply(self, line: bytes) -> None:
        """Take in one line of a watch."""
        event = read_event(line)
        verdict = self._watcher.event_received(event)
        if verdict is Verdict.IGNORE:
            return
        for problem in self._endpoints.changed(event.item, is_deleted=verdict is Verdict.DELETE):
            self._notices.warn_once(problem)
        self._settling.changed()

    def _update(self) -> None:
        """Something may have changed: tell the log and the loop."""
        old, new = self._endpoints.merge()
        self._notices.changes(list(describe_changes(old, new)))
        if (ports := self._endpoints.missing_port()) is not None:
            self._notices.warn_once(
                f"Service {self._config.backend_service_name} has no port {self._config.backend_port} (it has: "
                f"{', '.join(ports) or 'none'}): "
                + ("it is dialled all the same" if isinstance(self._config.backend_port, int) else "set backendPort")
            )
        self._status.states = self._endpoints.states()
        self._latest = self._endpoints.snapshot()
        self._call_on_loop(self._deliver)
        self._save()

    def _call_on_loop(self, callback: Callable[[], None]) -> None:
        assert self._loop is not None
        # It may be closed: `stop` does not wait for long.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    def _heard(self) -> None:
        """The server answered: what is known is right as of now."""
        self._status.last_sync = self._clock()
        self._notices.answered()
        if self._watcher.phase is Phase.WATCH:
            with self._settling.lock:
                self._save()

    def _save(self) -> None:
        if self._file is not None and self._is_listed:
            self._file.save(self._latest)

    def _failed(self, failure: Failure) -> None:
        now = self._clock()
        watcher = self._watcher
        if watcher.phase is Phase.WATCH:
            self._status.restarted(failure.trouble.value)
        if failure.trouble is not Trouble.END:
            self._tell_of(failure)
        pause = watcher.failed(failure, now)
        is_denial = failure.trouble in (Trouble.FORBIDDEN, Trouble.UNAUTHORIZED)
        self._only_denials = self._only_denials and is_denial
        self._is_denied = is_denial and (self._is_denied or self._only_denials or pause.is_denied)
        self._status.is_watch_forbidden = watcher.is_watch_forbidden
        if pause.is_denied:
            self._give_up(self._trouble)
        self._interrupter.pause(pause.seconds)
        if pause.reload:
            try:
                self._connect()
            except NoClusterError as error:
                self._notices.warn_once(str(error))
            except Exception:
                log.exception("the credentials can't be read again, it is tried again")

    def _tell_of(self, failure: Failure) -> None:
        assert self._server is not None
        if failure.trouble is Trouble.FORBIDDEN:
            self._trouble = self._denied(failure)
            return
        self._trouble = f"the Kubernetes API at {self._server.url}: {failure.text}"
        if failure.trouble is Trouble.UNAUTHORIZED:
            self._trouble += ": the credentials are not accepted: check the token, or the kubeconfig"
        self._notices.away(self._trouble, has_list=self._is_listed)

    def _give_up(self, text: str) -> None:
        """Nothing will come of it as it is: the end of a start. It goes on until it is stopped, for it may be too late
        for that: then a snapshot file serves.
        """
        if self._is_started:
            log.error("%s", text)
        else:
            self._fatal = text
            self._call_on_loop(self._began.set)

    def _denied(self, failure: Failure) -> str:
        resource = "endpoints" if self._is_legacy else "endpointslices.discovery.k8s.io"
        return missing_permission(self._watcher.phase.value, resource, self._namespace, failure.text)
