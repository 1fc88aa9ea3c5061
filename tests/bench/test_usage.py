from __future__ import annotations

import os
import subprocess
import sys

import pytest

from bench.usage import ProcessRow, parse_ps, parse_stat, read_usage, tree_usage

STAT = (
    "4242 (a (b) c) S 17 4242 4242 0 -1 4194560 1234 0 0 0 "
    "150 50 30 20 20 0 1 0 5551234 104857600 2560 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0\n"
)


def test_stat_of_a_process_whose_name_has_spaces_and_parentheses() -> None:
    row = parse_stat(STAT, ticks_per_second=100, page_bytes=4096)
    assert row == ProcessRow(pid=4242, ppid=17, cpu_seconds=2.5, rss_bytes=2560 * 4096)


def test_ps_of_macos_and_of_linux() -> None:
    rows = parse_ps("    1     0   0:12.50  4096\n  300     1 1-02:03:04   128\n")
    assert rows == [
        ProcessRow(1, 0, 12.5, 4096 * 1024),
        ProcessRow(300, 1, 86400 + 2 * 3600 + 3 * 60 + 4, 128 * 1024),
    ]


def test_a_tree_is_the_root_and_all_below_in_whatever_order_they_are_listed() -> None:
    rows = [
        ProcessRow(12, 11, 0.5, 100),
        ProcessRow(11, 10, 1.0, 200),
        ProcessRow(10, 1, 2.0, 400),
        ProcessRow(99, 1, 64.0, 6400),
    ]
    assert tree_usage(rows, 10) == (3.5, 700)
    assert tree_usage(rows, 11) == (1.5, 300)


def test_a_root_that_is_gone() -> None:
    with pytest.raises(ProcessLookupError):
        tree_usage([ProcessRow(10, 1, 2.0, 400)], 11)


def test_the_tree_of_this_process_includes_a_child() -> None:
    alone = read_usage(os.getpid())
    assert alone.cpu_seconds > 0
    assert alone.rss_bytes > 2**20
    child = subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        assert read_usage(os.getpid()).rss_bytes >= alone.rss_bytes + 2**20
        child.communicate(b"\n")
