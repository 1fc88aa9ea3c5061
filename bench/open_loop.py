"""Latency at a fixed rate: requests are due at their times, whether or not the ones before were answered.

wrk waits for an answer before it asks again, so that a balancer that stalls is asked less just then, and its p99 under
full load is mostly its own queue. Here `oha` sends at a rate that leaves the balancer room, and a request's time counts
from when it was due: what had to wait for a free connection has waited.

For each contender the rate is a share of its own maximum, and HAProxy is measured at that same rate beside it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple

from bench.load import SCENARIOS, run_wrk
from bench.measure import WARM_UP_SECONDS, Contender, running
from bench.peers import REFERENCE, Peer
from bench.proc import HOST, BenchError, Cores, pinned
from bench.progress import Began, unseen
from bench.stats import Interval, bootstrap, ratios_by_pair
from bench.table import Column, median_of, range_of, render

NAME = "open-loop"
INSTALL = "cargo install oha --version 1.16.0 --locked"
CONTENDERS = ("nginx", "podlb-epoll", "podlb-epoll-h11")
"""Measured when no others are asked for."""
SHARE = 0.6
"""Of a contender's maximum."""
CONNECTIONS = 64
REACHED = 0.97
"""A load that got through less than this share of its requests was not the one asked for."""
LIMITS = {"podlb-epoll": 2.0}
"""How many times HAProxy's p99 a contender's may be."""
_MAXIMUM_SECONDS = 3
_ABORTED = "aborted due to deadline"
"""How oha counts its connections when the time is up, those that wait for nothing included."""


class Load(NamedTuple):
    """What oha saw in one measurement."""

    requests: int
    """Requests that were answered, whatever the status."""
    seconds: float
    p50_ms: float
    p99_ms: float
    failed: int
    """Answers other than 2xx or 3xx, and requests without an answer; not those that the end of the time cut off."""


class Sample(NamedTuple):
    """One of a pair: the contender, or HAProxy at the contender's rate."""

    contender: str
    """Whose rate it is."""
    peer: str
    """Who was measured."""
    turn: int
    asked: int
    """Requests per second."""
    reached: float
    """The same as it came to be."""
    p50_ms: float
    p99_ms: float
    failed: int


class Row(NamedTuple):
    """What one contender did at its rate, and HAProxy at the same."""

    peer: str
    asked: int
    reached: float
    """Requests per second, the lower one of the two medians."""
    p50_ms: float
    p99_ms: float
    reference_p50_ms: float
    reference_p99_ms: float
    ratio: Interval
    """p99 over HAProxy's p99 of the same round."""
    failed: int
    """Of both."""

    @property
    def is_short(self) -> bool:
        """Did fewer requests get through than were asked for, so that the latency is that of another rate?"""
        return self.reached < REACHED * self.asked


def left_out(reference: Peer) -> str | None:
    """Why this can't be measured here, with what would help, or None."""
    for program, install in (("oha", INSTALL), (reference.program, reference.install)):
        if shutil.which(program) is None:
            return f"{NAME} is left out, since {program} is missing; to install it: {install}"
    return None


def chosen(peers: Iterable[Peer], names: Sequence[str]) -> list[Peer]:
    """Those of the contenders that are compared with the reference."""
    return [peer for peer in peers if peer.name in names and peer.name != REFERENCE and peer.takes_part_in(NAME)]


