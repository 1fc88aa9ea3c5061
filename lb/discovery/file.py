"""The source for `backendsFile`: a JSON list of backends in a file, read again when it changes.

Change is seen by looking at the file once a second, which works on every file system and for a mounted ConfigMap,
whose files are symbolic links that are swapped. All file work is done in the executor: a slow or stuck file system
holds up nothing but this. A file that can't be read or is invalid changes nothing; only a valid empty list removes
all endpoints.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import stat
from collections.abc import Callable, Coroutine
from typing import NamedTuple

from lb.config import Backend, BackendError, parse_backends
from lb.discovery import DiscoveryError, Publish, Sleep
from lb.discovery.resolve import RESOLVE_INTERVAL, NameTable, Publisher, Resolve, explain_failures, resolve_name
from lb.endpoint import Snapshot

POLL_INTERVAL = 1.0
"""Seconds between two looks at the file."""

FILE_LIMIT = 4 * 1_048_576
"""Bytes: more than 100,000 endpoints."""

Signature = tuple[int, int, int, int]
"""What changes when a file does: time of modification, size, inode, device."""

# A number is never right here, and int() refuses a very long one.
_DECODER = json.JSONDecoder(parse_int=float)
_SPACE = re.compile(r"[ \t\n\r]*")

log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """A file's content, and its signature when it was opened."""

    signature: Signature
    data: bytes


Read = Callable[[str, Signature | None], Reading | None]
"""Path and known signature to what is there; None: nothing new. Blocks. Raises OSError or ValueError."""


def read_file(path: str, known: Signature | None) -> Reading | None:
    """Read the file at `path` unless its signature is still `known`."""
    # Looked at before it is opened: to open a FIFO would wait for a writer.
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("not a regular file")
    if _signature(found) == known:
        return None
    with open(path, "rb") as file:
        signature = _signature(os.fstat(file.fileno()))
        data = file.read(FILE_LIMIT + 1)
    if len(data) > FILE_LIMIT:
        raise ValueError(f"larger than {FILE_LIMIT} bytes")
    return Reading(signature, data)


def parse_backends_file(data: bytes, default_port: int) -> tuple[Backend, ...]:
    """Parse a JSON list of backends. Raise ValueError with the line and what is wrong there."""
    text, document = _decode(data)
    if not isinstance(document, list):
        raise ValueError(f'line {_line_at(text, _skip_space(text, 0))}: a JSON list is needed, as ["10.0.0.1:8080"]')
    for number, entry in enumerate(document, 1):
        if not isinstance(entry, str):
            raise ValueError(f'line {_line_of_entry(text, number)}: entry {number}: not a text such as "10.0.0.1:8080"')
    try:
        return parse_backends(document, default_port)
    except BackendError as exc:
        raise ValueError(f"line {_line_of_entry(text, exc.number)}: {exc}") from None


