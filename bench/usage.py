"""CPU time and memory of a process and its descendants: from /proc where there is one, else from `ps`."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_PROC = Path("/proc")


class ProcessRow(NamedTuple):
    """One process as the system reports it."""

    pid: int
    ppid: int
    cpu_seconds: float
    """User and system time, its own and that of children it has waited for."""
    rss_bytes: int


class Usage(NamedTuple):
    """What a process tree has used: CPU seconds since it started, and resident bytes now."""

    cpu_seconds: float
    rss_bytes: int


def parse_stat(text: str, ticks_per_second: int, page_bytes: int) -> ProcessRow:
    """Read one `/proc/PID/stat` (proc(5)). The name in parentheses may itself hold spaces and parentheses."""
    pid = int(text[: text.index(" ")])
    fields = text[text.rindex(")") + 2 :].split()
    utime, stime, waited_utime, waited_stime = (int(field) for field in fields[11:15])
    return ProcessRow(
        pid=pid,
        ppid=int(fields[1]),
        cpu_seconds=(utime + stime + waited_utime + waited_stime) / ticks_per_second,
        rss_bytes=int(fields[21]) * page_bytes,
    )


def _cpu_time(text: str) -> float:
    """Seconds in the `time` column of ps: `[days-][hours:]minutes:seconds[.hundredths]`."""
    days, _, clock = text.rpartition("-")
    seconds = 0.0
    for part in clock.split(":"):
        seconds = seconds * 60 + float(part)
    return seconds + 86400 * int(days or 0)


def parse_ps(text: str) -> list[ProcessRow]:
    """Read the output of `ps -axo pid=,ppid=,time=,rss=` (rss in KiB)."""
    rows = []
    for line in text.splitlines():
        pid, ppid, cpu, rss = line.split()
        rows.append(ProcessRow(int(pid), int(ppid), _cpu_time(cpu), int(rss) * 1024))
    return rows


def tree_usage(rows: Iterable[ProcessRow], root: int) -> Usage:
    """Sum the rows of `root` and all its descendants. Raises ProcessLookupError when `root` is not there."""
    children: dict[int, list[ProcessRow]] = {}
    tree: list[ProcessRow] = []
    for row in rows:
        children.setdefault(row.ppid, []).append(row)
        if row.pid == root:
            tree.append(row)
    if not tree:
        raise ProcessLookupError(f"no process {root}")
    for row in tree:  # grows while it is read, down to the last descendant
        tree.extend(children.get(row.pid, ()))
    return Usage(sum(row.cpu_seconds for row in tree), sum(row.rss_bytes for row in tree))


def _read_proc() -> Iterator[ProcessRow]:
    ticks_per_second, page_bytes = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    for entry in _PROC.iterdir():
        if entry.name.isdigit():
            try:
                text = (entry / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended since the directory was read
            yield parse_stat(text, ticks_per_second, page_bytes)


def read_usage(root: int) -> Usage:
    """Measure the tree under `root` now. Raises ProcessLookupError when `root` is not there."""
    if (_PROC / "self" / "stat").exists():
        return tree_usage(_read_proc(), root)
    listing = subprocess.run(["ps", "-axo", "pid=,ppid=,time=,rss="], capture_output=True, text=True, check=True)
    return tree_usage(parse_ps(listing.stdout), root)
