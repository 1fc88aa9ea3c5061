"""Two podlbs in turn: what a change, or a setting, costs.

python -m bench.pairs ../before .                     another checkout against this one
python -m bench.pairs . '. --access-log json'         the same with other settings

Both run side by side; in each round both are measured under the same load, the first of them in turn. The second's CPU
time per request over the first's is given as the median of the rounds, with its 95 % interval.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace

from bench.load import SCENARIOS
from bench.measure import Plan, Sample, run
from bench.peers.peer import TCP, Peer, Setting
from bench.peers.podlb import podlb
from bench.proc import BenchError, choose_cores
from bench.stats import Interval, bootstrap, ratios_by_pair


def side(name: str, words: str) -> Peer:
    """A podlb of the checkout that `words` begins with; what follows are further flags."""
    directory, *flags = shlex.split(words)
    plain = podlb(name, "epoll", "auto")

    def argv(setting: Setting) -> list[str]:
        return ["env", "-C", directory, *plain.argv(setting), *flags]

    return replace(plain, argv=argv)


def ratio(samples: Sequence[Sample]) -> Interval:
    """CPU time per request of `after` over that of `before`, round by round. BenchError if a request failed."""
    if failed := sum(sample.failed for sample in samples):
        raise BenchError(f"{failed} requests failed: nothing can be said of the cost of the others")
    costs: dict[str, dict[int, float]] = {"before": {}, "after": {}}
    for sample in samples:
        assert sample.cpu_us is not None
        costs[sample.peer][sample.turn] = sample.cpu_us
    return bootstrap(ratios_by_pair(costs["after"], costs["before"]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the ratio, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("before", help="a checkout, and further flags of podlb")
    parser.add_argument("after", help="the same")
    parser.add_argument("--pairs", type=int, default=21)
    parser.add_argument("--seconds", type=int, default=5, help="of load for each, whole (default %(default)s)")
    parser.add_argument("--scenario", default="small", choices=[name for name in SCENARIOS if name != TCP])
    options = parser.parse_args(arguments)
    scenario = SCENARIOS[options.scenario]
    peers = [side("before", options.before), side("after", options.after)]
    try:
        samples = run(peers, Plan([scenario], options.pairs, options.seconds), choose_cores(), print)
        found = ratio(samples)
    except BenchError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(
        f"CPU per request, after / before: {found.median:.3f} ({found.low:.3f} to {found.high:.3f}), "
        f"{options.pairs} pairs of {options.seconds} s, {scenario.name}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
