"""The configuration in force: every key, its type, its range, its default and the reason for it.

`Config` is a frozen value. `config_sources` builds it from flags, environment, file and defaults; `config_checks`
holds the rules between keys and the keys whose work is not built yet. A JSON key is the camelCase form of the
attribute (`connectTimeout`), a variable `PODLB_CONNECT_TIMEOUT`, a flag `--connect-timeout`.

Every description in a `Meta` below completes the sentence "… is not …" of an error message.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import Meta


class ConfigError(Exception):
    """The configuration can't be used. One line: what is wrong, where, and what to do."""

    def __init__(self, message: str) -> None:
        # A path or a value may hold anything; the message is still one line that a terminal shows as it is.
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


# One day bounds every time: a longer one is a slip (milliseconds for seconds), not a wish.
Seconds = Annotated[float, Meta(gt=0, le=86400, description="a number of seconds above 0, at most 86400, without unit")]
SecondsOrZero = Annotated[float, Meta(ge=0, le=86400, description="a number of seconds from 0 to 86400, without unit")]
ListenHost = Annotated[
    str,
    Meta(
        pattern=r"^[0-9A-Za-z_:.%-]+\Z",
        description="an address or a name to listen on, such as 0.0.0.0, :: or localhost (no brackets, no port)",
    ),
]
ListenPort = Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535 (0: any free one)")]
SidePort = Annotated[int, Meta(ge=0, le=65535, description="a port from 0 to 65535 (0 or null: off)")] | None
DialPort = Annotated[int, Meta(ge=1, le=65535, description="a port from 1 to 65535")]
PortName = Annotated[
    str,
    Meta(
        pattern=r"^(?=.{1,15}\Z)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*\Z",
        description="the name of a Service's port (RFC 6335)",
    ),
]
Text = Annotated[str, Meta(min_length=1, description="a text that is not empty")]
Path = Annotated[str, Meta(min_length=1, pattern=r"^[^\0]+\Z", description="the path of a file")]


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """Everything that can be set. Times are seconds, sizes bytes; the comment under a key is its reason."""

    host: ListenHost = "0.0.0.0"
    port: ListenPort = 8080
    backlog: Annotated[int, Meta(ge=1, le=65535, description="a whole number from 1 to 65535")] = 4096
    # As many as a burst of new clients may queue while one callback runs; the kernel cuts it to net.core.somaxconn.
    mode: Literal["http", "tcp"] = "http"

    admin_host: ListenHost = "127.0.0.1"
    # The admin port shows addresses and will change state: for people on this machine.
    admin_port: SidePort = 8081
    probe_host: ListenHost = "0.0.0.0"
    # kubelet and Prometheus dial the pod's address, so this one listens on all of them and says little.
    probe_port: SidePort = None

    discovery: Literal["static", "file", "kubernetes"] | None = None
    # None: inferred from the keys that are set (see config_checks); never None in a loaded configuration.
    backends: tuple[str, ...] = ()
    backends_file: Path | None = None
    backend_service_name: Text = "backend-service"
    namespace: Text | None = None
    backend_port: DialPort | PortName = 8080
    # Also the port of an entry of `backends` that names none.
    kubeconfig: Path | None = None
    endpoints_api: Literal["endpointslices", "endpoints"] = "endpointslices"

    policy: Text = "round_robin"
    loop: Literal["auto", "epoll", "uvloop", "asyncio"] = "auto"
    parser: Literal["auto", "h11"] = "auto"

    connect_timeout: Seconds = 1.0
    # A connect in one cluster takes about 1 ms; the kernel repeats a lost SYN after 1 s, the next endpoint is sooner.
    request_head_timeout: Seconds = 10.0
    # From accept, or a head's first byte, to its end: a slow honest client needs well under 10 s for 32 KiB, and a
    # client that drips bytes to hold a connection is let go (nginx: 60 s, HAProxy's advice: 5 to 10 s).
    idle_timeout: Seconds = 75.0
    # Between requests; as in nginx, and longer than the 60 s after which common balancers in front let go, so that
    # they close first.
    body_idle_timeout: Seconds = 60.0
    # Without any progress of a body, in either direction; a reader that stands still counts.
    tunnel_idle_timeout: Seconds = 3600.0
    # A web socket may rightly be silent for long; an hour frees what a vanished peer left behind.
    response_timeout: Seconds = 60.0
    # Per attempt, from the request's last byte to the response head: as long as nginx's proxy_read_timeout.
    upstream_idle_timeout: Seconds = 4.0
    # Below the 5 s after which Node, uvicorn and Apache close: we must be first, or a request meets a closing server.
    max_idle_per_endpoint: Annotated[int, Meta(ge=0, le=1_000_000, description="a whole number from 0 to 1000000")] = (
        256
    )
    # Enough for the concurrency of one endpoint at our speed, and a bound on its memory for connections.

    endpoint_wait: SecondsOrZero = 3.0
    # Long enough for a pod to be replaced or to come back, short enough for a person to wait.
    max_waiting: Annotated[int, Meta(ge=0, le=1_000_000, description="a whole number from 0 to 1000000")] = 1024
    # Each waiting request holds a connection and its head; beyond this many, 503 at once is kinder.
    drain_delay: SecondsOrZero = 0.0
    # Off a cluster nobody has to notice; manifests set 10, the time that kube-proxy and balancers need to notice.
    drain_timeout: SecondsOrZero = 25.0
    # Fits, without delay, into Kubernetes' default grace period of 30 s.

    max_request_head_bytes: Annotated[
        int, Meta(ge=256, le=1_048_576, description="a number of bytes from 256 to 1048576")
    ] = 32768
    # Browsers with many cookies send up to 16 KiB; nginx stops at 32 KiB as well.
    max_request_target_bytes: Annotated[
        int, Meta(ge=16, le=1_048_576, description="a number of bytes from 16 to 1048576")
    ] = 8192
    # RFC 9112, section 3, asks for at least 8000.
    max_header_fields: Annotated[int, Meta(ge=1, le=10_000, description="a whole number from 1 to 10000")] = 100
    # As in Apache, HAProxy and Tomcat; a browser sends about 20.
    max_request_body_bytes: Annotated[int, Meta(ge=0, le=2**50, description="a number of bytes (0: any)")] = 0
    # Bodies stream through bounded buffers, so their size costs podlb nothing; the endpoint knows what it takes.
    max_connections: Annotated[int, Meta(ge=1, le=1_000_000, description="a whole number from 1 to 1000000")] = 10000
    # Downstream. Each costs memory and, while active, a second descriptor: a bound that a small pod survives.

    retries: Annotated[int, Meta(ge=0, le=100, description="a whole number from 0 to 100")] = 2
    # Attempts after bytes were written; more would turn an overload into a storm.
    retry_on: tuple[Literal["connect", "reset", "503", "timeout"], ...] = ("connect", "reset")
    retry_body_limit: Annotated[int, Meta(ge=0, le=67_108_864, description="a number of bytes from 0 to 67108864")] = (
        65536
    )
    # Held per request in flight until its response begins: 10000 of them stay below 640 MiB even at worst.
    allowed_upgrades: tuple[Text, ...] = ("websocket",)
    # Behind a 101 podlb sees raw bytes: only what can't carry requests past its rules.
    trusted_proxies: tuple[Text, ...] = ()
    # Nobody's word is taken for a client's address unless somebody says whose.

    startup_timeout: Seconds = 10.0
    # Discovery takes well under 1 s; a pod that is not ready after 10 s should say why.
    snapshot_file: Path | None = None
    snapshot_max_age: Seconds = 3600.0
    panic: bool = True
    abort_on_client_fin: bool = True

    endpoint_histograms: Literal["auto", "on", "off"] = "auto"
    # Auto: up to 100 endpoints. Each has 31 time series in Prometheus, and takes 2.3 KiB here.
    tracing: bool = False
    log_level: Literal["debug", "info", "warn", "error"] = "info"
    access_log: Literal["off", "text", "json"] = "off"
    # A line per request costs about as much as the request.
    access_log_sample: Annotated[float, Meta(ge=0, le=1, description="a share from 0 to 1")] = 1.0

    @property
    def default_backend_port(self) -> int:
        """The port of a backend that is written without one. A port's name never gets past `config_checks` here."""
        assert isinstance(self.backend_port, int)
        return self.backend_port

    def with_max_connections(self, limit: int) -> Config:
        """Return the same configuration with another `maxConnections`."""
        return msgspec.structs.replace(self, max_connections=limit)

    @property
    def upgrades(self) -> frozenset[bytes]:
        """The protocols, in lower case, that a connection may be switched to."""
        return frozenset(name.lower().encode() for name in self.allowed_upgrades)

    def trusted_networks(self) -> tuple[Network, ...]:
        """Return `trustedProxies`, parsed. Raise ValueError with a sentence about the first that is wrong."""
        return tuple(_parse_network(text) for text in self.trusted_proxies)

    def static_backends(self) -> tuple[Backend, ...]:
        """Return `backends`, parsed. Raise BackendError as `parse_backends` does."""
        return parse_backends(self.backends, self.default_backend_port)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _parse_network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        shown = ascii(text[:80])[1:-1]
        if "host bits" in str(error):
            network = ipaddress.ip_network(text, strict=False)
            raise ValueError(f"{shown}: bits are set behind the prefix: write {network} for the network") from None
        raise ValueError(f"{shown}: neither an address nor a network such as 10.0.0.0/8 or fd00::/8") from None


