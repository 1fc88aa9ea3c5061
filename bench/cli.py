"""The command line of the benchmark: what to measure, the table, the gate."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import os
import platform
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench import backend, chart, gate, idle, measure, open_loop, progress, report
from bench.load import SCENARIOS, Scenario, require_wrk
from bench.peers import PEERS, REFERENCE, Peer
from bench.proc import ROOT, BenchError, Cores, choose_cores
from lb import __version__


def names_of(known: Sequence[str], what: str) -> Callable[[str], list[str]]:
    """Return what reads a list of names, apart by commas, in the order of those that there are: for argparse."""

    def parse(text: str) -> list[str]:
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"no {what} {name!r}; there are: {', '.join(known)}")
        return [name for name in known if name in names]

    return parse


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="bench/run.py",
        description="Measure podlb beside HAProxy, nginx and others on this machine: CPU per request, speed, latency.",
    )
    peers, scenarios = list(PEERS), [*SCENARIOS, open_loop.NAME, idle.NAME]
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 seconds: a first look, not to be quoted")
    parser.add_argument("--rounds", type=_positive, help="how often everything is measured (11)")
    parser.add_argument("--seconds", type=_positive, help="length of one measurement (2)")
    parser.add_argument("--peers", type=names_of(peers, "contender"), help=", ".join(peers))
    parser.add_argument("--scenarios", type=names_of(scenarios, "scenario"), help=", ".join(scenarios))
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every sample and the summary there")
    parser.add_argument("--chart", type=Path, metavar="FILE.svg", help="draw the costs relative to HAProxy's there")
    parser.add_argument(
        "--gate", action="store_true", help=f"fail when {gate.GATED_PEER} lost 30 %% against {gate.BASELINE.name}"
    )
    parser.add_argument(
        "--write-baseline", action="store_true", help=f"make this run the committed one ({gate.BASELINE.name})"
    )
    arguments = parser.parse_args(argv)
    arguments.command = shlex.join(["python", "bench/run.py", *(sys.argv[1:] if argv is None else argv)])
    arguments.rounds = arguments.rounds or (3 if arguments.quick else 11)
    arguments.seconds = arguments.seconds or 2
    is_gated = arguments.gate or arguments.write_baseline
    arguments.open_loop_peers = arguments.peers or list(open_loop.CONTENDERS)
    arguments.peers = arguments.peers or (list(gate.GATE_PEERS) if is_gated else peers)
    arguments.scenarios = arguments.scenarios or (list(gate.GATED_SCENARIOS) if is_gated else scenarios)
    if is_gated and not (
        {REFERENCE, gate.GATED_PEER} <= set(arguments.peers) and set(gate.GATED_SCENARIOS) <= set(arguments.scenarios)
    ):
        parser.error(
            f"--gate and --write-baseline need the contenders {REFERENCE} and {gate.GATED_PEER} "
            f"and the scenarios {', '.join(gate.GATED_SCENARIOS)}"
        )
    return arguments


def _usable(names: Sequence[str], scenarios: Sequence[str]) -> list[Peer]:
    """The contenders that can be measured here; why the others are left out is printed."""
    peers = []
    for name in names:
        peer = PEERS[name]
        if not any(map(peer.takes_part_in, scenarios)):
            continue
        if peer.impossible:
            print(f"{name} is left out: {peer.impossible}")
        elif peer.is_installed():
            peers.append(peer)
        else:
            print(f"{name} is missing and left out; to install it: {peer.install}")
    if not peers:
        raise BenchError("none of the contenders asked for can be measured in the scenarios asked for")
    return peers


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _about(command: str, peers: Sequence[Peer], plan: measure.Plan, cores: Cores) -> dict[str, Any]:
    versions = {peer.program: peer.version() for peer in peers if peer.program != sys.executable}
    return {
        "command": command,
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}",
        "podlb": __version__,
        "python": platform.python_version(),
        "versions": versions,
        "pinning": str(cores),
        "backend": backend.describe(),
        "rounds": plan.rounds,
        "seconds": plan.seconds,
    }


def _print_about(about: dict[str, Any]) -> None:
    print(f"machine   {about['machine']}")
    print(f"programs  podlb {about['podlb']} on Python {about['python']}")
    for program, version in about["versions"].items():
        print(f"          {program}: {version}")
    print(f"cores     {about['pinning']}")
    print(f"backend   {about['backend']}")
    print(f"measured  {about['rounds']} rounds of {about['seconds']} s, all contenders in alternation\n")


def _pass_gate(rows: Sequence[report.Row], plan: measure.Plan, cores: Cores) -> bool:
    """Hold this run to the committed one; what is too slow is measured once more and the better run counts."""
    baseline = gate.read_baseline(gate.BASELINE)
    ratios = gate.gated_ratios(rows)
    slow = gate.too_slow(ratios, baseline)
    if slow:
        print(f"{gate.verdict(ratios, baseline)}\nmeasuring once more: {', '.join(slow)}")
        again = measure.Plan([SCENARIOS[name] for name in slow], plan.rounds, plan.seconds)
        peers = [PEERS[REFERENCE], PEERS[gate.GATED_PEER]]
        with progress.shown(measure.planned_seconds(peers, again)) as show:
            second = report.summarise(measure.run(peers, again, cores, show.line, show.began))
        print(report.table(again.scenarios, second), end="\n\n")
        if report.failures(second):
            return False
        ratios = gate.better_of(ratios, gate.gated_ratios(second, slow))
    print(gate.verdict(ratios, baseline))
    return not gate.too_slow(ratios, baseline)


def _print_results(
    plan: measure.Plan,
    rows: Sequence[report.Row],
    open_rows: Sequence[open_loop.Row],
    idle_results: Sequence[idle.IdleMemory],
) -> None:
    tables = [report.table(plan.scenarios, rows)] if rows else []
    tables += [open_loop.table(open_rows)] if open_rows else []
    tables += [idle.table(idle_results)] if idle_results else []
    print("\n\n".join(tables))


def _run(arguments: argparse.Namespace) -> int:
    scenarios: list[Scenario] = [SCENARIOS[name] for name in arguments.scenarios if name in SCENARIOS]
    for scenario in scenarios:
        if scenario.impossible:
            print(f"{scenario.name} is left out: {scenario.impossible}")
    scenarios = [scenario for scenario in scenarios if not scenario.impossible]
    if open_loop.NAME in arguments.scenarios and (why := open_loop.left_out(PEERS[REFERENCE])):
        print(why)
        arguments.scenarios.remove(open_loop.NAME)
    if open_loop.NAME in arguments.scenarios or any(scenario.client is None for scenario in scenarios):
        require_wrk()
    if arguments.gate:
        gate.read_baseline(gate.BASELINE)
    if not backend.has_nginx() and (
        beyond := [each.name for each in scenarios if each.name not in backend.OF_FALLBACK]
    ):
        print(f"left out, since the backend is not nginx: {', '.join(beyond)}")
        scenarios = [each for each in scenarios if each.name in backend.OF_FALLBACK]
    if (arguments.gate or arguments.write_baseline) and not backend.has_nginx():
        raise BenchError(f"--gate and --write-baseline need nginx as the backend: {PEERS['nginx'].install}")
    peers = _usable(arguments.peers, arguments.scenarios)
    if arguments.chart:
        chart.require(arguments.chart, [peer.name for peer in peers], [each.name for each in scenarios])
    plan = measure.Plan(scenarios, arguments.rounds, arguments.seconds)
    cores = choose_cores()
    about = _about(arguments.command, peers, plan, cores)
    _print_about(about)

    with_idle = idle.NAME in arguments.scenarios
    beside = open_loop.chosen(peers, arguments.open_loop_peers) if open_loop.NAME in arguments.scenarios else []
    if open_loop.NAME in arguments.scenarios and not beside:
        print(f"{open_loop.NAME} is left out: it compares others with {REFERENCE}, and there is no other")
    planned = measure.planned_seconds(peers, plan) + open_loop.planned_seconds(beside, plan.rounds, plan.seconds)
    planned += idle.planned_seconds(peers) if with_idle else 0
    with progress.shown(planned) as show:
        samples = measure.run(peers, plan, cores, show.line, show.began) if scenarios else []
        open_samples = (
            open_loop.measure(PEERS[REFERENCE], beside, plan.rounds, plan.seconds, cores, show.line, show.began)
            if beside
            else []
        )
        idle_results = idle.measure(peers, cores, show.line, show.began) if with_idle else []
    rows = report.summarise(samples)
    open_rows = open_loop.summarise(open_samples)
    _print_results(plan, rows, open_rows, idle_results)
    result = {
        **about,
        "summary": [dataclasses.asdict(row) for row in rows],
        "open_loop": open_loop.as_json(open_rows, open_samples),
        "idle": [each._asdict() for each in idle_results],
        "samples": [sample._asdict() for sample in samples],
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    if arguments.chart:
        chart.draw(result, arguments.chart)
    if report.failures(rows) or open_loop.failures(open_rows) or idle.failures(idle_results):
        return 1
    if arguments.write_baseline:
        gate.write_baseline(gate.BASELINE, rows, about)
        print(f"\nwritten: {gate.BASELINE.relative_to(ROOT)}")
    if arguments.gate:
        print()
        return 0 if _pass_gate(rows, plan, cores) else 1
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = _parse(argv)
    # Debian keeps nginx and haproxy where the PATH of most users does not look.
    # The programs that pip installs are beside this interpreter.
    places = [str(Path(sys.executable).parent), "/usr/local/sbin", "/usr/sbin"]
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), *places])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return _run(arguments)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
