"""argv → Config → event loop → Server; exit codes: 0 clean stop, 1 could not start, 2 bad usage or configuration."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Sequence
from typing import NoReturn

from lb import __version__
from lb.config import Config, ConfigError
from lb.config_flags import add_flags, flag_overrides
from lb.config_sources import LoadedConfig, describe, load_config
from lb.eventloop import LoopUnavailableError, new_event_loop, resolve_loop_name
from lb.listener import ListenError
from lb.logs import LogWriter, start_logging
from lb.recent_events import RecentEvents
from lb.server import Server, StartError

log = logging.getLogger(__name__)

_COMMANDS = ("run", "check", "demo", "why", "top")
_SPARE_DESCRIPTORS = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`; return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    command = arguments.pop(0) if arguments and arguments[0] in _COMMANDS else "run"
    try:
        if command == "demo":
            from lb.demo import run_demo

            return run_demo(arguments)
        if command == "why":
            from lb.why_command import run_why

            return run_why(arguments)
        if command == "top":
            from lb.top_command import run_top

            return run_top(arguments)
        loaded = _load(command, arguments)
        if command == "check":
            return _check(loaded)
        return _run(loaded.config)
    except (ConfigError, LoopUnavailableError) as error:
        return _fail(str(error), 2)
    except (StartError, ListenError) as error:
        return _fail(str(error), 1)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"podlb: {message}\n")
    return code


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; see podlb --help")


def _load(command: str, arguments: list[str]) -> LoadedConfig:
    parser = _Parser(
        prog=f"podlb {command}",
        usage="podlb [run | check | demo | why | top] [--config FILE] [--KEY VALUE ...]",
        description="Balance HTTP over endpoints. `check` prints the configuration in force; `demo` tries it out here; "
        "`why ID` tells why a request went as it did; `top` shows a running podlb.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"podlb {__version__}")
    parser.add_argument(
        "--config", metavar="FILE", help="the JSON file (default /etc/config/config.json if it is there)"
    )
    add_flags(parser)
    namespace, unknown = parser.parse_known_args(arguments)
    return load_config(flag_overrides(namespace, unknown), os.environ, namespace.config)


def _check(loaded: LoadedConfig) -> int:
    loop = resolve_loop_name(loaded.config.loop)
    rows = describe(loaded)
    width = max(len(key) for key, _, _ in rows)
    for key, value, origin in rows:
        sys.stdout.write(f"{key:<{width}}  {value}  ({origin})\n")
    sys.stdout.write(f"the configuration is valid; the loop will be {loop}\n")
    return 0


def _run(config: Config) -> int:
    loop = new_event_loop(config.loop)
    writer = start_logging(config.log_level)
    events = RecentEvents()
    logging.getLogger("lb").addHandler(events)
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(_serve(config, loop, writer, events))
    finally:
        logging.getLogger("lb").removeHandler(events)
        writer.close(1.0)
    return 0


async def _serve(config: Config, loop: asyncio.AbstractEventLoop, writer: LogWriter, events: RecentEvents) -> None:
    log.info("podlb %s, loop %s, parser %s", __version__, resolve_loop_name(config.loop), config.parser)
    server = Server(
        _fit_descriptors(config),
        loop,
        write_line=writer.write_line,
        dropped_lines=lambda: writer.dropped,
        recent_events=events.last,
    )
    loop.add_signal_handler(signal.SIGTERM, server.stop)
    loop.add_signal_handler(signal.SIGINT, lambda: server.stop(skip_delay=True))
    loop.add_signal_handler(signal.SIGHUP, server.reload)
    try:
        await server.start()
    except BaseException:
        await server.close()
        raise
    if not server.has_started:
        await server.close()
        return
    # What was made so far lives as long as the process: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()
    await server.run()


def _fit_descriptors(config: Config) -> Config:
    """Raise the limit of open files to fit maxConnections, or lower maxConnections to what fits, with a warning.

    Each client connection may need one to an endpoint as well. With clients accepted beyond that, none could be served.
    """
    needed = 2 * config.max_connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return config
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):
        limit = soft
    if limit >= needed:
        return config
    fits = max((limit - _SPARE_DESCRIPTORS) // 2, 1)
    log.warning(
        "the limit of open files is %d, which fits %d connections: maxConnections is that, not %d",
        limit,
        fits,
        config.max_connections,
    )
    return config.with_max_connections(fits)
