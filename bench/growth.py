"""How cost grows: CPU and memory of podlb and HAProxy as something grows by orders of magnitude.

    python -m bench.growth --json bench/out/growth.json --charts bench/out
    python -m bench.growth --quick --only head,body

Each size is measured in rounds, both contenders in alternation; a point is the median. What is printed are tables in
Markdown, as docs/how-cost-grows.md has them, and whether anything grows faster than the work does. `--charts` draws
them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import backend, growth_chart, idle
from bench.backend import USUAL, Behind
from bench.cli import names_of
from bench.growth_load import bodies, many_endpoints, measure
from bench.growth_report import Point, Sample, Series, markdown, remarks, summarise, verdicts
from bench.limits import open_files
from bench.load import Scenario, require_wrk
from bench.measure import WARM_UP_SECONDS, Contender, running
from bench.peers import PEERS, REFERENCE, Peer
from bench.peers.nginx import INSTALL
from bench.peers.podlb_kubernetes import beside_api_server
from bench.proc import BenchError, Cores, choose_cores
from lb import __version__

_PODLB = "podlb-epoll"
_BUSY = 10
"""Connections of the load, where most are idle."""
_FOLLOWED_ENDPOINTS = 100
_HAPROXY_HEAD_BYTES = 15_000
"""More does not fit beside what it adds: its buffer has 16 KiB (`tune.bufsize`), and it answers 400."""

SERIES = {
    series.name: series
    for series in (
        Series(
            "connections",
            f"Client connections: {_BUSY} of them busy, the others kept alive and idle",
            "client connections",
            (10, 100, 1_000, 10_000),
        ),
        Series(
            "endpoints",
            "Endpoints, each with connections of its own, 64 client connections",
            "endpoints",
            (1, 10, 100, 1_000, 2_000),
        ),
        Series(
            "head",
            "Size of the request's head, all heads different, 64 client connections",
            "bytes of head",
            (100, 1_024, 4_096, 16_384),
            is_work=True,
        ),
        Series(
            "body",
            "Size of the response's body, 16 client connections",
            "bytes of body",
            (0, 1_024, 16_384, 65_536, 262_144, 1_048_576, 4_194_304),
            is_work=True,
            compared_from=1_024,
        ),
        Series(
            "events",
            f"Changes of an EndpointSlice of {_FOLLOWED_ENDPOINTS} endpoints, under load from 64 client connections",
            "changes a second",
            (0, 10, 100, 1_000),
            costs="CPU ms a second beside the requests'",
            is_work=True,
            compared_from=100,
        ),
    )
}


class Run(NamedTuple):
    """What a run has and how long it measures."""

    peers: Sequence[Peer]
    rounds: int
    seconds: int
    cores: Cores
    progress: Callable[[str], None]

    def in_turn(self, contenders: Sequence[Contender]) -> list[tuple[int, Contender]]:
        """Every round with every contender; another one is first each time."""
        found = []
        for turn in range(self.rounds):
            first = turn % len(contenders)
            found += [(turn, contender) for contender in (*contenders[first:], *contenders[:first])]
        return found

    def warm_up(self, contenders: Sequence[Contender], scenario: Scenario) -> None:
        """Let everything be connected, compiled and cached that will be."""
        for contender in contenders:
            measure(contender, scenario, WARM_UP_SECONDS, self.cores)

    def told(self, sample: Sample) -> Sample:
        """Tell of a sample."""
        self.progress(f"{sample.series} {sample.size:,}: round {sample.turn + 1}, {sample.peer} {sample.cost:.1f}")
        return sample


def _by_request(
    run: Run, series: str, size: int, scenario: Scenario, peers: Sequence[Peer], behind: Behind
) -> list[Sample]:
    """One size under an ordinary load."""
    samples = []
    with running(peers, run.cores, behind=behind) as contenders:
        run.warm_up(contenders, scenario)
        for turn, contender in run.in_turn(contenders):
            if behind.endpoints > 1:
                # Connections that were closed in the others' turns are made again: that is not counted.
                run.warm_up([contender], scenario)
            found = measure(contender, scenario, run.seconds, run.cores)
            sample = Sample(series, contender.peer.name, size, turn, found.cpu_us, found.rss_bytes, found.failed)
            samples.append(run.told(sample))
    return samples


def connections(run: Run, sizes: Sequence[int]) -> list[Sample]:
    """The idle ones are made anew for each measurement, so that they are there for one contender at a time."""
    fit = idle.connections_that_fit(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    if fit < max(sizes):
        run.progress(f"connections: {fit:,} at most, which the hard limit of open files permits (ulimit -Hn)")
    scenario = Scenario("connections", "", connections=_BUSY)
    samples = []
    for size in dict.fromkeys(min(size, fit) for size in sizes):
        with (
            open_files(2 * size + idle.SPARE_FILES, "connections"),
            running(run.peers, run.cores, connections=size + 64) as contenders,
        ):
            run.warm_up(contenders, scenario)
            for turn, contender in run.in_turn(contenders):
                with idle.holding(contender, size - _BUSY, run.cores.load) as held:
                    found = measure(contender, scenario, run.seconds, run.cores)
                name, failed = contender.peer.name, found.failed + held.lost
                samples.append(run.told(Sample("connections", name, size, turn, found.cpu_us, found.rss_bytes, failed)))
    return samples


def endpoints(run: Run, sizes: Sequence[int]) -> list[Sample]:
    """The same nginx at ever more addresses."""
    samples = []
    for size in sizes:
        # The backend listens on each address, with a connection from each contender.
        with open_files((len(run.peers) + 2) * size, "endpoints"):
            samples += _by_request(run, "endpoints", size, Scenario("endpoints", ""), run.peers, many_endpoints(size))
    return samples


def head(run: Run, sizes: Sequence[int]) -> list[Sample]:
    """HAProxy has no part in the sizes that its buffer does not hold."""
    samples = []
    for size in sizes:
        peers = [peer for peer in run.peers if peer.name != REFERENCE or size <= _HAPROXY_HEAD_BYTES]
        scenario = Scenario("head", "", script="heads.lua", fields=(f"Head-Bytes: {size}",))
        samples += _by_request(run, "head", size, scenario, peers, USUAL)
    return samples


def body(run: Run, sizes: Sequence[int]) -> list[Sample]:
    """Files of nginx, as in the scenarios with long bodies."""
    samples = []
    for size in sizes:
        scenario = Scenario("body", "", connections=16, path=f"/{size}", body_bytes=size or None)
        samples += _by_request(run, "body", size, scenario, run.peers, bodies([size]))
    return samples


def events(run: Run, sizes: Sequence[int]) -> list[Sample]:
    """podlb alone: the others have no such discovery. What the requests cost is measured just before, at rest."""
    scenario, samples = Scenario("events", ""), []
    with (
        beside_api_server(run.cores.load) as cluster,
        running([cluster.peer], run.cores, behind=many_endpoints(_FOLLOWED_ENDPOINTS)) as contenders,
    ):
        run.warm_up(contenders, scenario)
        (contender,) = contenders
        for turn in range(run.rounds):
            for size in sizes:
                at_rest = measure(contender, scenario, run.seconds, run.cores)
                cluster.change(size)
                count = cluster.events()
                found = measure(contender, scenario, run.seconds, run.cores)
                reached = (cluster.events() - count) / found.seconds
                cluster.change(0)
                beside = found.cpu_seconds - found.requests * at_rest.cpu_us / 1e6
                cost, failed = beside / found.seconds * 1000, at_rest.failed + found.failed
                name = contender.peer.name
                samples.append(
                    run.told(
                        Sample("events", name, size, turn, cost, found.rss_bytes, failed, reached if size else None)
                    )
                )
    return samples


_MEASURED_BY = {function.__name__: function for function in (connections, endpoints, head, body, events)}


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one round of 1 second: a first look, not to be quoted")
    parser.add_argument(
        "--only",
        type=names_of(list(SERIES), "series"),
        default=list(SERIES),
        metavar="NAME,...",
        help=", ".join(SERIES),
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample and point there")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="draw one SVG per series there; needs matplotlib")
    arguments = parser.parse_args(argv)
    arguments.command = shlex.join(["python", "-m", "bench.growth", *(sys.argv[1:] if argv is None else argv)])
    return arguments


def _peers(progress: Callable[[str], None]) -> list[Peer]:
    require_wrk()
    if not backend.has_nginx():
        raise BenchError(f"nginx is missing, without it there is no backend that is fast enough: {INSTALL}")
    podlb, haproxy = PEERS[_PODLB], PEERS[REFERENCE]
    if podlb.impossible:
        raise BenchError(f"{podlb.name} can't be measured: {podlb.impossible}")
    if not haproxy.is_installed():
        progress(f"{haproxy.name} is missing and left out; to install it: {haproxy.install}")
        return [podlb]
    return [podlb, haproxy]


def _about(run: Run, command: str) -> dict[str, object]:
    return {
        "command": command,
        "podlb": __version__,
        "python": platform.python_version(),
        "versions": {peer.name: peer.version() for peer in run.peers if peer.program != sys.executable},
        "pinning": str(run.cores),
        "rounds": run.rounds,
        "seconds": run.seconds,
    }


def _run(arguments: argparse.Namespace, progress: Callable[[str], None]) -> int:
    if arguments.charts:
        growth_chart.require_matplotlib()
    rounds, seconds = (1, 1) if arguments.quick else (5, 2)
    run = Run(_peers(progress), rounds, seconds, choose_cores(), progress)
    about = _about(run, arguments.command)
    print("\n".join(f"{name}: {value}" for name, value in about.items()))
    samples: list[Sample] = []
    points: list[Point] = []
    for name in arguments.only:
        series = SERIES[name]
        found = _MEASURED_BY[name](run, series.sizes)
        samples += found
        points += (its := summarise(found))
        print(
            "\n".join(["", series.title, "", markdown(series, its), "", *verdicts(series, its), *remarks(series, its)])
        )
        if arguments.charts:
            growth_chart.draw(series, its, arguments.charts)
    if arguments.json:
        result = {
            **about,
            "points": [point._asdict() for point in points],
            "samples": [sample._asdict() for sample in samples],
        }
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return int(any(point.failed for point in points))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status: 1 if a request failed."""
    arguments = _parse(argv)
    # Debian keeps nginx and haproxy where the PATH of most users does not look.
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return _run(arguments, lambda line: print(line, file=sys.stderr, flush=True))
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
