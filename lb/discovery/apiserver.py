"""SHELL: questions to the Kubernetes API server, from a thread that may be interrupted at any moment.

The `kubernetes` client finds the server, the credentials and the certificates, and keeps tokens fresh; what is asked
and how the answer is read is ours. Its own watch would hang on a mute server, retry without a pause, and decode every
object into classes at ten times the cost.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode

import urllib3
from kubernetes.client.api_client import ApiClient
from kubernetes.client.configuration import Configuration
from kubernetes.config import kube_config
from kubernetes.config.config_exception import ConfigException
from kubernetes.config.incluster_config import SERVICE_HOST_ENV_NAME, SERVICE_TOKEN_FILENAME, load_incluster_config
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    NameResolutionError,
    NewConnectionError,
    ReadTimeoutError,
    SSLError,
)

from lb.discovery.interrupter import InterruptedByStop, Interrupter
from lb.discovery.watcher import Failure, StatusError, Trouble, read_status

CONNECT_SECONDS = 3.0
_READ_BYTES = 65536
_LINE_LIMIT = 16 * 1024 * 1024
_NAMESPACE_FILE = os.path.join(os.path.dirname(SERVICE_TOKEN_FILENAME), "namespace")
# A server that vanished without a word is noticed after 10 + 3 * 5 s, also while a watch is silent.
_KEEP_ALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *(
        (socket.IPPROTO_TCP, getattr(socket, name), value)
        for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
        if hasattr(socket, name)
    ),
]


class NoClusterError(Exception):
    """There is no API server to ask, or no usable credentials. One line: what is wrong, and what to do."""


def _connect(connection: HTTPConnection, interrupter: Interrupter) -> tuple[socket.socket, socket.socket]:
    """Connect as urllib3 would, to one address after the other; return the socket and the handle on it."""
    host = connection._dns_host
    try:
        found = socket.getaddrinfo(host, connection.port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        raise NameResolutionError(host, connection, error) from error
    last: OSError = OSError("no address")
    for family, kind, protocol, _, address in found:
        sock = socket.socket(family, kind, protocol)
        try:
            handle = interrupter.watch(sock)
        except InterruptedByStop:
            sock.close()
            raise
        try:
            for option in _KEEP_ALIVE:
                sock.setsockopt(*option)
            sock.settimeout(CONNECT_SECONDS)
            sock.connect(address)
        except OSError as error:
            last = error
            sock.close()
            interrupter.forget(handle)
            continue
        return sock, handle
    if isinstance(last, TimeoutError):
        raise ConnectTimeoutError(f"no connection within {CONNECT_SECONDS:g} s")
    raise NewConnectionError(connection, str(last.strerror or last))


def _pool_classes(interrupter: Interrupter) -> dict[str, type[HTTPConnectionPool]]:
    """Return urllib3's pools, with connections that `interrupter` can end."""

    class Interruptible:
        _handle: socket.socket | None = None
        _is_reading_head = False

        def _new_conn(self) -> socket.socket:
            self._forget()
            sock, self._handle = _connect(self, interrupter)  # type: ignore[arg-type]
            return sock

        def getresponse(self) -> Any:
            self._is_reading_head = True
            try:
                return super().getresponse()  # type: ignore[misc]
            finally:
                self._is_reading_head = False

        def close(self) -> None:
            # With `Connection: close` the response takes the socket over, and this is called before its body is read.
            if not self._is_reading_head:
                self._forget()
            super().close()  # type: ignore[misc]

        def _forget(self) -> None:
            handle, self._handle = self._handle, None
            if handle is not None:
                interrupter.forget(handle)

    class Plain(Interruptible, HTTPConnection):
        pass

    class Secure(Interruptible, HTTPSConnection):
        pass

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class Place(NamedTuple):
    """Where the API server was found. `namespace` is the credentials' own, or empty."""

    configuration: Configuration
    namespace: str


def find_server(kubeconfig: str | None, environ: Mapping[str, str]) -> Place:
    """Return the API server of the cluster that this runs in, or that a kubeconfig names. Raises NoClusterError."""
    configuration = Configuration()
    if kubeconfig is None and environ.get(SERVICE_HOST_ENV_NAME) and os.path.isfile(SERVICE_TOKEN_FILENAME):
        try:
            load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        except (ConfigException, OSError, ValueError) as error:
            raise NoClusterError(f"the service account's files can't be used: {error}") from None
        namespace = ""
        with suppress(OSError, ValueError), open(_NAMESPACE_FILE, encoding="utf-8") as file:
            namespace = file.read().strip()
        return Place(configuration, namespace)
    path = kubeconfig or environ.get("KUBECONFIG") or os.path.expanduser("~/.kube/config")
    if kubeconfig is None and not any(os.path.exists(part) for part in path.split(os.pathsep)):
        raise NoClusterError(
            "no backends are named, and there is no Kubernetes to find any in (no service account, no kubeconfig): "
            'set backends (a list of "host:port"), backendsFile, or kubeconfig'
        )
    try:
        kube_config.load_kube_config(config_file=path, client_configuration=configuration)  # type: ignore[no-untyped-call]
        _, active = kube_config.list_kube_config_contexts(config_file=path)  # type: ignore[no-untyped-call]
    except Exception as error:
        # Of what is wrong in the file the client lets through whatever comes of it: KeyError, TypeError, YAMLError …
        what = " ".join(str(error).split()) or type(error).__name__
        raise NoClusterError(f"kubeconfig {path} can't be used: {what}") from None
    context = active.get("context") if isinstance(active, dict) else None
    return Place(configuration, (context or {}).get("namespace") or "")