class FileSource:
    """Publishes the endpoints that the file at `path` lists, and again when it, or the address of a name, changes.

    A backend without a port gets `default_port`. The intervals are in seconds. `resolve`, `sleep` and `read` are there
    for tests.
    """

    def __init__(
        self,
        path: str,
        default_port: int,
        *,
        resolve: Resolve = resolve_name,
        sleep: Sleep = asyncio.sleep,
        read: Read = read_file,
        poll_interval: float = POLL_INTERVAL,
        resolve_interval: float = RESOLVE_INTERVAL,
    ) -> None:
        self._path = path
        self._default_port = default_port
        self._names = NameTable(resolve)
        self._sleep = sleep
        self._read = read
        self._poll_interval = poll_interval
        self._resolve_interval = resolve_interval
        self._backends: tuple[Backend, ...] = ()
        self._data: bytes | None = None
        self._signature: Signature | None = None
        self._is_settled = False
        self._faults: dict[str, str] = {}
        self._publisher: Publisher | None = None
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, publish: Publish) -> None:
        """Read the file and publish. Raise DiscoveryError when it is unreadable or invalid, or no name resolves."""
        try:
            await self._read_changes(anew=True)
        except (OSError, ValueError) as exc:
            raise DiscoveryError(f"{self._explain(exc)}: mend the file, or correct backendsFile") from None
        snapshot = await self._names.resolve(self._backends)
        if self._backends and not snapshot:
            raise DiscoveryError(f"{self._path}: {explain_failures(self._names.failures)}")
        self._warn_if_empty()
        self._publisher = Publisher(publish)
        self._publisher.offer(snapshot)
        self._spawn(self._keep_looking(self._publisher))

    async def stop(self) -> None:
        """Stop looking at the file and at names."""
        self._publisher = None
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    def reload(self) -> None:
        """Read the file and look names up now (SIGHUP), whether or not the file looks changed. Does not wait for it."""
        if self._publisher is not None:
            log.info("%s: reading it again, as asked", self._path)
            self._spawn(self._update(self._publisher, anew=True))

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work, name="file discovery")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_looking(self, publisher: Publisher) -> None:
        since_resolved = 0.0
        while True:
            await self._sleep(self._poll_interval)
            since_resolved += self._poll_interval
            is_due = since_resolved >= self._resolve_interval
            if is_due:
                since_resolved = 0.0
            await self._update(publisher, resolve=is_due)

    async def _update(self, publisher: Publisher, *, anew: bool = False, resolve: bool = False) -> None:
        async with self._lock:  # SIGHUP may come in the middle of a look
            try:
                if await self._is_changed(anew=anew) or resolve or anew:
                    self._offer(publisher, await self._names.resolve(self._backends))
            except Exception:
                log.exception("%s: reading it failed, the last snapshot stays", self._path)

    async def _is_changed(self, *, anew: bool) -> bool:
        try:
            is_changed = await self._read_changes(anew=anew)
        except (OSError, ValueError) as exc:
            self._note_fault("file", self._explain(exc))
            return False
        if is_changed:
            self._warn_if_empty()
        return is_changed

    async def _read_changes(self, *, anew: bool) -> bool:
        """Take in what the file says now and return whether that is new. Raise OSError or ValueError, changing nothing.

        A new signature is trusted only when it was seen twice: a file that is written again within one tick of the
        file system's clock, or while it is being read, may show the same.
        """
        loop = asyncio.get_running_loop()
        known = self._signature if self._is_settled and not anew else None
        try:
            reading = await loop.run_in_executor(None, self._read, self._path, known)
        except (OSError, ValueError):
            self._signature, self._is_settled = None, False
            raise
        if reading is None:
            return False
        self._is_settled = reading.signature == self._signature
        self._signature = reading.signature
        is_new = reading.data != self._data
        if is_new:
            self._backends = await loop.run_in_executor(None, parse_backends_file, reading.data, self._default_port)
            self._data = reading.data
        self._clear_fault("file")
        return is_new

    def _offer(self, publisher: Publisher, snapshot: Snapshot) -> None:
        if self._backends and not snapshot:
            self._note_fault("names", f"{self._path}: {explain_failures(self._names.failures)}")
            return
        self._clear_fault("names")
        publisher.offer(snapshot)

    def _note_fault(self, kind: str, text: str) -> None:
        if self._faults.get(kind) != text:
            self._faults[kind] = text
            log.error("%s; until this is mended the last snapshot stays in use", text)

    def _clear_fault(self, kind: str) -> None:
        if self._faults.pop(kind, None) is not None:
            log.info("%s: in order again", self._path)

    def _warn_if_empty(self) -> None:
        if not self._backends:
            log.warning("%s lists no backends: requests are answered 503 until it does", self._path)

    def _explain(self, error: OSError | ValueError) -> str:
        reason = error.strerror if isinstance(error, OSError) else None
        return f"{self._path}: {reason or error}"


def _signature(found: os.stat_result) -> Signature:
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev


def _decode(data: bytes) -> tuple[str, object]:
    try:
        text = data.decode("utf-8-sig")
        return text, _DECODER.decode(text)
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
        raise ValueError(f"line {line}: not UTF-8") from None
    except json.JSONDecodeError as exc:
        raise ValueError(f"line {exc.lineno}, column {exc.colno}: not valid JSON: {exc.msg}") from None
    except RecursionError:
        raise ValueError("line 1: nested too deeply: a flat JSON list is needed") from None


def _line_of_entry(text: str, number: int) -> int:
    """Return the line on which entry `number` of the list begins; `text` is known to be a valid one."""
    position = _skip_space(text, 0)
    for _ in range(number):
        start = _skip_space(text, position + 1)  # behind the bracket or comma
        _, end = _DECODER.raw_decode(text, start)
        position = _skip_space(text, end)
    return _line_at(text, start)


def _line_at(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    assert match is not None  # it may match nothing
    return match.end()
