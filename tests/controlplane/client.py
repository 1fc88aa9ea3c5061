"""A client of an API server for tests: one request a connection, watches line by line, no help and no retries."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

from tests.controlplane.objects import Object


class Answer(NamedTuple):
    """A response, its JSON read; text that is no JSON is a string. `fields` have lower-case names."""

    status: int
    fields: dict[str, str]
    document: Any

    def expect(self, *statuses: int) -> Any:
        """Return the document of an answer that has to be one of these."""
        assert self.status in (statuses or (200, 201)), self
        return self.document


class Stream:
    """The lines of a watch."""

    def __init__(self, connection: http.client.HTTPConnection, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self._connection = connection
        self._response = response

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._response.close()
        self._connection.close()

    def __iter__(self) -> Iterator[Object]:
        for line in self._response:
            yield json.loads(line)

    def read(self, count: int) -> list[Object]:
        """Return the next `count` events."""
        events: list[Object] = []
        for _ in range(count):
            line = self._response.readline()
            assert line, f"the watch ended after {events}"
            events.append(json.loads(line))
        return events


class ApiClient:
    """Speaks with the API server at `url`, whose certificate `authority` has signed, with `token`."""

    def __init__(self, url: str, authority: bytes | None, token: str | None, *, timeout: float = 5.0) -> None:
        self.url = url
        self.authority = authority
        self.token = token
        self._timeout = timeout
        self._where = urlsplit(url).netloc
        self._context = None
        if authority is not None:
            self._context = ssl.create_default_context(cadata=authority.decode())

    def with_token(self, token: str | None) -> ApiClient:
        """Return a client that is somebody else."""
        return ApiClient(self.url, self.authority, token, timeout=self._timeout)

    def with_timeout(self, seconds: float) -> ApiClient:
        """Return a client that is less patient."""
        return ApiClient(self.url, self.authority, self.token, timeout=seconds)

    def call(
        self, method: str, path: str, body: object = None, *, content_type: str = "application/json", **query: object
    ) -> Answer:
        """Make a request and read the answer."""
        connection, response = self._ask(method, path, body, content_type, query)
        with response:
            text = response.read()
        connection.close()
        fields = {name.lower(): value for name, value in response.getheaders()}
        is_json = fields.get("content-type", "").startswith("application/json")
        return Answer(response.status, fields, json.loads(text) if is_json else text.decode())

    def get(self, path: str, **query: object) -> Answer:
        """Read."""
        return self.call("GET", path, None, content_type="", **query)

    def watch(self, path: str, version: str | int, **query: object) -> Stream:
        """Watch from `version` on. Close it."""
        return self.stream(path, watch="1", resourceVersion=version, **query)

    def stream(self, path: str, **query: object) -> Stream:
        """Begin to read. Close it."""
        return Stream(*self._ask("GET", path, None, "", query))

    def _ask(
        self, method: str, path: str, body: object, content_type: str, query: dict[str, object]
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        connection = (
            http.client.HTTPConnection(self._where, timeout=self._timeout)
            if self._context is None
            else http.client.HTTPSConnection(self._where, timeout=self._timeout, context=self._context)
        )
        fields = {"Accept": "application/json"}
        if self.token is not None:
            fields["Authorization"] = f"Bearer {self.token}"
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            fields["Content-Type"] = content_type
        try:
            connection.request(method, f"{path}?{urlencode(query)}" if query else path, data, fields)
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise
