"""nginx with one worker, as a contender and as the backend behind every contender."""

from __future__ import annotations

from bench.peers.peer import Peer, Setting
from bench.proc import HOST

INSTALL = "apt install nginx-light (Debian, Ubuntu) or brew install nginx (macOS)"

_NEVER = 1_000_000_000  # nginx closes a connection after so many requests; the others never do

_COMMON = """\
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr crit;
events {{
    worker_connections 4096;
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
    return _COMMON.format(directory=setting.directory, http=http)


def backend_configuration(setting: Setting) -> str:
    """nginx.conf of the backend: one small static response."""
    http = f"""\
    server {{
        listen {HOST}:{setting.port} backlog=4096;
        keepalive_requests {_NEVER};
        location / {{
            return 200 "hello from the backend\\n";
        }}
    }}
"""
    return _COMMON.format(directory=setting.directory, http=http)


def _command(setting: Setting, text: str) -> list[str]:
    return ["nginx", "-p", str(setting.directory), "-c", setting.write("nginx.conf", text)]


def _argv(setting: Setting) -> list[str]:
    return _command(setting, configuration(setting))


def backend_argv(setting: Setting) -> list[str]:
    """The command of the backend; `setting.backends` is not used."""
    return _command(setting, backend_configuration(setting))


NGINX = Peer(name="nginx", argv=_argv, program="nginx", version_flag="-v", install=INSTALL)
