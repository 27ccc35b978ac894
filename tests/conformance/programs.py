"""The programs before which the corpus runs, each with an upstream: our gateway in this process, Debian's nginx and HAProxy."""

from __future__ import annotations

import asyncio
import os
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from unittest.mock import patch

from gateway.app import Gateway
from gateway.model import Config, Match, Server, Tokens, Upstream
from gateway.rules.keys import new_key_file
from gateway.web import exchange
from gateway.web.listener import Limits
from tests.conformance import upstream as recording
from tests.conftest import free_port, make_room

TIMEOUT_S: Final = 1.0  # of everything that waits, in all three
IDLE_S: Final = 2  # between requests
REFEREES: Final = ("nginx", "haproxy")
OPEN: Final = b"/open/"
ROOM: Final = b"/points/cashout/"

NGINX: Final = """
{user} pid nginx.pid; worker_processes 1; error_log error.log;
events {{ worker_connections 512; }}
http {{
  client_body_temp_path client_body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  access_log off; large_client_header_buffers 4 32k; client_max_body_size 0;
  client_header_timeout {ms}ms; client_body_timeout {ms}ms; send_timeout {ms}ms; keepalive_timeout {idle}s;
  lingering_timeout 50ms; lingering_time 1s;
  # As its manual has it for WebSockets, and streaming, as the gateway does.
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream bank {{ server 127.0.0.1:{upstream}; keepalive 8; }}
  server {{
    listen 127.0.0.1:{port} backlog=512;
    location / {{
      proxy_pass http://bank; proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;
      proxy_buffer_size 64k; proxy_buffers 8 64k;
      proxy_set_header Host $http_host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
      proxy_connect_timeout {ms}ms; proxy_send_timeout {ms}ms; proxy_read_timeout {ms}ms; proxy_next_upstream off;
    }}
  }}
}}
"""

HAPROXY: Final = """
global
  tune.bufsize 32768
defaults
  mode http
  timeout connect {ms}ms
  timeout client {ms}ms
  timeout server {ms}ms
  timeout http-request {ms}ms
  timeout http-keep-alive {idle}s
  timeout tunnel {ms}ms
frontend public
  bind 127.0.0.1:{port} backlog 512
  default_backend bank
backend bank
  server bank 127.0.0.1:{upstream}
"""


@dataclass(frozen=True, slots=True)
class Program:
    """Something that proxies to the upstream, on a port."""

    name: str
    port: int
    upstream: recording.Upstream


def admission_of(one: Gateway) -> bytes:
    """A line that lets one request into the room; a new one for each, as one admission may not have many in flight."""
    desk = one._desks["cashout"]
    text, _ = desk.new_admission(desk.random_id(), desk.now_s())
    return f"Waitroom-Admission: {text}\r\n".encode()


@asynccontextmanager
async def recorded() -> AsyncIterator[recording.Upstream]:
    upstream = recording.Upstream()
    await upstream.open()
    try:
        yield upstream
    finally:
        await upstream.close()


@asynccontextmanager
async def gateway(folder: Path, redis_url: str) -> AsyncIterator[tuple[Program, Gateway]]:
    """The whole gateway with a paused room, so that nobody enters but who was let in."""
    key = folder / "signing.pem"
    if not key.exists():
        new_key_file(key, "ES256")
    server = Server(
        ("127.0.0.1", 0), ("127.0.0.1", 0), ("bank.example",), state_dir=str(folder / "state"), stop_grace_s=0
    )
    async with recorded() as upstream:
        bank = Upstream(
            "bank",
            (f"http://127.0.0.1:{upstream.port}",),
            connect_timeout_s=TIMEOUT_S,
            read_timeout_s=TIMEOUT_S,
            write_timeout_s=TIMEOUT_S,
            idle_timeout_s=TIMEOUT_S,
        )
        room = make_room(match=(Match("/points/cashout/*"),), paused=True)
        one = Gateway(Config(server, redis_url, Tokens(str(key)), (room,), {"bank": bank}, default_upstream="bank"))
        await one.start()
        one._listeners[0].limits = Limits(
            idle_timeout_s=IDLE_S, head_timeout_s=TIMEOUT_S, write_timeout_s=TIMEOUT_S, linger_s=0.05
        )
        try:
            with patch.object(exchange, "BODY_TIMEOUT_S", TIMEOUT_S), patch.object(exchange, "CONTINUE_WAIT_S", 0.2):
                yield Program("gateway", one._listeners[0].port, upstream), one
        finally:
            await one.stop()


@asynccontextmanager
async def referee(name: str, folder: Path) -> AsyncIterator[Program]:
    """nginx or HAProxy, in the foreground, once it listens."""
    folder.mkdir()  # noqa: ASYNC240 - nothing else runs yet
    port = free_port()
    async with recorded() as upstream:
        # Started by root, nginx's workers would be nobody, who may not look into our folder.
        user = "user root;" if os.geteuid() == 0 else ""
        text = (NGINX if name == "nginx" else HAPROXY).format(
            user=user, ms=int(TIMEOUT_S * 1000), idle=IDLE_S, upstream=upstream.port, port=port
        )
        file = folder / f"{name}.conf"
        file.write_text(text)
        command = (
            ["nginx", "-p", str(folder), "-e", "error.log", "-c", str(file), "-g", "daemon off;"]
            if name == "nginx"
            else ["haproxy", "-db", "-f", str(file)]
        )
        with (folder / "said").open("wb") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)  # noqa: ASYNC220 - ours to end, by its pid
        try:
            until_s = time.monotonic() + 15
            while not _listens(port):
                assert process.poll() is None, (folder / "said").read_text()
                assert time.monotonic() < until_s, f"{name} does not listen"
                await asyncio.sleep(0.01)
            yield Program(name, port, upstream)
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def version_of(name: str) -> str:
    """As its makers count: what Debian adds for its security fixes is cut off."""
    said = subprocess.run([name, "-v"], capture_output=True, text=True, check=True)
    found = re.search(r"(\d+\.\d+\.\d+)", said.stdout + said.stderr)
    assert found is not None, said
    return found[1]
