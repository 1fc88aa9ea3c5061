"""One run: backend and contenders side by side, measured in turn, again and again."""

from __future__ import annotations

import contextlib
import resource
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench import backend
from bench.backend import Behind
from bench.clients import prepared
from bench.heads import fetch, known
from bench.limits import open_files, require_open_files
from bench.load import Scenario, short_bodies
from bench.peers import Peer, Setting
from bench.proc import Cores, Process, free_ports
from bench.progress import Began, unseen

WARM_UP_SECONDS = 1


class Sample(NamedTuple):
    """One contender under one load for a few seconds."""

    scenario: str
    peer: str
    turn: int
    requests: int
    seconds: float
    cpu_seconds: float
    """User and system time of the contender's processes during the load."""
    p50_ms: float
    p99_ms: float
    rss_bytes: int
    """At the end, or the most that was seen while a client of ours loaded it."""
    non_2xx: int
    socket_errors: int
    bytes_read: int
    """By the client, heads included."""
    short_bodies: int
    """And wrong ones."""
    load_busy: float = 0.0
    """How busy load and backend were, as a share of one core: near 1 they could not do more, whatever the contender."""
    known_requests: float | None = None
    known_responses: float | None = None
    """The shares of heads that it remembered and did not read, where it tells."""

    @property
    def cpu_us(self) -> float | None:
        """CPU microseconds per request; None when no request was answered."""
        return self.cpu_seconds / self.requests * 1e6 if self.requests else None

    @property
    def cpu_s_per_gb(self) -> float | None:
        """CPU seconds per 10^9 bytes that the client read; None when no request was answered."""
        return self.cpu_seconds / self.bytes_read * 1e9 if self.requests else None

    def cost(self, scenario: Scenario) -> float | None:
        """The one of the two that the scenario is about."""
        return self.cpu_s_per_gb if scenario.is_by_byte else self.cpu_us

    @property
    def failed(self) -> int:
        """Requests that failed; a measurement without a single answer counts as one."""
        return self.non_2xx + self.socket_errors + self.short_bodies or int(not self.requests)


@dataclass(frozen=True)
class Plan:
    """How much is measured: every scenario, `rounds` times, `seconds` (whole) for each contender."""

    scenarios: Sequence[Scenario]
    rounds: int
    seconds: int


class Contender(NamedTuple):
    """A contender that runs and answers."""

    peer: Peer
    process: Process
    port: int
    backend: Process
    admin_port: int = 0


def _own_directory(parent: Path, name: str) -> Path:
    directory = parent / name
    directory.mkdir()
    directory.chmod(0o755)  # nginx gives its worker to another user when root starts it
    return directory


@contextlib.contextmanager
def running(
    peers: Sequence[Peer], cores: Cores, connections: int = 64, behind: Behind = backend.USUAL
) -> Iterator[list[Contender]]:
    """The backend and all contenders, each answering, until the end of the block. BenchError if one can't start.

    Each contender is set up to hold so many client connections at once.
    """
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="podlb-bench-")))
        directory.chmod(0o755)
        backend_port, *ports = free_ports(1 + 2 * len(peers))

        def start(name: str, argv: Callable[[Setting], list[str]], setting: Setting, core: int | None) -> Process:
            process = Process(name, argv(setting), core, setting.directory / "output.log")
            stack.enter_context(process).wait_until_answers(setting.port)
            return process

        backends = behind.addresses(backend_port)
        backend_setting = Setting(backend_port, 0, backends, _own_directory(directory, "backend"))
        backend_process = start("the backend", behind.argv, backend_setting, cores.load)
        contenders = []
        for index, peer in enumerate(peers):
            if peer.is_backend:
                contenders.append(Contender(peer, backend_process, backend_port, backend_process))
                continue
            setting = Setting(
                port=ports[2 * index],
                admin_port=ports[2 * index + 1],
                backends=backends,
                directory=_own_directory(directory, peer.name),
                connections=connections,
            )
            process = start(peer.name, peer.argv, setting, cores.balancer)
            contenders.append(Contender(peer, process, setting.port, backend_process, setting.admin_port))
        yield contenders


