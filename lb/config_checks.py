"""The rules between keys, and the keys whose work is not built yet.

A key is never ignored: what this version can't do is refused with the reason. Its default is always accepted.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from typing import Literal

from lb.config import BackendError, Config, ConfigError

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")

Discovery = Literal["static", "file", "kubernetes"]

# Protocols in which requests would follow that nobody reads.
_OTHER_HTTP = frozenset({"h2", "h2c", "http", "tls"})

# RFC 4291, section 2.5.5.2.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


NOT_BUILT: dict[str, str] = {
    "policy": "this version has round_robin only",
}

_DEFAULTS = Config()


def settle(config: Config, places: Mapping[str, str]) -> Discovery:
    """Check the rules between keys and return the discovery that is named or, if none is, follows from the others.

    `places` says, by key, where a value that is not a default comes from ("--port", "PODLB_PORT"). Raise ConfigError.
    """
    _refuse_what_is_not_built(config, places)
    discovery = _settle_discovery(config, places)
    _check_port_name(config, places, discovery)
    _check_backends(config, places, discovery)
    _check_ports(config, places)
    _check_upgrades(config, places)
    _check_trusted(config, places)
    return discovery


def show(value: object, limit: int = 60) -> str:
    """Return `value` as JSON on one line of ASCII, cut at `limit` characters."""
    text = json.dumps(value, default=str)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _refuse_what_is_not_built(config: Config, places: Mapping[str, str]) -> None:
    for key, attribute in zip(Config.__struct_encode_fields__, Config.__struct_fields__, strict=True):
        if key not in places or key not in NOT_BUILT:
            continue
        value, default = getattr(config, attribute), getattr(_DEFAULTS, attribute)
        if value == default:
            continue
        raise ConfigError(
            f"{places[key]}: {show(value)} is not built yet ({NOT_BUILT[key]}): remove it or set it to {show(default)}"
        )


def _settle_discovery(config: Config, places: Mapping[str, str]) -> Discovery:
    has_static, has_file = "backends" in places, config.backends_file is not None
    match config.discovery:
        case "static" if not has_static:
            raise ConfigError(f'{places["discovery"]}: "static" needs backends: set a list of "host:port"')
        case "file" if not has_file:
            raise ConfigError(f'{places["discovery"]}: "file" needs backendsFile: set the path of a JSON list')
        case "static" | "file" | "kubernetes":
            return config.discovery
    if has_static and has_file:
        raise ConfigError(
            f"{places['backends']} and {places['backendsFile']} are both set: "
            "remove one, or set discovery to static or file"
        )
    if has_static or has_file:
        # Also beside a backendServiceName: so the file of a deployment can be tried out with other endpoints.
        return "static" if has_static else "file"
    return "kubernetes"


def _check_port_name(config: Config, places: Mapping[str, str], discovery: Discovery) -> None:
    if discovery != "kubernetes" and not isinstance(config.backend_port, int):
        raise ConfigError(
            f"{places['backendPort']}: {show(config.backend_port)} is a port's name, which only Kubernetes knows: "
            "write its number"
        )


def _check_backends(config: Config, places: Mapping[str, str], discovery: Discovery) -> None:
    if "backends" not in places:
        return
    try:
        backends = config.static_backends()
    except BackendError as exc:
        raise ConfigError(f"{places['backends']}: {exc}") from None
    if discovery != "static":
        return
    if not backends:
        raise ConfigError(f'{places["backends"]}: the list is empty: name at least one "host:port"')
    for backend in backends:
        if backend.port == config.port and _is_own(backend.host, config.host):
            raise ConfigError(
                f"{places['backends']}: {backend} is where podlb itself listens, requests would go in circles: "
                "change it, or set another port"
            )


def _check_ports(config: Config, places: Mapping[str, str]) -> None:
    listeners = [
        ("port", config.host, config.port),
        ("adminPort", config.admin_host, config.admin_port),
        ("probePort", config.probe_host, config.probe_port),
    ]
    for index, (key, host, port) in enumerate(listeners):
        for other_key, other_host, other_port in listeners[:index]:
            if port and port == other_port and _overlap(host, other_host):
                place = places.get(key) or places.get(other_key) or key
                raise ConfigError(f"{place}: {other_key} and {key} are both {port}: give each a port of its own")


def _check_upgrades(config: Config, places: Mapping[str, str]) -> None:
    for number, name in enumerate(config.allowed_upgrades, 1):
        # With a version as well: what is wrong with "HTTP/2.0" is not its spelling.
        if name.partition("/")[0].lower() in _OTHER_HTTP:
            raise ConfigError(
                f"{places['allowedUpgrades']}: entry {number}: {show(name)} would carry requests past every rule of "
                'podlb: remove it, or balance whole connections with mode "tcp"'
            )
        if not _TOKEN.fullmatch(name):
            raise ConfigError(
                f"{places['allowedUpgrades']}: entry {number}: {show(name)} is not the name of a protocol, "
                'such as "websocket" (no version)'
            )


def _check_trusted(config: Config, places: Mapping[str, str]) -> None:
    try:
        networks = config.trusted_networks()
    except ValueError as exc:
        raise ConfigError(f"{places['trustedProxies']}: {exc}") from None
    for text, network in zip(config.trusted_proxies, networks, strict=True):
        if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
            # IPv4 clients are known by their own addresses, also on a listener for both families.
            first = network.network_address.ipv4_mapped
            raise ConfigError(
                f"{places['trustedProxies']}: {text}: no client has such an address: "
                f"write {first}/{network.prefixlen - 96} for the network"
            )


def _overlap(host: str, other: str) -> bool:
    """Whether two listeners on one port would clash: `::` listens on both families, `0.0.0.0` on one."""
    if "::" in (host, other) or host == other:
        return True
    return "0.0.0.0" in (host, other) and ":" not in host + other


def _is_own(host: str, listen_host: str) -> bool:
    if host == listen_host:
        return True
    if host.lower() == "localhost":
        return _overlap("127.0.0.1", listen_host)
    try:
        return ipaddress.ip_address(host).is_loopback and _overlap(host, listen_host)
    except ValueError:
        return False
