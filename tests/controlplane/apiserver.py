"""A small API server: what the real one does with EndpointSlices, and what it can't be made to do on demand.

It lists (in pages), watches (with bookmarks and an end in time), asks for a token, keeps to rules, and speaks HTTP/1.1
over TLS, or without; test_fidelity.py holds it and the real one against each other. It differs where tests need it to:
it takes loopback addresses and null lists, versions rise by one, and nothing is ever forgotten by itself.

Each connection has a thread. A test changes what is stored, orders open watches about, and injects faults.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

from tests.controlplane import faults
from tests.controlplane.discovery_pages import PAGES
from tests.controlplane.faults import Act
from tests.controlplane.kubeconfig import write_kubeconfig
from tests.controlplane.objects import RESOURCES, SLICES, Object
from tests.controlplane.store import Backup, Selection, Store
from tests.controlplane.watching import Watch
from tests.controlplane.wire import Connection, Gone, Request
from tests.eventloop import certificates
from tests.fakes import eventually, free_port

USER = "system:serviceaccount:podlb:lb"
TOKEN = "the-first-token"
DEFAULT_WATCH_SECONDS = 1800.0
_MESSAGE_CONTINUE = "The provided continue parameter is too old to display a consistent list result."


class Fault:
    """A fault that is waiting for requests of a verb; `hits` proves that it happened."""

    def __init__(self, verb: str, act: Act, times: int | None) -> None:
        self.verb = verb
        self.act = act
        self.times = times
        self.hits = 0

    def takes(self, request: Request) -> bool:
        return request.verb == self.verb and (self.times is None or self.hits < self.times)

    def over(self) -> None:
        """Let no request meet it any more."""
        self.times = 0


class ApiServer:
    """An API server on a port of 127.0.0.1 that it keeps over `stop` and `start`."""

    def __init__(self, *, tls: bool = True, bookmark_interval: float = 60.0) -> None:
        self.port = free_port()
        self.store = Store()
        self.store.on_change = self._wake_watches
        self.tokens = {TOKEN}
        """The tokens that are good now."""
        self.rules = {(verb, resource) for verb in ("list", "watch") for resource in RESOURCES}
        """What the user of the tokens may do."""
        self.bookmark_interval = bookmark_interval
        self.requests: list[Request] = []
        """All that arrived, of the resources."""
        self.watches: list[Watch] = []
        """Those that are open."""
        self._context = certificates.server_context() if tls else None
        self._faults: list[Fault] = []
        self._pages: dict[str, tuple[list[Object], int]] = {}
        self._connections: set[Connection] = set()
        self._number = 0
        self._thawed = threading.Event()
        self._thawed.set()
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._failures: list[str] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        assert self._failures == [], self._failures

    @property
    def url(self) -> str:
        return f"{'https' if self._context else 'http'}://127.0.0.1:{self.port}"

    # Life and death

    def start(self) -> None:
        """Listen."""
        assert self._listener is None
        self._thawed.set()
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._spawn(self._accept, self._listener)

    def stop(self) -> None:
        """Die: refuse new connections, cut the open ones. What is stored stays."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept
            self._listener.close()
            self._listener = None
        self._thawed.set()
        for connection in list(self._connections):
            connection.cut_off()
        for thread in self._threads:
            thread.join(5.0)
        self._threads.clear()
        assert not self._connections

    def freeze(self) -> None:
        """Stand still as after SIGSTOP: the kernel goes on to accept connections, and nothing is ever sent."""
        self._thawed.clear()

    def thaw(self) -> None:
        """Go on."""
        self._thawed.set()

    # What tests change and ask

    def put(self, namespace: str, *objects: Object) -> int:
        """Create or replace objects; return the version."""
        version = self.store.version
        for obj in objects:
            version = self.store.put(namespace, obj)
        return version

    def delete(self, namespace: str, *names: str, plural: str = SLICES.plural) -> int:
        """Delete objects; return the version."""
        version = self.store.version
        for name in names:
            version = self.store.delete(RESOURCES[plural], namespace, name)
        return version

    def restore(self, backup: Backup) -> None:
        """Restart over a restored etcd: older objects, a lower version; all connections are cut."""
        self.stop()
        self.store.restore(backup)
        self.start()

    def forget(self) -> None:
        """Forget all events, and the pages of lists that are not finished."""
        self._pages.clear()
        self.store.forget()

    def inject(self, verb: str, act: Act, *, times: int | None = 1) -> Fault:
        """Let the next `times` requests of `verb` (list, watch) meet `act`; None: all from now on."""
        fault = Fault(verb, act, times)
        self._faults.append(fault)
        return fault

    def asked(self, verb: str | None = None) -> list[Request]:
        """Return the requests of `verb` so far."""
        return [request for request in self.requests if verb in (None, request.verb)]

    def wait_for(self, verb: str, count: int = 1, *, seconds: float = 5.0) -> Request:
        """Wait for request number `count` of `verb`, and return it."""
        eventually(lambda: len(self.asked(verb)) >= count, f"{verb} request {count}", seconds=seconds)
        return self.asked(verb)[count - 1]

    def open_watch(self, *, seconds: float = 5.0) -> Watch:
        """Wait until a watch is open, and return the newest."""
        eventually(lambda: self.watches, "a watch", seconds=seconds)
        return self.watches[-1]

    def kubeconfig(self, path: Path, namespace: str | None = None, token: str = TOKEN) -> Path:
        """Write a kubeconfig with `token` in a file beside it."""
        authority = certificates.authority_pem() if self._context else None
        return write_kubeconfig(path, self.url, authority, token, namespace)

    # Connections

    def _spawn(self, run: Callable[..., None], *arguments: object) -> None:
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        thread = threading.Thread(target=run, args=arguments, name="apiserver", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            self._number += 1
            self._spawn(self._serve, self._number, sock)

    def _serve(self, number: int, sock: socket.socket) -> None:
        self._thawed.wait()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if self._context is not None:
                # Without a limit one that connects and says nothing would hold `stop`.
                sock.settimeout(3.0)
                sock = self._context.wrap_socket(sock, server_side=True)
                sock.settimeout(None)
        except (OSError, ssl.SSLError):
            sock.close()
            return
        connection = Connection(number, sock)
        connection.hold = self._thawed.wait
        self._connections.add(connection)
        try:
            if self._listener is None:
                return
            while True:
                request = connection.read_request()
                self._thawed.wait()
                self._answer(connection, request)
        except Gone:
            pass
        except Exception as error:  # a fault of this server must fail the test, not look like one it was to make
            self._failures.append(repr(error))
        finally:
            connection.close()
            self._connections.discard(connection)

    def _answer(self, connection: Connection, request: Request) -> None:
        page = PAGES.get(request.path)
        if request.method != "GET" or (not request.resource and page is None):
            message = "the server could not find the requested resource"
            connection.respond_with(request, 404, faults.status(404, "NotFound", message))
        elif page is not None:
            connection.respond(request, 200, page)
        elif request.resource not in RESOURCES:
            message = "the server could not find the requested resource"
            connection.respond_with(request, 404, faults.status(404, "NotFound", message))
        else:
            self.requests.append(request)
            self._meet(connection, request)

    def _meet(self, connection: Connection, request: Request) -> None:
        fault = next((fault for fault in self._faults if fault.takes(request)), None)
        if fault is not None:
            fault.hits += 1
            if fault.act(connection, request) is not faults.PASS:
                return
        if request.token is None:
            connection.respond_with(request, 403, faults.forbidden(request, "system:anonymous"))
        elif request.token not in self.tokens:
            connection.respond_with(request, 401, faults.unauthorized())
        elif (request.verb, request.resource) not in self.rules:
            connection.respond_with(request, 403, faults.forbidden(request, USER))
        elif (selection := _selection(request)) is None:
            message = "a selector that the API server of the tests does not know"
            connection.respond_with(request, 400, faults.status(400, "BadRequest", message))
        elif request.verb == "watch":
            self._watch(connection, request, selection)
        else:
            self._list(connection, request, selection)

    # List

    def _list(self, connection: Connection, request: Request, selection: Selection) -> None:
        token = request.query.get("continue")
        version = int(request.query.get("resourceVersion") or "0")
        if token is not None:
            if token not in self._pages:
                # With a token to go on with, inconsistently, which nobody should use.
                document = faults.expired(_MESSAGE_CONTINUE) | {"metadata": {"continue": token}}
                connection.respond_with(request, 410, document)
                return
            found, version = self._pages[token]
        elif version > self.store.version:
            document = faults.too_large(version, self.store.version)
            connection.respond_with(request, 504, document, {"Retry-After": "1"})
            return
        else:
            found, version = self.store.select(selection)
        metadata = {"resourceVersion": str(version)}
        limit = int(request.query.get("limit") or "0")
        if limit and len(found) > limit:
            last = found[limit - 1]["metadata"]["name"]
            metadata["continue"] = base64.urlsafe_b64encode(json.dumps([version, last, limit]).encode()).decode()
            self._pages[metadata["continue"]] = (found[limit:], version)
            found = found[:limit]
        resource = selection.resource
        # In a list the items don't say what they are.
        items = [{key: value for key, value in obj.items() if key not in ("kind", "apiVersion")} for obj in found]
        document = {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": metadata,
            "items": items,
        }
        connection.respond_with(request, 200, document)

    # Watch

    def _watch(self, connection: Connection, request: Request, selection: Selection) -> None:
        # A version that is still to come is as good as any: the real one, too, is silent until it has come.
        watch = Watch(
            connection,
            request,
            self.store,
            selection,
            int(request.query.get("resourceVersion") or "0"),
            seconds=float(request.query.get("timeoutSeconds") or DEFAULT_WATCH_SECONDS),
            bookmark_interval=self.bookmark_interval,
        )
        with self._listed(watch):
            watch.run()

    @contextlib.contextmanager
    def _listed(self, watch: Watch) -> Iterator[None]:
        self.watches.append(watch)
        try:
            yield
        finally:
            self.watches.remove(watch)

    def _wake_watches(self) -> None:
        for watch in list(self.watches):
            watch.wake()


def _selection(request: Request) -> Selection | None:
    """Return what the selectors of a request select; None for a kind of selector that is not known here."""
    labels = []
    for part in filter(None, request.query.get("labelSelector", "").split(",")):
        label, equals, value = part.replace("==", "=").partition("=")
        if not equals or "!" in label:
            return None
        labels.append((label, value))
    field, _, name = request.query.get("fieldSelector", "").replace("==", "=").partition("=")
    if field not in ("", "metadata.name"):
        return None
    return Selection(RESOURCES[request.resource], request.namespace, tuple(labels), name or None)
