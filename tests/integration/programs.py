"""Other proxies, started for a test between podlb and an endpoint."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from tests.fakes import DEADLINE, eventually, free_port

_NGINX = """\
daemon off; master_process off; pid {folder}/pid; error_log stderr crit;
events {{ worker_connections 512; }}
http {{
  access_log off; client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  keepalive_requests 1000000; client_max_body_size 0; large_client_header_buffers 8 64k;
  underscores_in_headers on; ignore_invalid_headers off; merge_slashes off;
  upstream recorder {{ server 127.0.0.1:{target}; keepalive 8; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://recorder$request_uri; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_next_upstream off;
    }}
  }}
}}
"""

_HAPROXY = """\
global
  maxconn 512
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 5s
  retries 0
  option http-keep-alive
  http-reuse never
listen recorder
  bind 127.0.0.1:{port}
  server a 127.0.0.1:{target}
"""


class Program(NamedTuple):
    """A proxy: its command, and its configuration with places for `port`, `target` and `folder`."""

    command: str
    arguments: tuple[str, ...]
    configuration: str

    @property
    def path(self) -> str | None:
        """Where it is installed; Debian keeps both in /usr/sbin, which not every PATH names."""
        return shutil.which(self.command) or shutil.which(self.command, path="/usr/sbin")

    @contextmanager
    def behind(self, target: int, folder: Path) -> Iterator[int]:
        """Run it in front of port `target`; yield the port on which it listens."""
        port = free_port()
        file = folder / f"{self.command}.conf"
        file.write_text(self.configuration.format(port=port, target=target, folder=folder))
        assert self.path is not None
        log = (folder / f"{self.command}.log").open("wb")
        process = subprocess.Popen([self.path, *self.arguments, str(file)], cwd=folder, stdout=log, stderr=log)

        def listens() -> bool:
            assert process.poll() is None, (folder / f"{self.command}.log").read_text()
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port)).close()
                return True
            return False

        try:
            eventually(listens, f"{self.command} on port {port}")
            yield port
        finally:
            process.kill()
            process.wait(DEADLINE)
            log.close()


PROGRAMS = {
    "nginx": Program("nginx", ("-e", "stderr", "-c"), _NGINX),
    "haproxy": Program("haproxy", ("-db", "-f"), _HAPROXY),
}
