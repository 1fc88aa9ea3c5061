"""The whole path of a small GET, from the client's bytes to the response's, without sockets.

`python -m bench.micro.hot_path` (pyperf's options apply, `--fast` for a first look).
"""

from __future__ import annotations

import pyperf

from bench.micro.fixtures import SMALL, HotPath, browser_heads

_HEADS = browser_heads(4096)


def _same(loops: int, parser: str) -> float:
    path = HotPath(parser=parser)
    exchange = path.exchange
    start = pyperf.perf_counter()
    for _ in range(loops):
        exchange(SMALL)
    elapsed = pyperf.perf_counter() - start
    path.close()
    return float(elapsed)


def _browser(loops: int, parser: str) -> float:
    path = HotPath(parser=parser)
    exchange = path.exchange
    heads = (_HEADS * (loops // len(_HEADS) + 1))[:loops]
    start = pyperf.perf_counter()
    for head in heads:
        exchange(head)
    elapsed = pyperf.perf_counter() - start
    path.close()
    return float(elapsed)


def main() -> None:
    runner = pyperf.Runner(program_args=("-m", "bench.micro.hot_path"))
    for parser in ("auto", "h11"):
        runner.bench_time_func(f"same head, parser {parser}", _same, parser)
        runner.bench_time_func(f"browser heads that all differ, parser {parser}", _browser, parser)


if __name__ == "__main__":
    main()
