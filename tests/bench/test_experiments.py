"""The designs that lost can be tried again: their edits still fit the code, and each has its line and its figure."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.experiments import socket_calls, variants
from bench.experiments.variants import VARIANTS, Edit, Variant
from bench.load import SCENARIOS
from bench.proc import ROOT, BenchError

README = (ROOT / "bench" / "experiments" / "README.md").read_text()


def rows() -> list[list[str]]:
    """Return the cells of the table, without its head."""
    lines = [line for line in README.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_still_fits_the_code_and_is_another_podlb(name: str, tmp_path: Path) -> None:
    variants.make(VARIANTS[name], tmp_path)
    for path in {edit.path for edit in VARIANTS[name].edits}:
        text = (tmp_path / path).read_text()
        compile(text, path, "exec")
        assert text != (ROOT / path).read_text()
    assert VARIANTS[name].scenario in SCENARIOS


def test_each_design_has_its_figures_and_what_measures_it() -> None:
    commands = set()
    for design, it, in_force, command, why in rows():
        assert re.search(r"\d", it), design
        assert re.search(r"\d", in_force), design
        assert why, design
        found = re.fullmatch(r"`(variants (\S+)|socket_calls)`", command)
        assert found, design
        commands.add(found[2] or found[1])
    assert commands == {*VARIANTS, "socket_calls"}


def test_a_place_that_is_gone_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    gone = Variant((Edit("lb/eventloop/poller.py", "no such line\n", ""),))
    with pytest.raises(BenchError, match="has 0 places, not one"):
        variants.make(gone, tmp_path)
    monkeypatch.setitem(VARIANTS, "no-ctl-del", gone)
    assert variants.main(["no-ctl-del"]) == 1
    assert "no such line" in capsys.readouterr().err


def test_the_copy_is_measured_after_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[list[str]] = []

    def main(argv: list[str]) -> int:
        assert Path(argv[1], "lb", "eventloop", "turn.py").is_file()
        found.append(argv)
        return 0

    monkeypatch.setattr(variants.pairs, "main", main)
    assert variants.main(["no-ctl-del", "--pairs", "3"]) == 0
    assert found[0][0] == str(ROOT)
    assert found[0][2:] == ["--scenario", "connect", "--pairs", "3", "--seconds", "1"]
    assert not Path(found[0][1]).exists()


def test_a_side_runs_the_podlb_of_its_directory(tmp_path: Path) -> None:
    variants.make(VARIANTS["first-read-960"], tmp_path)
    argv = [sys.executable, "-c", "from lb.eventloop.transport_base import READ_SMALL as size; print(size)"]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=15)
    assert done.stdout == "960\n", done.stderr


@pytest.mark.parametrize(
    "way", [socket_calls._send_and_recv, socket_calls._write_and_read, socket_calls._send_and_recv_into]
)
def test_each_pair_of_calls_carries_its_message(
    way: Callable[[int], Callable[[], object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = socket_calls._pair()
    numbers = [each.fileno() for each in pair]
    monkeypatch.setattr(socket_calls, "_pair", lambda: pair)
    message = way(470)
    message()
    message()
    # Nothing is left of what was sent.
    with pytest.raises(BlockingIOError):
        os.read(numbers[1], 1)
    for sock, number in zip(pair, numbers, strict=True):
        if sock.fileno() == -1:
            os.close(number)
        sock.close()


@pytest.mark.slow
@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", VARIANTS)
def test_each_variant_runs_under_load(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert variants.main([name, "--pairs", "1", "--seconds", "1"]) == 0
    assert "CPU per request, after / before: " in capsys.readouterr().out