def parse(output: str) -> Load:
    """Read the JSON that oha prints. BenchError when it is not that, or tells of no answer at all."""
    try:
        report = json.loads(output)
        statuses = {int(status): int(count) for status, count in report["statusCodeDistribution"].items()}
        percentiles = report["latencyPercentiles"]
        return Load(
            requests=sum(statuses.values()),
            seconds=float(report["summary"]["total"]),
            p50_ms=float(percentiles["p50"]) * 1000,
            p99_ms=float(percentiles["p99"]) * 1000,
            failed=sum(count for status, count in statuses.items() if not 200 <= status < 400)
            + sum(int(count) for error, count in report["errorDistribution"].items() if error != _ABORTED),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BenchError(
            f"{NAME}: oha printed no report that can be read ({error!r}):\n{output.strip() or '(nothing)'}"
        ) from error


def argv(port: int, rate: int, seconds: int) -> list[str]:
    """The command of the load."""
    return [
        *("oha", "--no-tui", "--output-format", "json", "--worker-threads", "1"),
        *("--latency-correction", "-q", str(rate), "-z", f"{seconds}s", "-c", str(CONNECTIONS)),
        *("--disable-compression", "--http-version", "1.1", f"http://{HOST}:{port}/"),
    ]


def _run_oha(port: int, rate: int, seconds: int, core: int | None) -> Load:
    with pinned(core):
        done = subprocess.run(argv(port, rate, seconds), capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode != 0:
        raise BenchError(f"{NAME}: oha ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
    return parse(done.stdout)


def _rate(contender: Contender, cores: Cores) -> int:
    """SHARE of the requests per second that a closed loop gets out of the contender."""
    small = SCENARIOS["small"]
    run_wrk(small, contender.port, WARM_UP_SECONDS, cores.load)
    result = run_wrk(small, contender.port, _MAXIMUM_SECONDS, cores.load)
    if not result.requests:
        raise BenchError(f"{NAME}: {contender.peer.name} answered nothing, so that it has no rate")
    return max(1, round(SHARE * result.requests / result.seconds))


def _measure(contender: Contender, whose: str, turn: int, rate: int, seconds: int, cores: Cores) -> Sample:
    load = _run_oha(contender.port, rate, seconds, cores.load)
    return Sample(
        contender=whose,
        peer=contender.peer.name,
        turn=turn,
        asked=rate,
        reached=load.requests / load.seconds,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        failed=load.failed,
    )


def planned_seconds(peers: Sequence[Peer], rounds: int, seconds: int) -> float:
    """How long contenders and the reference will be under load, all in all."""
    return len(peers) * (_MAXIMUM_SECONDS + 2 * rounds * seconds)


def measure(
    reference: Peer,
    peers: Sequence[Peer],
    rounds: int,
    seconds: int,
    cores: Cores,
    progress: Callable[[str], None],
    began: Began = unseen,
) -> list[Sample]:
    """Measure pairs of each contender and the reference; which one of them comes first alternates.

    `progress` is told each line, `began` each load before it begins.
    """
    samples: list[Sample] = []
    with running([reference, *peers], cores) as (beside, *contenders):
        run_wrk(SCENARIOS["small"], beside.port, WARM_UP_SECONDS, cores.load)
        rates = {}
        for each in contenders:
            began(f"{NAME}, its maximum", each.peer.name, _MAXIMUM_SECONDS)
            rates[each.peer.name] = _rate(each, cores)
        progress(f"{NAME}: requests per second: {', '.join(f'{name} {rate}' for name, rate in rates.items())}")
        for turn in range(rounds):
            figures = []
            for contender in contenders:
                name = contender.peer.name
                pair = (contender, beside) if turn % 2 == 0 else (beside, contender)
                both = []
                for each in pair:
                    began(f"{NAME}, round {turn + 1} of {rounds}, at the rate of {name}", each.peer.name, seconds)
                    both.append(_measure(each, name, turn, rates[name], seconds, cores))
                samples += both
                figures.append(", ".join(f"{each.peer} {each.p99_ms:.2f}" for each in both))
            progress(f"{NAME}: round {turn + 1} of {rounds}, p99 ms: {'; '.join(figures)}")
    return samples


def summarise(samples: Iterable[Sample]) -> list[Row]:
    """One row per contender, in the order in which they first appear."""
    groups: dict[str, tuple[list[Sample], list[Sample]]] = {}
    for sample in samples:
        groups.setdefault(sample.contender, ([], []))[sample.peer == REFERENCE].append(sample)
    return [
        Row(
            peer=name,
            asked=its[0].asked,
            reached=min(median(each.reached for each in side) for side in (its, reference)),
            p50_ms=median(each.p50_ms for each in its),
            p99_ms=median(each.p99_ms for each in its),
            reference_p50_ms=median(each.p50_ms for each in reference),
            reference_p99_ms=median(each.p99_ms for each in reference),
            ratio=bootstrap(
                ratios_by_pair({each.turn: each.p99_ms for each in its}, {each.turn: each.p99_ms for each in reference})
            ),
            failed=sum(each.failed for each in its + reference),
        )
        for name, (its, reference) in groups.items()
    ]


_COLUMNS = (
    Column[Row]("contender", 15, lambda row: row.peer),
    Column[Row]("asked/s", 8, lambda row: str(row.asked)),
    Column[Row]("reached/s", 9, lambda row: f"{'<' if row.is_short else ''}{row.reached:.0f}"),
    Column[Row]("p50 ms", 7, lambda row: f"{row.p50_ms:.2f}"),
    Column[Row](REFERENCE, 7, lambda row: f"{row.reference_p50_ms:.2f}"),
    Column[Row]("p99 ms", 7, lambda row: f"{row.p99_ms:.2f}"),
    Column[Row](REFERENCE, 7, lambda row: f"{row.reference_p99_ms:.2f}"),
    Column[Row](f"p99 x {REFERENCE}", 13, lambda row: median_of(row.ratio, 2)),
    Column[Row]("95 %", 11, lambda row: range_of(row.ratio, 2)),
    Column[Row]("failed", 10, lambda row: f"{row.failed} !!!" if row.failed else "0"),
)


def failures(rows: Iterable[Row]) -> list[str]:
    """A line for each contender beside which a request failed."""
    return [
        f"!!! {NAME}: {row.peer} FAILED: {row.failed} requests, its own and {REFERENCE}'s, had no good answer"
        for row in rows
        if row.failed
    ]


def _verdicts(rows: Iterable[Row]) -> list[str]:
    return [
        f"{row.peer}: p99 at {row.ratio.median:.2f} x {REFERENCE}'s, at most {LIMITS[row.peer]:g} is the aim: "
        + (
            "says nothing, for the rate was not reached"
            if row.is_short
            else "kept"
            if row.ratio.median <= LIMITS[row.peer]
            else "MISSED"
        )
        for row in rows
        if row.peer in LIMITS
    ]


def table(rows: Sequence[Row]) -> str:
    """The table as plain text."""
    title = f"{NAME}: keep-alive GET at {SHARE:.0%} of each contender's own maximum, {REFERENCE} at the same rate"
    lines = [*render(title, _COLUMNS, rows), ""]
    if any(row.is_short for row in rows):
        lines.append(
            f"< less than {REACHED:.0%} of the rate asked for: the load or a balancer could not do it, "
            "and the latency is that of another load"
        )
    return "\n".join([*lines, *_verdicts(rows), *failures(rows)]).rstrip()


def as_json(rows: Iterable[Row], samples: Iterable[Sample]) -> dict[str, Any]:
    """What `--json` writes of it."""
    return {
        "summary": [{**row._asdict(), "ratio": vars(row.ratio)} for row in rows],
        "samples": [sample._asdict() for sample in samples],
    }
