"""Runs nginx and HAProxy, the references that are not Python, each as one process on the measured core."""

from __future__ import annotations

import os
from typing import Final

from bench.stage import MEASURED, Server, Stage, answers, free_port

CONF: Final = """
{user}pid {folder}/{name}.pid; worker_processes 1; error_log {folder}/{name}.log crit;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/{name}-body;
proxy_temp_path {folder}/{name}-proxy; fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u;
scgi_temp_path {folder}/{name}-s;
{text}
}}
"""
USER: Final = "user root; " if os.geteuid() == 0 else ""
PROXY: Final = """
upstream bank {{ server 127.0.0.1:{bank}; keepalive 64; }}
server {{
    listen 127.0.0.1:{port};
    location / {{ proxy_pass http://bank; proxy_http_version 1.1; proxy_set_header Connection ''; }}
}}
"""


def run_nginx(stage: Stage, name: str, text: str, port: int, cores: list[int] | None = None) -> Server:
    """`text` goes into its `http` block. One process that serves: a master would only wait."""
    file = stage.folder / f"{name}.conf"
    file.write_text(CONF.format(user=USER, folder=stage.folder, name=name, text=text))
    command = ["nginx", "-e", str(stage.folder / f"{name}.log"), "-c", str(file)]
    command += ["-g", "daemon off; master_process off;"]
    return Server(stage.start(*command, cores=cores or MEASURED, is_ready=lambda: answers(port)), port)


def nginx(stage: Stage, name: str, text: str, cores: list[int] | None = None) -> Server:
    """`text` with `port` and `folder` filled in."""
    port = free_port()
    return run_nginx(stage, name, text.format(port=port, folder=stage.folder), port, cores)


def nginx_proxy(stage: Stage, bank: Server) -> Server:
    port = free_port()
    return run_nginx(stage, "proxy", PROXY.format(bank=bank.port, port=port), port)


def run_haproxy(stage: Stage, text: str, port: int) -> Server:
    file = stage.folder / f"haproxy-{port}.cfg"
    file.touch(mode=0o600)
    file.write_text(text)
    command = ["haproxy", "-db", "-f", str(file)]
    return Server(stage.start(*command, cores=MEASURED, is_ready=lambda: answers(port)), port)


def haproxy_proxy(stage: Stage, bank: Server) -> Server:
    """A bare one, which passes everything on."""
    port = free_port()
    timeouts = "".join(f"    timeout {name} 60s\n" for name in ("client", "connect", "server"))
    text = f"defaults\n    mode http\n    option forwardfor\n{timeouts}"
    text += (
        f"frontend f\n    bind 127.0.0.1:{port}\n    default_backend b\nbackend b\n    server s 127.0.0.1:{bank.port}\n"
    )
    return run_haproxy(stage, text, port)
