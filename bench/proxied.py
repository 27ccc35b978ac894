"""Proxied requests through the whole gate (route, admission, plan, signature) against a bare aiohttp pass-through.

The bare one keeps the same header rules (`bench/proxy.py`, which also measures the gateway's proxy alone). Both are sent the
same bytes, and both stand before the same bank.
"""

from __future__ import annotations

import secrets
import time
from typing import Final

from bench.load import Effort, Figure, Load, compare, in_turns, request_text, rotating_script, throughput, wrk
from bench.natives import haproxy_proxy, nginx_proxy
from bench.proxy import HEADERS
from bench.stage import ENTRY, LOADING, ROOM, Stage
from gateway.model import Admission

GOAL_PER_S: Final = 6_000
SEEN: Final = 1_000
UNSEEN: Final = 60_000  # more than all rounds send; each is verified (ES256) once
PAGE: Final = HEADERS | {"Cookie": f"{HEADERS['Cookie']}; waitroom-admission-{ROOM}=@"}


def measure(effort: Effort) -> list[Figure]:
    with Stage() as stage:
        bank = stage.reference("bank", cores=LOADING)
        server = stage.redis()
        gateway, bare = stage.gateway(server, bank.port), stage.reference("bare", bank.port)
        nginx, haproxy = nginx_proxy(stage, bank), haproxy_proxy(stage, bank)
        seen, unseen = stage.folder / "seen", stage.folder / "unseen"
        seen.write_text("\n".join(admissions(stage, SEEN)))
        unseen.write_text("\n".join(admissions(stage, UNSEEN)))
        request = request_text("GET", f"{ENTRY}?a=1", PAGE)
        usual = rotating_script(stage.folder / "usual.lua", request, seen)
        first = rotating_script(stage.folder / "first.lua", request, unseen)
        open_ = rotating_script(stage.folder / "open.lua", request_text("GET", "/balance", PAGE), seen)
        stage.keep_awake()
        asked = 0

        def ask_first() -> Load:
            nonlocal asked
            load = wrk(gateway, first, 1, asked, redis=server)
            asked += load.requests
            assert asked < UNSEEN, "admissions came twice: make more of them"
            return load

        loads = in_turns(
            {
                "bare pass-through": lambda: wrk(bare, usual, effort.seconds),
                "admitted": lambda: wrk(gateway, usual, effort.seconds, redis=server),
                "admitted, first request": ask_first,
                "not protected": lambda: wrk(gateway, open_, effort.seconds, redis=server),
                "nginx proxy": lambda: wrk(nginx, usual, effort.seconds),
                "HAProxy proxy": lambda: wrk(haproxy, usual, effort.seconds),
            },
            effort.rounds,
        )
    bare_runs = loads["bare pass-through"]
    doubt = "the bare proxy is ours to write: its streaming is what the documentation of aiohttp shows"
    often = (
        f"{doubt}; each of {SEEN:,} visitors asks some 5 times a second, so most signatures are of this second already"
    )
    once = "each admission's signature (ES256) is verified for it; a visitor sends one such request and many others"
    c = "C, and neither judges nor signs anything: how far Python is from what an edge can do (`edges`)"
    return [
        compare("proxied, admitted", loads["admitted"], bare_runs, 0.9, often),
        throughput("proxied/s, admitted, one process", loads["admitted"], GOAL_PER_S),
        compare("proxied, first of an admission", loads["admitted, first request"], bare_runs, None, once),
        compare("proxied, not protected", loads["not protected"], bare_runs, 0.9, doubt),
        compare("proxied, admitted, by nginx", loads["admitted"], loads["nginx proxy"], None, c),
        compare("proxied, admitted, by HAProxy", loads["admitted"], loads["HAProxy proxy"], None, c),
    ]


def admissions(stage: Stage, count: int) -> list[str]:
    """Admissions as the gateway would sign them; they are judged by signature alone, so they need no slot in Redis."""
    now_s, keyring = int(time.time()), stage.keyring
    return [
        keyring.mint_admission(Admission(ROOM, secrets.token_bytes(16), 1, now_s, now_s, now_s + 3600))
        for _ in range(count)
    ]
