"""The command line of the demo server: `python -m backend`, or `podlb-backend`.

Exit codes: 0 a clean stop, 1 could not start or was ended, 2 bad usage or configuration. A mistake of the user is one
line on stderr that says what is wrong and what to do.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, get_args

from backend import config, logs
from backend.app import App
from backend.process import ListenError, Process

PROGRAM = "podlb-backend"


class _Parser(argparse.ArgumentParser):
    """Tells a mistake in one line, without the usage above it."""

    def error(self, message: str) -> NoReturn:
        raise config.ConfigError(f"{message}; see {PROGRAM} --help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until a signal ends it, and return the exit code."""
    try:
        settings = _settings(sys.argv[1:] if arguments is None else arguments)
        logs.set_up()
        identity = config.identity_from(os.environ, socket.gethostname(), settings.service_name)
        return asyncio.run(Process(settings, App(identity, random.random)).run())
    except config.ConfigError as error:
        return _fail(2, error)
    except ListenError as error:
        return _fail(1, error)


def _settings(arguments: Sequence[str]) -> config.Config:
    parser = _Parser(
        prog=PROGRAM,
        description="A demo server that says who it is, carries artificial load and misbehaves on request.",
        epilog=f"Flags go before the configuration file, a JSON object with the keys {', '.join(config.KEYS)}.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--config", type=Path, default=None, metavar="FILE", help=f"default: {config.DEFAULT_FILE} if there"
    )
    parser.add_argument("--host", help="address to listen on; :: is both families (default: 0.0.0.0)")
    parser.add_argument("--port", type=int, help="port to listen on; 0: any free one, see the log (default: 8080)")
    parser.add_argument("--service-name", dest="serviceName", metavar="NAME", help="told in replies (default: backend)")
    parser.add_argument(
        "--drain-delay", dest="drainDelay", type=float, metavar="SECONDS", help="serving on after SIGTERM (default: 0)"
    )
    parser.add_argument(
        "--on-sigterm", dest="onSigterm", choices=get_args(config.OnSigterm), help="exit: gone at once (default: drain)"
    )
    parser.add_argument("--log-requests", dest="logRequests", action="store_true", help="log each request head")
    flags, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = tuple(config.flag_name(key) for key in ("config", *config.KEYS))
        near = config.nearest(unknown[0].partition("=")[0], known)
        parser.error(f"unknown argument {unknown[0]}, the nearest is {near} (known: {', '.join(known)})")
    values = vars(flags)
    return config.load(values.pop("config"), values)


def _fail(code: int, error: Exception) -> int:
    sys.stderr.write(f"{PROGRAM}: error: {error}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
