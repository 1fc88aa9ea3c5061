"""Drills: podlb loses nothing while pods are killed, rolled and scaled. See docs/drills.md.

python -m tests.drills              every drill, against the cluster that KUBECONFIG names
python -m tests.drills kill rude    these
python -m tests.drills --list       what there is, and what each may lose
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.drills import plays_faults, plays_pods
from tests.drills.cluster import BASE, TWO_NAMESPACES, Cluster
from tests.drills.deploy import cluster_of_our_own
from tests.drills.drivers import find_driver
from tests.drills.faults import Faults
from tests.drills.kubectl import DrillError, Kubectl, kubectl_program
from tests.drills.load import PATIENCE, RATE
from tests.drills.plays_pods import ELSEWHERE
from tests.drills.report import Bounds, Result, story, table
from tests.drills.stage import Drill, play

# The last one moves the backends to another namespace.
DRILLS = {drill.name: drill for drill in (*plays_pods.DRILLS, *plays_faults.DRILLS, ELSEWHERE)}
BACKENDS_ELSEWHERE = "podlb-backends"


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.drills",
        description="Load, faults, and a count of what was lost, on the cluster that KUBECONFIG names.",
        epilog="Exit codes: 0 every bound was kept, 1 one was not or a drill could not be run, 2 bad usage.",
    )
    parser.add_argument("drills", nargs="*", metavar="DRILL", help=f"default: all of {', '.join(DRILLS)}")
    parser.add_argument("--list", action="store_true", help="say what each does and may lose, and do nothing")
    parser.add_argument("--compare", action="store_true", help="each one also by the plain Service of the backends")
    parser.add_argument("--namespace", default="podlb", help="where podlb was deployed (podlb)")
    parser.add_argument("--context", help="the kube context (the current one)")
    parser.add_argument("--up", action="store_true", help="start the cluster of PODLB_CLUSTER and deploy to it first")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    arguments = parser.parse_args(argv)
    for name in arguments.drills:
        if name not in DRILLS:
            parser.error(f"no drill {name!r}; there are: {', '.join(DRILLS)}")
    return arguments


def _most(bound: int | None) -> str:
    return "any" if bound is None else str(bound)


def _allowed(bounds: Bounds) -> str:
    parts = [f"GET {_most(bounds.get)}", f"POST {_most(bounds.post)}"]
    if bounds.post_per_process is not None:
        parts[1] += f", {bounds.post_per_process} a process"
    if bounds.slow is not None:
        parts.append(f"{bounds.slow.share:.0%} over {bounds.slow.seconds:g} s")
    return ", ".join(parts)


def _list() -> None:
    for drill in DRILLS.values():
        needs = ", needs faults from below" if drill.needs_faults else ""
        print(f"{drill.name:15} {drill.title} (not 2xx at most: {_allowed(drill.bounds)}{needs})")


@contextmanager
def _elsewhere(cluster: Cluster) -> Iterator[Cluster]:
    """The backends in a namespace of their own; afterwards it is `deploy/base` again, whatever it was."""
    moved = Cluster(cluster.kubectl, cluster.namespace, BACKENDS_ELSEWHERE)
    try:
        cluster.apply(TWO_NAMESPACES)
        yield moved
    finally:
        cluster.apply(BASE)
        cluster.kubectl.run("delete", "namespace", BACKENDS_ELSEWHERE, "--ignore-not-found", seconds=120)


def _play(drill: Drill, cluster: Cluster, faults: Faults | None, *, is_compared: bool) -> list[Result]:
    print(f"{drill.name}: {drill.title}", file=sys.stderr, flush=True)
    if drill is ELSEWHERE:
        if cluster.namespace != "podlb":
            return [Result(drill.name, "podlb", skipped="deploy/overlays/two-namespaces is for the namespace podlb")]
        with _elsewhere(cluster) as moved:
            return [play(drill, moved, faults)]
    results = [play(drill, cluster, faults)]
    if is_compared and not drill.is_about_lb:
        results.append(play(drill, cluster, faults, is_plain=True))
    return results


def _raise_descriptor_limit() -> None:
    """Where nothing is answered, connections pile up: 200 a second for as long as a client is patient."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = int(RATE * PATIENCE) + 1024
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(
            resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
        )


def _run(arguments: argparse.Namespace) -> int:
    begun = time.monotonic()
    _raise_descriptor_limit()
    results: list[Result] = []
    with ExitStack() as stack:
        if arguments.up:
            stack.enter_context(cluster_of_our_own())
        kubectl = Kubectl(kubectl_program(), arguments.context)
        cluster = Cluster(kubectl, arguments.namespace)
        print(f"drills on {kubectl.server()}, namespace {cluster.namespace}", file=sys.stderr)
        cluster.require()
        driver = find_driver(kubectl)
        faults = None if driver is None else Faults(driver, kubectl)
        stack.callback(cluster.restore_backends, cluster.config_map())
        for name in arguments.drills or DRILLS:
            for result in _play(DRILLS[name], cluster, faults, is_compared=arguments.compare):
                print(story(result), file=sys.stderr, flush=True)
                results.append(result)
    print(table(results))
    print(f"\n{len(results)} in {time.monotonic() - begun:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(result) for result in results], indent=1) + "\n")
    return exit_code(results, is_ci=os.environ.get("CI") == "true")


def exit_code(results: Sequence[Result], *, is_ci: bool) -> int:
    """1 for a bound that podlb did not keep, and in CI also for a drill that was skipped.

    What the plain Service loses is there to compare.
    """
    ours = [result for result in results if result.via == "podlb"]
    return int(any(not result.is_good or (is_ci and result.skipped) for result in ours))


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    arguments = _parse(argv)
    if arguments.list:
        _list()
        return 0
    # As an exception, so that what was paused, killed or started is put right.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return _run(arguments)
    except DrillError as error:
        print(f"drills: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drills: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