class Backend(NamedTuple):
    """A configured target: an IP address (IPv6 without brackets) or a name, and a port."""

    host: str
    port: int

    @property
    def is_literal(self) -> bool:
        """Whether `host` is an IP address, which needs no name resolution."""
        return ":" in self.host or _is_ipv4(self.host)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


# Letters, digits, hyphens, and the underscores that some service names have. An all-digit last label would be read
# by the C library as an old form of IPv4 address (`127.1`), so it must be a whole one.
_NAME = re.compile(r"(?=.{1,253}\Z)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_-]{1,63}\.?")
_LIKE_IPV4 = re.compile(r"(?:.*\.)?(?:[0-9]+|0[xX][0-9A-Fa-f]*)\.?")
_PORT = re.compile(r"[0-9]{1,5}")


class BackendError(ValueError):
    """An entry of a list of backends is wrong. `number` counts from 1."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(f"entry {number}: {reason}")
        self.number = number


def parse_backends(texts: Sequence[str], default_port: int) -> tuple[Backend, ...]:
    """Parse all of `texts`; none may be there twice. Raise BackendError for the first that is wrong."""
    seen: dict[tuple[str, int], int] = {}
    backends = []
    for number, text in enumerate(texts, 1):
        try:
            backend = parse_backend(text, default_port)
        except ValueError as exc:
            raise BackendError(number, str(exc)) from None
        identity = (backend.host.rstrip(".").lower(), backend.port)
        first = seen.setdefault(identity, number)
        if first != number:
            raise BackendError(number, f"{backend} is there already as entry {first}: remove one")
        backends.append(backend)
    return tuple(backends)


def parse_backend(text: str, default_port: int) -> Backend:
    """Parse `host:port`, `[v6]:port`, `name:port`, or one of them without the port, which is then `default_port`.

    Raise ValueError with a sentence that says what is wrong with `text` and how to write it.
    """
    shown = ascii(text.rpartition("@")[2][:80])[1:-1]  # what stands before an @ may be a password
    if not text.strip():
        raise ValueError('it is empty: write "host:port" or remove it')
    scheme, separator, _ = text.partition("://")
    if separator:
        raise ValueError(f'{shown}: remove "{ascii(scheme[:20])[1:-1]}://": only host:port belongs here')
    if not text.isascii():
        raise ValueError(f"{shown}: only ASCII: write an international name in its xn-- form")
    if any(character in text for character in "/?#@ \t\r\n"):
        raise ValueError(f"{shown}: only host:port belongs here: no path, user or space")
    host, port_text = _split_port(text, shown)
    port = default_port if port_text is None else _parse_port(port_text, shown)
    return Backend(host, port)


def _split_port(text: str, shown: str) -> tuple[str, str | None]:
    if text.startswith("["):
        inner, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"{shown}: write an IPv6 address as [::1]:8080")
        return _parse_ipv6(inner, shown), rest[1:] if rest else None
    if text.count(":") > 1:
        raise ValueError(f"{shown}: put an IPv6 address in brackets, as in [::1]:8080")
    host, colon, port_text = text.partition(":")
    if _LIKE_IPV4.fullmatch(host):
        return _parse_ipv4(host, shown), port_text if colon else None
    if not _NAME.fullmatch(host):
        raise ValueError(f"{shown}: {'the host is missing' if not host else 'not a host name or address'}")
    return host, port_text if colon else None


def _parse_port(text: str, shown: str) -> int:
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise ValueError(f"{shown}: the port must be a number from 1 to 65535")
    return int(text)


def _parse_ipv4(text: str, shown: str) -> str:
    if not _is_ipv4(text):
        raise ValueError(f"{shown}: not an IPv4 address: four numbers from 0 to 255, as in 10.0.0.1")
    return _check_dialable(ipaddress.IPv4Address(text), shown)


def _parse_ipv6(text: str, shown: str) -> str:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError(f"{shown}: not an IPv6 address between the brackets") from None
    if address.scope_id is not None:
        raise ValueError(f"{shown}: an address with a zone (%) can't be dialled from everywhere: use another")
    return _check_dialable(address, shown)


def _check_dialable(address: ipaddress.IPv4Address | ipaddress.IPv6Address, shown: str) -> str:
    if address.is_unspecified:
        raise ValueError(f"{shown}: means any address, which can't be dialled: name one, such as 127.0.0.1")
    if address.is_multicast or str(address) == "255.255.255.255":
        raise ValueError(f"{shown}: a multicast or broadcast address can't be dialled: name one machine's")
    return str(address)


def _is_ipv4(text: str) -> bool:
    try:
        ipaddress.IPv4Address(text)
    except ValueError:
        return False
    return True
