"""Polls: waiting visitors who ask how far they are, against an empty aiohttp handler that is sent the same bytes."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Final

from bench.load import Effort, Figure, Load, compare, in_turns, request_text, rotating_script, wrk
from bench.proxy import HEADERS
from bench.stage import ROOM, Server, Stage

SEEN: Final = 20_000  # visitors who ask several times within the run
UNSEEN: Final = 150_000  # taken in a circle: none of them asks twice within the run
# Nobody claims, so the caller goes on calling: some 30 places a second, of those who are present. These come before the polled.
CUSHION: Final = 20_000
PATH: Final = f"/_waitroom/{ROOM}/status"
APP: Final = {"Accept": "application/json", "Waitroom-Transport": "header", "Waitroom-Ticket": "@"}
# A waiting page's fetch in Chromium.
PAGE: Final = HEADERS | {
    "Accept": "*/*",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Dest": "empty",
    "Cookie": f"{HEADERS['Cookie']}; waitroom-ticket-{ROOM}=@",
}


def measure(effort: Effort) -> list[Figure]:
    with Stage() as stage:
        server = stage.redis()
        gateway, empty = stage.gateway(server), stage.reference("empty")
        texts = stage.seat(server, CUSHION + UNSEEN)[CUSHION:]
        seen, unseen = stage.folder / "seen", stage.folder / "unseen"
        seen.write_text("\n".join(texts[:SEEN]))
        unseen.write_text("\n".join(texts))
        by_page, by_app = request_text("GET", PATH, PAGE), request_text("GET", PATH, APP)
        page = rotating_script(stage.folder / "page.lua", by_page, seen)
        app = rotating_script(stage.folder / "app.lua", by_app, seen)
        fresh = rotating_script(stage.folder / "fresh.lua", by_app, unseen)
        bare = rotating_script(stage.folder / "bare.lua", request_text("GET", "/@", {}), _write(stage, "paths", "\n"))
        asked = 0

        def ask_unseen() -> Load:
            nonlocal asked
            stage.keep_present(server, CUSHION)
            load = wrk(gateway, fresh, effort.seconds, asked)
            asked += load.requests
            return load

        check(gateway, texts[0])
        stage.keep_awake()
        loads = in_turns(
            {
                "empty, asked as by apps": lambda: wrk(empty, app, effort.seconds),
                "polls of apps": lambda: wrk(gateway, app, effort.seconds),
                "polls of apps, unseen tickets": ask_unseen,
                "empty, asked as by pages": lambda: wrk(empty, page, effort.seconds),
                "polls of pages": lambda: wrk(gateway, page, effort.seconds),
                "empty, asked in 40 bytes": lambda: wrk(empty, bare, effort.seconds),
            },
            effort.rounds,
        )
        check(gateway, texts[0])
    same = "the reference is sent the same bytes; its answer is shorter (2 bytes, ours some 450)"
    runs = list(loads.values())
    return [
        compare("poll, app", runs[1], runs[0], 0.7, same),
        compare("poll, app, ticket unseen", runs[2], runs[0], 0.7, f"{same}; {UNSEEN:,} tickets in a circle"),
        compare("poll, page (cookie)", runs[4], runs[3], 0.7, f"{same}; headers of one browser"),
        compare("poll, unseen, to 40-byte requests", runs[2], runs[5], None, "compares requests of different length"),
    ]


def _write(stage: Stage, name: str, text: str) -> Path:
    file = stage.folder / name
    file.write_text(text)
    return file


def check(gateway: Server, ticket: str) -> None:
    """A cheaper answer than that of somebody who waits, with a time to wait, would be a better figure for nothing."""
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=5)
    connection.request("GET", PATH, headers={"Waitroom-Ticket": ticket})
    answer = connection.getresponse()
    told = json.loads(answer.read())
    connection.close()
    assert answer.status == 200, told
    assert told["state"] == "waiting", told
    assert told["eta"] is not None, told
    assert not told["stale"], told
