"""A command-line flag for each key: `--max-connections N`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lb.config import ConfigError
from lb.config_sources import KEYS, suggest

if TYPE_CHECKING:
    import argparse

HELP: dict[str, str] = {
    "host": "address to listen on; :: is both families",
    "port": "port for clients; 0 is any free one",
    "backlog": "connections that may queue to be accepted",
    "mode": "http, or tcp: whole connections",
    "adminHost": "address of the admin port",
    "adminPort": "port of /endpoints, /metrics and the probes, for this machine; 0 is off",
    "probeHost": "address of the probe port",
    "probePort": "port of /livez, /readyz and /metrics, for kubelet and Prometheus; 0 is off",
    "discovery": "static, file or kubernetes; inferred from the keys that are set",
    "backends": "host:port,host:port,…",
    "backendsFile": "path of a JSON list of host:port; read again when it changes",
    "backendServiceName": "the Kubernetes Service to balance",
    "namespace": "the Service's namespace",
    "backendPort": "port of the endpoints, or its name in a Service; also of a backend that is written without one",
    "kubeconfig": "path of a kubeconfig",
    "endpointsApi": "endpointslices or endpoints",
    "policy": "round_robin (others are not built yet)",
    "loop": "auto, epoll (our own, Linux), uvloop or asyncio",
    "parser": "auto, or h11 for every head",
    "connectTimeout": "seconds per connect",
    "requestHeadTimeout": "seconds for a request's head to arrive",
    "idleTimeout": "seconds between requests",
    "bodyIdleTimeout": "seconds without progress of a body",
    "tunnelIdleTimeout": "seconds without a byte in a tunnel",
    "responseTimeout": "seconds per attempt from the request's end to the response's head",
    "upstreamIdleTimeout": "seconds that an idle connection to an endpoint is kept",
    "maxIdlePerEndpoint": "idle connections that are kept for an endpoint",
    "endpointWait": "seconds that a request may wait while no endpoint can be reached",
    "maxWaiting": "requests that may wait so; beyond that 503 at once",
    "drainDelay": "seconds that SIGTERM leaves podlb accepting while it says that it is not ready",
    "drainTimeout": "seconds to finish what is in flight after that",
    "maxRequestHeadBytes": "bytes of a request's head; beyond that 431",
    "maxRequestTargetBytes": "bytes of a request's target; beyond that 414",
    "maxHeaderFields": "fields of a request's head; beyond that 431",
    "maxRequestBodyBytes": "bytes of a request's body; beyond that 413; 0 is any",
    "maxConnections": "connections of clients at a time",
    "retries": "further attempts after bytes were written",
    "retryOn": "connect,reset,503,timeout, or some of them",
    "retryBodyLimit": "bytes of a request's body that are kept for a retry",
    "allowedUpgrades": "protocols that may be upgraded to",
    "trustedProxies": "networks whose X-Forwarded fields are believed",
    "startupTimeout": "seconds for discovery to find the endpoints",
    "snapshotFile": "path of the last snapshot",
    "snapshotMaxAge": "seconds that a snapshot may be old",
    "panic": "true: when no endpoint is ready, use those that were",
    "abortOnClientFin": "true: a client's FIN before its response counts as gone; false: as a half-close",
    "endpointHistograms": "histograms per endpoint: auto (up to 100 endpoints), on or off",
    "tracing": "on: begin a trace (traceparent) where a request has none",
    "logLevel": "debug, info, warn or error",
    "accessLog": "a line for each request: off, text or json",
    "accessLogSample": "share of requests in the access log, from 0 to 1",
}
"""What --help says of each key."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Add a flag for each key to `parser`.

    What is given is stored as text under the key's JSON name; what is not given is absent from the namespace. A list
    may be given in parts (`--backends a:1 --backends b:1`); any other flag twice is a usage error. Give the parser
    `allow_abbrev=False`, or `--retrie` would quietly mean `--retries`.
    """
    import argparse

    class StoreOnce(argparse.Action):
        def __call__(
            self,
            parser: argparse.ArgumentParser,
            namespace: argparse.Namespace,
            values: str | Sequence[Any] | None,
            option_string: str | None = None,
        ) -> None:
            earlier = getattr(namespace, self.dest, None)
            if earlier is not None and not KEYS[self.dest].takes_list:
                parser.error(f"{option_string} is given twice: remove one")
            setattr(namespace, self.dest, values if earlier is None else f"{earlier},{values}")

    group = parser.add_argument_group(
        "configuration", 'each also a key of the JSON file and a variable: --port is PODLB_PORT and {"port": 8080}'
    )
    for key in KEYS.values():
        default = "" if key.default in (None, ()) else f" (default {_text(key.default)})"
        group.add_argument(
            key.flag,
            dest=key.name,
            action=StoreOnce,
            metavar=_metavar(key.default, takes_list=key.takes_list),
            default=argparse.SUPPRESS,
            help=(HELP[key.name] + default).replace("%", "%%"),
        )


def flag_overrides(namespace: argparse.Namespace, unknown: Sequence[str] = ()) -> dict[str, str]:
    """Return the flags given, by JSON name, for `load_config`.

    `unknown` is what `parse_known_args` did not understand: anything there raises ConfigError with the nearest flag.
    """
    if unknown:
        flag = unknown[0].partition("=")[0]
        if not flag.startswith("--"):
            raise ConfigError(f"{flag!a} is not understood: only flags such as --port 8080 belong here")
        raise ConfigError(f"{ascii(flag)[1:-1]} is not a known flag{suggest(flag, (k.flag for k in KEYS.values()))}")
    return {name: value for name, value in vars(namespace).items() if name in KEYS}


def _text(default: Any) -> str:
    if isinstance(default, tuple):
        return ",".join(default)
    return str(default).lower() if isinstance(default, bool) else f"{default}"


def _metavar(default: Any, *, takes_list: bool) -> str:
    if takes_list:
        return "LIST"
    if isinstance(default, bool):
        return "BOOL"
    return "N" if isinstance(default, int | float) else "TEXT"