class ApiServer:
    """One API server, asked by one thread. Raises StatusError with a Failure for whatever goes wrong.

    Raises NoClusterError when the configuration can't be used at all.
    """

    def __init__(self, configuration: Configuration, interrupter: Interrupter) -> None:
        try:
            self._client = ApiClient(configuration)
        except Exception as error:
            # Such as a proxy-url, or HTTPS_PROXY, that is no URL.
            raise NoClusterError(f"no client for {configuration.host} can be made: {error}") from None
        self._manager: urllib3.PoolManager = self._client.rest_client.pool_manager
        self._manager.pool_classes_by_scheme = _pool_classes(interrupter)
        self._interrupter = interrupter
        self._streaming: Any = None
        self.url: str = configuration.host

    def close(self) -> None:
        """Close the connections."""
        pools = self._manager.pools
        for key in list(pools.keys()):
            # (`clear` alone leaves that to the garbage collector.)
            pools[key].close()
        pools.clear()

    def get(self, path: str, parameters: Mapping[str, str], read_seconds: float) -> bytes:
        """Return the body of a response; each read may take `read_seconds`, the body in all three times as long."""
        deadline = time.monotonic() + 3 * read_seconds
        with _Failures(self._interrupter):
            response = self._open(path, parameters, read_seconds)
            parts: list[bytes] = []
            try:
                while data := response.read1(_READ_BYTES):
                    parts.append(data)
                    if time.monotonic() > deadline:
                        raise StatusError(Failure(Trouble.TIMEOUT, "it does not come to an end"))
            except BaseException:
                response.close()
                raise
            response.release_conn()
            self._check_not_interrupted()
            return b"".join(parts)

    def stream(self, path: str, parameters: Mapping[str, str], read_seconds: float) -> Iterator[list[bytes]]:
        """Yield the lines of a response as they come, those of one read together; first, when it began, none."""
        with _Failures(self._interrupter):
            response = self._streaming = self._open(path, parameters, read_seconds)
            try:
                yield []
                rest = b""
                while data := response.read1(_READ_BYTES):
                    lines = (rest + data).split(b"\n")
                    rest = lines.pop()
                    if len(rest) > _LINE_LIMIT:
                        raise StatusError(Failure(Trouble.GARBLED, f"a line of more than {_LINE_LIMIT} bytes"))
                    if lines := [line for line in lines if line.strip()]:
                        yield lines
            except BaseException:
                response.close()
                raise
            response.release_conn()
            self._check_not_interrupted()

    def _check_not_interrupted(self) -> None:
        """An interrupted read looks like the end of a body that ends with its connection."""
        if self._interrupter.is_stopping:
            raise InterruptedByStop

    def has_more(self) -> bool:
        """Is there more of the stream to be read already? (Not all of it, perhaps: a read may wait all the same.)"""
        sock = getattr(self._streaming.connection, "sock", None)
        if sock is None:
            return False
        if isinstance(sock, ssl.SSLSocket) and sock.pending():
            return True
        # Not select(), which knows no descriptor above 1023.
        poll = select.poll()
        poll.register(sock, select.POLLIN)
        return bool(poll.poll(0))

    def _open(self, path: str, parameters: Mapping[str, str], read_seconds: float) -> Any:
        headers = {"Accept": "application/json", "User-Agent": "podlb"}
        self._client.update_params_for_auth(headers, [], ["BearerToken"], path, "GET", None)
        for name, value in headers.items():
            # The file of a token may end with a line break.
            headers[name] = value = value.strip()
            if not (value.isascii() and value.isprintable()):
                # What http.client says of it would bring the token to the log.
                raise StatusError(Failure(Trouble.UNAUTHORIZED, "the token holds characters that it must not"))
        response = self._manager.request(
            "GET",
            f"{self.url}{path}?{urlencode(parameters)}",
            headers=headers,
            preload_content=False,
            decode_content=True,
            redirect=False,
            # urllib3's own would multiply the time-outs and sleep where nothing can wake it.
            retries=False,
            timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
        )
        if response.status != 200:
            try:
                text = response.read(65536)
            finally:
                response.close()
            raise StatusError(read_status(response.status, text, response.headers.get("Retry-After", "")))
        return response


class _Failures:
    """Turns what urllib3 raises into a StatusError."""

    def __init__(self, interrupter: Interrupter) -> None:
        self._interrupter = interrupter

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if error is None or isinstance(error, GeneratorExit):
            return
        if self._interrupter.is_stopping:
            raise InterruptedByStop from None
        failure = _failure(error)
        if failure is not None:
            raise StatusError(failure) from None


def _failure(error: BaseException) -> Failure | None:
    if isinstance(error, ConnectTimeoutError | NewConnectionError | NameResolutionError):
        return Failure(Trouble.UNREACHABLE, str(error).rpartition(": ")[2])
    if isinstance(error, ReadTimeoutError | TimeoutError):
        return Failure(Trouble.TIMEOUT, "it does not answer")
    if isinstance(error, SSLError):
        return Failure(Trouble.UNREACHABLE, f"TLS: {error}", is_untrusted=True)
    if isinstance(error, HTTPError | OSError):
        return Failure(Trouble.CUT, "the connection broke")
    if isinstance(error, ConfigException):
        return Failure(Trouble.UNREACHABLE, f"the credentials can't be read: {error}")
    return None
