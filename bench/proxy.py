"""Measures proxied requests against a bare aiohttp pass-through that keeps the same header rules, as a ratio.

    python -m bench.proxy [--rounds 5] [--seconds 3] [--connections 32]

Both proxies run one process each, on uvloop, before the same upstream; `wrk` loads them in turns, and the median of the
rounds' ratios is the result. The bare one is what most people would write: `web.Server`, `ClientSession`, streaming.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import aiohttp
import uvloop
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from gateway.model import Upstream
from gateway.rules import headers as rules
from gateway.web.listener import Listener
from gateway.web.sockets import bind
from gateway.web.upstream import Plan, Upstreams

BODY = b"x" * 1024
ANSWER = (
    b"HTTP/1.1 200 OK\r\nServer: bank\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Type: text/html\r\n"
    b"Set-Cookie: a=1; Path=/\r\nSet-Cookie: b=2; Path=/\r\nCache-Control: private\r\nContent-Length: 1024\r\n\r\n"
    + BODY
)
HEADERS = {
    "Accept": "text/html,application/xhtml+xml",
    "Accept-Language": "ko,en;q=0.8",
    "Accept-Encoding": "gzip, br",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark",
    "Referer": "http://bank.example/points/",
}


class Bank(asyncio.Protocol):
    """An upstream that costs next to nothing, so that the proxies are what is measured."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(ANSWER * data.count(b"\r\n\r\n"))  # type: ignore[attr-defined]


async def serve_bank(port: int) -> None:
    await asyncio.get_running_loop().create_server(Bank, "127.0.0.1", port)


async def serve_gateway(port: int, upstream_port: int) -> None:
    upstreams = Upstreams({"bank": Upstream("bank", (f"http://127.0.0.1:{upstream_port}",))}, now_s=time.time)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        plan = Plan("bank", "room", 150, ((b"Waitroom-Subject", b"x"),), on_head, peer=request.remote or "")
        return await upstreams.forward(request, plan)

    def on_head(_status: int, to_client: list[rules.Header], _known: object) -> None:
        to_client.append((b"Waitroom-Lease", b"600"))

    await Listener(handle).open(bind("127.0.0.1", port))


async def serve_bare(port: int, upstream_port: int) -> None:
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        timeout=aiohttp.ClientTimeout(total=None),
        skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent", "Content-Type"),
    )

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        hop = rules.Hop(request.remote or "", "http", request.headers["Host"])
        headers = CIMultiDict(rules.decode(rules.to_upstream(request.raw_headers, hop)))
        url = URL.build(scheme="http", host="127.0.0.1", port=upstream_port, path=request.raw_path, encoded=True)
        body = request.content if request.body_exists else None
        async with session.request(request.method, url, headers=headers, data=body, allow_redirects=False) as answer:
            response = web.StreamResponse(
                status=answer.status,
                reason=answer.reason,
                headers=CIMultiDict(rules.decode(rules.to_client(answer.raw_headers))),
            )
            response.headers["Waitroom-Lease"] = "600"
            await response.prepare(request)
            async for piece in answer.content.iter_any():
                await response.write(piece)
            await response.write_eof()
            return response

    server = web.Server(handle, auto_decompress=False, handler_cancellation=True, access_log=None)
    await asyncio.get_running_loop().create_server(server, "127.0.0.1", port)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def spawn(role: str, *ports: int) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-m", "bench.proxy", "--role", role, *map(str, ports)])
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", ports[0])) == 0:
                return process
        time.sleep(0.05)
    raise SystemExit(f"{role} did not start")


def load(port: int, seconds: int, connections: int) -> float:
    fields = [part for name, value in HEADERS.items() for part in ("-H", f"{name}: {value}")]
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *fields, f"http://127.0.0.1:{port}/points/?a=1"]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(out)
    found = re.search(r"Requests/sec:\s+([\d.]+)", out)
    assert found is not None, out
    return float(found[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=("bank", "gateway", "bare"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("ports", type=int, nargs="*")
    args = parser.parse_args()
    if args.role:
        roles: dict[str, Callable[..., object]] = {"bank": serve_bank, "gateway": serve_gateway, "bare": serve_bare}

        async def run() -> None:
            await roles[args.role](*args.ports)  # type: ignore[misc]
            await asyncio.Event().wait()

        logging.disable()  # wrk hangs up in the middle of answers, and aiohttp complains about each
        uvloop.run(run())
    bank, gateway, bare = free_port(), free_port(), free_port()
    processes = [spawn("bank", bank), spawn("gateway", gateway, bank), spawn("bare", bare, bank)]
    try:
        ratios = []
        for _ in range(args.rounds):
            ours, theirs = (load(port, args.seconds, args.connections) for port in (gateway, bare))
            ratios.append(ours / theirs)
            print(f"gateway {ours:8.0f}/s   bare aiohttp {theirs:8.0f}/s   ratio {ours / theirs:.2f}", flush=True)
        print(f"median ratio {statistics.median(ratios):.2f} (goal: at least 0.8)")
    finally:
        for process in processes:
            process.terminate()
            process.wait()


if __name__ == "__main__":
    main()