def _measure(contender: Contender, scenario: Scenario, turn: int, seconds: int, cores: Cores) -> Sample:
    rss_bytes: list[int] = []

    def watch() -> None:
        rss_bytes.append(contender.process.usage().rss_bytes)

    load = _cpu_of_children()
    with prepared(scenario, contender.port, seconds, cores.load) as run_load:
        heads = fetch(contender.admin_port) if contender.peer.tells_heads else None
        behind, before = contender.backend.usage(), contender.process.usage()
        result = run_load(watch)
        after = contender.process.usage()
        busy = contender.backend.usage().cpu_seconds - behind.cpu_seconds
        remembered = known(heads, fetch(contender.admin_port)) if heads else None
    busy += _cpu_of_children() - load
    return Sample(
        scenario=scenario.name,
        peer=contender.peer.name,
        turn=turn,
        requests=result.requests,
        seconds=result.seconds,
        cpu_seconds=after.cpu_seconds - before.cpu_seconds,
        p50_ms=result.p50_ms,
        p99_ms=result.p99_ms,
        rss_bytes=max([*rss_bytes, after.rss_bytes]),
        non_2xx=result.non_2xx,
        socket_errors=result.socket_errors,
        bytes_read=result.bytes_read,
        short_bodies=short_bodies(scenario, result) + result.wrong,
        load_busy=busy / result.seconds,
        known_requests=remembered.requests if remembered else None,
        known_responses=remembered.responses if remembered else None,
    )


def _cpu_of_children() -> float:
    """Return the user and system time of all processes that were waited for: of the load, that is."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _warm_up(contender: Contender, scenario: Scenario, cores: Cores) -> None:
    with prepared(scenario, contender.port, WARM_UP_SECONDS, cores.load) as run_load:
        run_load(lambda: None)


def _figure(sample: Sample, scenario: Scenario) -> str:
    cost = sample.cost(scenario)
    return f"{sample.peer} {'no answer' if cost is None else f'{cost:.{3 if scenario.is_by_byte else 1}f}'}"


def _rounds(
    contenders: Sequence[Contender],
    scenario: Scenario,
    plan: Plan,
    cores: Cores,
    progress: Callable[[str], None],
    began: Began,
) -> Iterator[Sample]:
    progress(f"{scenario.name}: warming up")
    for contender in contenders:
        began(f"{scenario.name}, warming up", contender.peer.name, WARM_UP_SECONDS)
        if scenario.check is not None:
            scenario.check(contender.peer.name, contender.port)
        _warm_up(contender, scenario, cores)
    unit = "CPU s/GB" if scenario.is_by_byte else "CPU µs/req"
    for turn in range(plan.rounds):
        first = turn % len(contenders)
        figures = []
        for contender in (*contenders[first:], *contenders[:first]):
            what = f"{scenario.name}, round {turn + 1} of {plan.rounds}"
            if scenario.is_warmed_each_time:
                began(what, contender.peer.name, WARM_UP_SECONDS)
                _warm_up(contender, scenario, cores)
            began(what, contender.peer.name, plan.seconds)
            sample = _measure(contender, scenario, turn, plan.seconds, cores)
            figures.append(_figure(sample, scenario))
            yield sample
        progress(f"{scenario.name}: round {turn + 1} of {plan.rounds}, {unit}: {', '.join(figures)}")


class _Start(NamedTuple):
    """One start of contenders: those that are needed for its scenarios, with what is behind them."""

    behind: Behind
    peers: list[Peer]
    scenarios: list[Scenario]

    @property
    def open_files(self) -> int:
        """How many one process needs: the backend listens on each address, with a connection from each contender."""
        return self.behind.endpoints * (len(self.peers) + 2)


def _starts(peers: Sequence[Peer], scenarios: Sequence[Scenario]) -> list[_Start]:
    """The start that most scenarios share, and those of others."""
    shared = [scenario for scenario in scenarios if scenario.anew is None]
    own = [(scenario.anew, [scenario]) for scenario in scenarios if scenario.anew is not None]
    starts = [
        _Start(behind, [peer for peer in peers if any(peer.takes_part_in(each.name) for each in group)], group)
        for behind, group in ((backend.USUAL, shared), *own)
    ]
    return [start for start in starts if start.peers]


def planned_seconds(peers: Sequence[Peer], plan: Plan) -> float:
    """How long contenders will be under load, all in all."""

    def seconds(scenario: Scenario) -> float:
        return WARM_UP_SECONDS + plan.rounds * (plan.seconds + WARM_UP_SECONDS * scenario.is_warmed_each_time)

    return sum(seconds(each) for each in plan.scenarios for peer in peers if peer.takes_part_in(each.name))


def run(
    peers: Sequence[Peer],
    plan: Plan,
    cores: Cores,
    progress: Callable[[str], None],
    began: Began = unseen,
) -> list[Sample]:
    """Measure everything in the plan; the first one in a round is another contender each time.

    `progress` is told each line, `began` each load before it begins: its name, the contender, and how long it takes.
    """
    starts = _starts(peers, plan.scenarios)
    for start in starts:
        require_open_files(start.open_files, start.scenarios[0].name)
    samples: list[Sample] = []
    for start in starts:
        files = open_files(start.open_files, start.scenarios[0].name)
        with files, running(start.peers, cores, behind=start.behind) as everyone:
            for scenario in start.scenarios:
                if contenders := [each for each in everyone if each.peer.takes_part_in(scenario.name)]:
                    samples += _rounds(contenders, scenario, plan, cores, progress, began)
    return samples
