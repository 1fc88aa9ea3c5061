"""What is tried once before a contender is measured: that it does what the scenario is about."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator

from bench.backend import ADDRESS_PATH, BULK_BODY, BULK_PATH, CHUNKED_PATH, MANY, MEDIUM_BODY
from bench.proc import HOST, BenchError

_TIMEOUT = 10.0


@contextlib.contextmanager
def _connected(name: str, port: int, what: str) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(HOST, port, timeout=_TIMEOUT)
    try:
        yield connection
    except (OSError, http.client.HTTPException) as error:
        raise BenchError(f"{name} delivered no {what}: {error!r}") from error
    finally:
        connection.close()


def _get(name: str, port: int, path: str, expected: bytes) -> http.client.HTTPResponse:
    with _connected(name, port, f"whole body on GET {path}") as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
    if response.status != 200 or body != expected:
        raise BenchError(
            f"{name} answered GET {path} with status {response.status} and {len(body)} bytes "
            f"that are not the {len(expected)} of the backend"
        )
    return response


def require_whole_body(name: str, port: int) -> None:
    """Fetch the long body once; BenchError when one byte of it is not the backend's."""
    _get(name, port, BULK_PATH, BULK_BODY)


def require_chunked_body(name: str, port: int) -> None:
    """Fetch the chunked body once; BenchError when it does not come in chunks, or is not the backend's."""
    response = _get(name, port, CHUNKED_PATH, MEDIUM_BODY)
    if response.headers["Transfer-Encoding"] != "chunked":
        raise BenchError(f"{name} answered GET {CHUNKED_PATH} with the right body, but not in chunks")


def require_every_endpoint(name: str, port: int, endpoints: int = MANY.endpoints) -> None:
    """Ask for the endpoint's address, twice as often as there are any; BenchError when one never answered."""
    seen = set()
    with _connected(name, port, f"address on GET {ADDRESS_PATH}") as connection:
        for _ in range(2 * endpoints):
            connection.request("GET", ADDRESS_PATH)
            seen.add(connection.getresponse().read())
            if len(seen) == endpoints:
                return
    raise BenchError(
        f"{name} sent {2 * endpoints} requests to {len(seen)} of {endpoints} endpoints: it does not go round them"
    )
