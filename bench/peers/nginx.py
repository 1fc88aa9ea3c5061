"""nginx with one worker, as a contender and as the backend behind every contender."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.peers.peer import WEBSOCKET_PATH, Peer, Setting
from bench.proc import HOST

INSTALL = "apt install nginx-light (Debian, Ubuntu) or brew install nginx (macOS)"

_NEVER = 1_000_000_000  # nginx closes a connection after so many requests; the others never do

_CONNECTIONS = 4096

_COMMON = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections {connections};
}}
http {{
    access_log off;
    default_type text/plain;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{http}}}
"""


def configuration(setting: Setting) -> str:
    """nginx.conf of the contender."""
    servers = "\n".join(f"        server {address};" for address in setting.backends)
    # A body of 16 KiB does not fit into the default buffer and goes through a file, at two to three times the cost.
    # The connections kept are those to all endpoints together.
    kept = max(256, 4 * len(setting.backends))
    http = f"""\
    upstream endpoints {{
{servers}
        keepalive {kept};
        keepalive_requests {_NEVER};
    }}
    server {{
        listen {HOST}:{setting.port} backlog=4096;
        keepalive_requests {_NEVER};
        client_body_buffer_size 32k;
        location / {{
            proxy_pass http://endpoints;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
        location = {WEBSOCKET_PATH} {{
            proxy_pass http://endpoints;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection "upgrade";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_read_timeout 1h;
        }}
    }}
"""
    # When less than a sixteenth of them is free, nginx closes idle ones.
    connections = max(_CONNECTIONS, setting.connections * 5 // 4)
    return _COMMON.format(connections=connections, directory=setting.directory, http=http)


@dataclass(frozen=True)
class Content:
    """What the backend serves, by path; everywhere else `body`."""

    body: bytes
    files: Mapping[str, bytes]
    """As nginx serves files: with a length, by sendfile."""
    chunked: Mapping[str, bytes] = field(default_factory=dict)
    """Of unannounced length, in chunks."""
    close_path: str = "/close"
    """`body`; behind it the connection is closed."""
    address_path: str = "/address"
    """The address on which the request came in."""


def _file(setting: Setting, path: str, content: bytes, directives: str) -> str:
    """Write a file of the backend; returns the location that serves it."""
    file = setting.directory / path.lstrip("/")
    file.write_bytes(content)
    file.chmod(0o644)  # the worker is another user when root starts nginx
    return f"        location = {path} {{ root {setting.directory}; {directives} }}\n"


def backend_configuration(setting: Setting, content: Content) -> str:
    """nginx.conf of the backend. It listens on HOST and on the addresses of `setting.backends`."""
    addresses = dict.fromkeys((f"{HOST}:{setting.port}", *setting.backends))
    listens = "\n".join(f"        listen {address} backlog=4096;" for address in addresses)
    locations = [_file(setting, path, body, "sendfile on; tcp_nopush on;") for path, body in content.files.items()]
    # Server-side includes may change the length, so that none is announced. There are none in these files.
    locations += [_file(setting, path, body, "ssi on; ssi_types *;") for path, body in content.chunked.items()]
    text = content.body.decode().replace("\n", "\\n")
    http = f"""\
    server {{
{listens}
        keepalive_requests {_NEVER};
{"".join(locations)}        location = {content.close_path} {{
            keepalive_timeout 0;
            return 200 "{text}";
        }}
        location = {content.address_path} {{
            return 200 "$server_addr";
        }}
        location / {{
            return 200 "{text}";
        }}
    }}
"""
    # Each listening socket takes one, and each contender keeps connections to every address.
    connections = _CONNECTIONS + 16 * len(setting.backends)
    return _COMMON.format(connections=connections, directory=setting.directory, http=http)


def _command(setting: Setting, text: str) -> list[str]:
    return ["nginx", "-p", str(setting.directory), "-c", setting.write("nginx.conf", text)]


def _argv(setting: Setting) -> list[str]:
    return _command(setting, configuration(setting))


def backend_argv(setting: Setting, content: Content) -> list[str]:
    """The command of the backend, see `backend_configuration`."""
    return _command(setting, backend_configuration(setting, content))


NGINX = Peer(name="nginx", argv=_argv, program="nginx", version_flag="-v", install=INSTALL)
