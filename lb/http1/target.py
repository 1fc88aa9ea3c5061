"""Which host and which path a request is for (RFC 9112, section 3.2; RFC 9110, section 7.2; RFC 3986)."""

from __future__ import annotations

import ipaddress
import re

from lb.http1.message import MessageError, RequestHead

# RFC 3986, section 3.2.2: reg-name or IPv4address, or IP-literal; then an optional port.
_AUTHORITY = re.compile(
    rb"(?:\[(?:(?P<v6>[0-9A-Fa-f:.]{2,45})|[vV][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+)\]"
    rb"|(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+)(?::(?P<port>[0-9]{0,5}))?"
)
_ABSOLUTE_FORM = re.compile(rb"(?i:http)://([^/?#]*)([^#]*)")

_REMEMBERED_HOSTS = 512
# A DNS name has at most 253 characters: what is longer is nobody's, and would cost memory.
_REMEMBERED_HOST_BYTES = 260

_host_lines_seen: dict[bytes, tuple[bytes, bytes]] = {}


def host_lines(host: bytes) -> tuple[bytes, bytes]:
    """Return the lines Host and X-Forwarded-Host. Raises MessageError for an invalid host.

    Remembers valid ones: checking costs 1 µs, and a service has few names.
    """
    lines = _host_lines_seen.get(host)
    if lines is None:
        if not _is_authority(host):
            raise MessageError(400, "host", "Host is not a valid host and port")
        lines = (b"Host: %b\r\n" % host, b"X-Forwarded-Host: %b\r\n" % host)
        if len(host) <= _REMEMBERED_HOST_BYTES:
            if len(_host_lines_seen) >= _REMEMBERED_HOSTS:
                _host_lines_seen.clear()
            _host_lines_seen[host] = lines
    return lines


def _is_authority(host: bytes) -> bool:
    match = _AUTHORITY.fullmatch(host)
    if match is None or (match["port"] and int(match["port"]) > 65535):
        return False
    if match["v6"]:
        try:
            ipaddress.IPv6Address(match["v6"].decode())
        except ValueError:
            return False
    return True


def host_and_path(head: RequestHead, host: bytes | None) -> tuple[bytes | None, bytes]:
    """Return host and target of a request whose target does not begin with a slash.

    `host` is what its Host field says. Raises MessageError.
    """
    if head.target == b"*" and head.method == b"OPTIONS":
        return host, head.target
    match = _ABSOLUTE_FORM.fullmatch(head.target)
    if match is None or not match[1]:
        raise MessageError(400, "target", "the request target is neither a path nor an http:// address")
    if host:
        # It is replaced; but an invalid one is refused whatever it is good for (RFC 9112, section 3.2).
        host_lines(host)
    target = match[2]
    if not target:
        target = b"*" if head.method == b"OPTIONS" else b"/"
    elif target.startswith(b"?"):
        target = b"/" + target
    # RFC 9112, section 3.2.2: the authority replaces the received Host.
    return match[1], target
