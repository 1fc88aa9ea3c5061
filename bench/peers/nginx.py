"""nginx with one worker, as a contender and as the backend behind every contender."""

from __future__ import annotations

from collections.abc import Mapping

from bench.peers.peer import Peer, Setting
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
    http = f"""\
    upstream endpoints {{
{servers}
        keepalive 256;
        keepalive_requests {_NEVER};
    }}
    server {{
        listen {HOST}:{setting.port} backlog=4096;
        keepalive_requests {_NEVER};
        location / {{
            proxy_pass http://endpoints;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        }}
    }}
"""
    # When less than a sixteenth of them is free, nginx closes idle ones.
    connections = max(_CONNECTIONS, setting.connections * 5 // 4)
    return _COMMON.format(connections=connections, directory=setting.directory, http=http)


def backend_configuration(setting: Setting, body: bytes, files: Mapping[str, bytes], close_path: str) -> str:
    """nginx.conf of the backend: files on their paths, as nginx serves files, and `body` on every other path.

    Behind an answer on `close_path` the connection is closed.
    """
    locations = []
    for path, content in files.items():
        file = setting.directory / path.lstrip("/")
        file.write_bytes(content)
        file.chmod(0o644)  # the worker is another user when root starts nginx
        locations.append(f"        location = {path} {{ root {setting.directory}; sendfile on; tcp_nopush on; }}\n")
    text = body.decode().replace("\n", "\\n")
    http = f"""\
    server {{
        listen {HOST}:{setting.port} backlog=4096;
        keepalive_requests {_NEVER};
{"".join(locations)}        location = {close_path} {{
            keepalive_timeout 0;
            return 200 "{text}";
        }}
        location / {{
            return 200 "{text}";
        }}
    }}
"""
    return _COMMON.format(connections=_CONNECTIONS, directory=setting.directory, http=http)


def _command(setting: Setting, text: str) -> list[str]:
    return ["nginx", "-p", str(setting.directory), "-c", setting.write("nginx.conf", text)]


def _argv(setting: Setting) -> list[str]:
    return _command(setting, configuration(setting))


def backend_argv(setting: Setting, body: bytes, files: Mapping[str, bytes], close_path: str = "/close") -> list[str]:
    """The command of the backend, see `backend_configuration`; `setting.backends` is not used."""
    return _command(setting, backend_configuration(setting, body, files, close_path))


NGINX = Peer(name="nginx", argv=_argv, program="nginx", version_flag="-v", install=INSTALL)
