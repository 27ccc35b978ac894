"""Edges: admitted requests through HAProxy that verifies them, and the waiting room's public board through nginx and HAProxy.

All servers that are measured share one core, and the load, the bank (nginx that answers with a few bytes), the gateway and
Redis the other. "Without verification" is the very configuration that `waitroom edge haproxy` prints, with the judgement
of tokens taken out of it and everything else left in: routing, our fields and cookies cut out, subject and signature added.
"""

from __future__ import annotations

import http.client
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from bench.load import Effort, Figure, Load, compare, in_turns, request_text, rotating_script, wrk
from bench.natives import haproxy_proxy, nginx, run_haproxy, run_nginx
from bench.proxied import admissions
from bench.proxy import HEADERS
from bench.stage import ENTRY, LOADING, ROOM, Server, Stage, free_port
from gateway import config as configuration
from gateway.edges.printing import printed
from gateway.edges.site import Address
from gateway.rules.keys import load_key_file, new_key_file

VISITORS: Final = 1_000
IN_FLIGHT: Final = 12  # below what one admission may have under way
SETTLE_S: Final = 3.0  # until health checks have found the gateway and the bank
BOARD: Final = f"/_waitroom/{ROOM}/board"
SUBJECT: Final = "517ccf39-3ecd-4ba2-8fde-f17d46750d17"


def measure(effort: Effort) -> list[Figure]:
    with Stage() as stage:
        (stage.folder / "key.pem").unlink()
        new_key_file(stage.folder / "key.pem", "HS256")
        bank = nginx(
            stage, "bank", "server {{ listen 127.0.0.1:{port}; location / {{ return 200 'the bank'; }} }}", LOADING
        )
        gateway = stage.gateway(stage.redis(), bank.port, LOADING)
        board = stage.folder / "www" / "board"
        board.parent.mkdir()
        verifying, unverifying = (
            _haproxy(stage, gateway, is_verifying=True),
            _haproxy(stage, gateway, is_verifying=False),
        )
        bare = haproxy_proxy(stage, bank)
        edge = _edge_nginx(stage, gateway)
        time.sleep(SETTLE_S)
        _write_board(board, verifying)
        static = nginx(stage, "static", "server {{ listen 127.0.0.1:{port}; root {folder}/www; }}")
        one, many = _tokens(stage, 1), _tokens(stage, VISITORS)
        nothing = stage.folder / "nothing"
        nothing.write_text("1\n")
        polls = rotating_script(stage.folder / "polls.lua", request_text("GET", BOARD, {"DNT": "@"}), nothing)
        files = rotating_script(stage.folder / "files.lua", request_text("GET", "/board", {"DNT": "@"}), nothing)
        loads = in_turns(
            {
                "HAProxy, not verifying": lambda: _admitted(unverifying, stage, one, effort),
                "HAProxy, a visitor a connection": lambda: _admitted(verifying, stage, one, effort),
                "HAProxy, visitors mixed": lambda: _admitted(verifying, stage, many, effort),
                "HAProxy, bare": lambda: _admitted(bare, stage, one, effort),
                "nginx static": lambda: wrk(static, files, effort.seconds),
                "board by HAProxy": lambda: wrk(verifying, polls, effort.seconds),
                "board by nginx": lambda: wrk(edge, polls, effort.seconds),
            },
            effort.rounds,
        )
    return _figures(loads)


def _figures(loads: Mapping[str, Sequence[Load]]) -> list[Figure]:
    without, verified = loads["HAProxy, not verifying"], loads["HAProxy, a visitor a connection"]
    kept = "a connection that carries one visitor is spared parsing and cutting the same Cookie again, the reference is not"
    mixed = "as behind a CDN that mixes visitors on its connections: each request looks its token up, and cuts its Cookie anew"
    bare = "no routes, no cookies cut, no signature: what all of the printed configuration costs, not verifying alone"
    board = (
        "the file has the board's bytes; HAProxy has them in memory, by its health checks, nginx in a file of its cache"
    )
    return [
        compare("HAProxy, admitted (HS256), verified", verified, without, 0.9, kept),
        compare("HAProxy, admitted, visitors mixed", loads["HAProxy, visitors mixed"], without, None, mixed),
        compare("HAProxy, admitted, by a bare HAProxy", verified, loads["HAProxy, bare"], None, bare),
        compare(
            "board by nginx (cached), by nginx static", loads["board by nginx"], loads["nginx static"], None, board
        ),
        compare("board by HAProxy, by nginx static", loads["board by HAProxy"], loads["nginx static"], 0.9, board),
    ]


def _admitted(server: Server, stage: Stage, tokens: Path, effort: Effort) -> Load:
    headers = HEADERS | {"Cookie": f"{HEADERS['Cookie']}; waitroom-admission-{ROOM}=@"}
    request = request_text("GET", f"{ENTRY}?a=1", headers)
    script = rotating_script(stage.folder / f"{tokens.name}.lua", request, tokens)
    return wrk(server, script, effort.seconds, connections=IN_FLIGHT)


def _tokens(stage: Stage, count: int) -> Path:
    file = stage.folder / f"tokens-{count}"
    file.write_text("\n".join(admissions(stage, count)))
    return file


# --- the servers -----------------------------------------------------------------------------------------------------


def _printed(stage: Stage, kind: str, gateway: Server, port: int) -> str:
    file = stage.folder / f"waitroom-{gateway.port}.toml"
    config = configuration.load(str(file), os.environ, dev=True, read_key=load_key_file)
    config = replace(config, server=replace(config.server, hosts=("127.0.0.1",)))
    gateways = [Address("127.0.0.1", gateway.port)]
    return printed(kind, config, load_key_file, listen=f"127.0.0.1:{port}", gateways=gateways).text


def _haproxy(stage: Stage, gateway: Server, *, is_verifying: bool) -> Server:
    port = free_port()
    text = _printed(stage, "haproxy", gateway, port)
    return run_haproxy(stage, text if is_verifying else without_verification(text), port)


def without_verification(text: str) -> str:
    """The printed configuration of one room, its judgement of tokens replaced by "everybody is admitted"."""
    mine = "{ var(txn.room) -m int 1 }"
    start = text.index(f"    http-request set-var(txn.pass) bool(true) if {mine} {{ var(sess.room)")
    end = text.index("    # The crowd's two public questions")
    admitted = [
        f"set-var(txn.subject) str({SUBJECT}) if {mine}",
        f"set-var(txn.until) int({int(time.time()) + 3600}) if {mine}",
        f"set-var(txn.pass) bool(true) if {mine}",
        f"allow if {mine}",
    ]
    return text[:start] + "".join(f"    http-request {rule}\n" for rule in admitted) + text[end:]


def _edge_nginx(stage: Stage, gateway: Server) -> Server:
    port = free_port()
    text = _printed(stage, "nginx", gateway, port)
    text = text.replace("/var/cache/waitroom-edge", str(stage.folder / "cache"))
    return run_nginx(stage, "edge", text, port)


def _write_board(file: Path, edge: Server) -> None:
    """The board's own bytes as a file."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.port, timeout=5)
    connection.request("GET", BOARD)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    assert answer.status == 200, answer.status
    assert re.match(rb'\{"room":', body), body[:100]
    file.write_bytes(body)
