"""The designs that lost, once more beside what is in force: `python -m bench.experiments.variants NAME`.

Each is a few edits of lb, which are made to a copy of it; `bench.pairs` then measures both in turn. An edit whose place
is not there any more is an error: a variant follows the code, or is taken out together with its line in README.md.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench import pairs
from bench.proc import ROOT, BenchError


class Edit(NamedTuple):
    """One place of lb, and what stands there instead."""

    path: str
    old: str
    new: str


class Variant(NamedTuple):
    """A design, and the load that shows what it costs."""

    edits: tuple[Edit, ...]
    scenario: str = "small"


_BASE = "lb/eventloop/transport_base.py"
_TRANSPORT = "lb/eventloop/transport.py"
_READ_SMALL = "\nREAD_SMALL = 479\n"

VARIANTS = {
    "read-and-write": Variant(
        (
            Edit(_BASE, "\nimport asyncio\n", "\nimport asyncio\nimport functools\nimport os\n"),
            Edit(_BASE, "self._send = sock.send\n", "self._send = functools.partial(os.write, self._fd)\n"),
            Edit(_BASE, "self._receive = sock.recv\n", "self._receive = functools.partial(os.read, self._fd)\n"),
        )
    ),
    "first-read-960": Variant((Edit(_BASE, _READ_SMALL, "\nREAD_SMALL = 960\n"),)),
    "first-read-8192": Variant((Edit(_BASE, _READ_SMALL, "\nREAD_SMALL = 8192\n"),)),
    "two-call-sites": Variant(
        (
            Edit(
                "lb/eventloop/turn.py",
                "                    sink._protocol.data_received(data)\n",
                "                    if sink._server is not None:\n"
                "                        sink._protocol.data_received(data)\n"
                "                    else:\n"
                "                        sink._protocol.data_received(data)\n",
            ),
        )
    ),
    "no-ctl-del": Variant(
        (
            Edit(
                _BASE,
                "                self._loop._poller.remove(self._fd)\n",
                "                poller = self._loop._poller\n"
                "                if poller._interest.pop(self._fd, None) is not None:\n"
                "                    del poller.told[self._fd]\n",
            ),
        ),
        scenario="connect",
    ),
    # (Without what a peer that is half closed then needs, which the load has none of.)
    "level-triggered": Variant(
        (
            Edit("lb/eventloop/poller.py", "EDGE = select.EPOLLET\n", "EDGE = 0\n"),
            Edit(
                _TRANSPORT,
                "            self._paused = True\n            self.reading = NOT_READING\n",
                "            self._paused = True\n            self.reading = NOT_READING\n"
                "            self._watch(self._interest & ~READ)\n",
            ),
            Edit(
                _TRANSPORT,
                "            self.reading = self._way_to_read if self._splice is None else SPLICES\n"
                "            if self._missed:\n",
                "            self.reading = self._way_to_read if self._splice is None else SPLICES\n"
                "            self._watch(self._interest | READ)\n"
                "            if self._missed:\n",
            ),
        )
    ),
}


def make(variant: Variant, directory: Path) -> None:
    """Copy lb into `directory`, with the edits of the variant. BenchError if a place is not there exactly once."""
    shutil.copytree(ROOT / "lb", directory / "lb", ignore=shutil.ignore_patterns("__pycache__"))
    for path, old, new in variant.edits:
        text = (directory / path).read_text()
        if text.count(old) != 1:
            raise BenchError(f"{path} has {text.count(old)} places, not one, that read:\n{old}")
        (directory / path).write_text(text.replace(old, new))


def main(argv: Sequence[str] | None = None) -> int:
    """Measure one variant; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.experiments.variants", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("name", choices=list(VARIANTS))
    parser.add_argument("--pairs", default="16")
    parser.add_argument("--seconds", default="1", help="of load for each, whole (default %(default)s)")
    arguments = parser.parse_args(argv)
    variant = VARIANTS[arguments.name]
    with tempfile.TemporaryDirectory(prefix="podlb-variant-") as directory:
        try:
            make(variant, Path(directory))
        except BenchError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        sides = [shlex.quote(str(ROOT)), shlex.quote(directory)]
        how = ["--scenario", variant.scenario, "--pairs", arguments.pairs, "--seconds", arguments.seconds]
        return pairs.main([*sides, *how])


if __name__ == "__main__":
    sys.exit(main())
