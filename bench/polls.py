"""The crowd's questions: polls, the board and the first page, against an empty aiohttp handler that is sent the same bytes."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from typing import Final

from bench.load import Effort, Figure, Load, compare, in_turns, request_text, rotating_script, wrk
from bench.proxy import HEADERS
from bench.stage import ENTRY, ROOM, Server, Stage

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
# What the first visit sends: nothing of ours yet. `@` makes no difference to anybody.
FIRST: Final = HEADERS | {
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Dest": "document",
    "DNT": "@",
}
BOARD: Final = {"Accept": "application/json", "DNT": "@"}


def measure(effort: Effort) -> list[Figure]:
    with Stage() as stage:
        server = stage.redis()
        gateway, empty = stage.gateway(server, queueing_status=200), stage.reference("empty")
        texts = stage.tickets(server, CUSHION + UNSEEN)[CUSHION:]
        seen, unseen = stage.folder / "seen", stage.folder / "unseen"
        seen.write_text("\n".join(texts[:SEEN]))
        unseen.write_text("\n".join(texts))
        by_page, by_app = request_text("GET", PATH, PAGE), request_text("GET", PATH, APP)
        page = rotating_script(stage.folder / "page.lua", by_page, seen)
        app = rotating_script(stage.folder / "app.lua", by_app, seen)
        fresh = rotating_script(stage.folder / "fresh.lua", by_app, unseen)
        bare = rotating_script(stage.folder / "bare.lua", request_text("GET", "/@", {}), _write(stage, "paths", "\n"))
        nothing = _write(stage, "nothing", "1\n")
        first = rotating_script(stage.folder / "first.lua", request_text("GET", ENTRY, FIRST), nothing)
        board = rotating_script(
            stage.folder / "board.lua", request_text("GET", f"/_waitroom/{ROOM}/board", BOARD), nothing
        )
        asked = 0

        def ask_unseen() -> Load:
            nonlocal asked
            stage.keep_present(server, CUSHION)
            load = wrk(gateway, fresh, effort.seconds, asked, redis=server)
            asked += load.requests
            return load

        check(gateway, texts[0])
        stage.keep_awake()
        loads = in_turns(
            {
                "empty, asked as by apps": lambda: wrk(empty, app, effort.seconds),
                "polls of apps": lambda: wrk(gateway, app, effort.seconds, redis=server),
                "polls of apps, unseen tickets": ask_unseen,
                "empty, asked as by pages": lambda: wrk(empty, page, effort.seconds),
                "polls of pages": lambda: wrk(gateway, page, effort.seconds, redis=server),
                "empty, asked in 40 bytes": lambda: wrk(empty, bare, effort.seconds),
                "empty, asked for a page": lambda: wrk(empty, first, effort.seconds),
                "first page": lambda: wrk(gateway, first, effort.seconds, redis=server),
                "empty, asked for the board": lambda: wrk(empty, board, effort.seconds),
                "board": lambda: wrk(gateway, board, effort.seconds, redis=server),
            },
            effort.rounds,
        )
        check(gateway, texts[0])
    same = "the reference is sent the same bytes; its answer is shorter (2 bytes, ours some 450)"
    runs = list(loads.values())
    return [
        compare("poll, app", runs[1], runs[0], 0.8, same),
        compare("poll, app, ticket unseen", runs[2], runs[0], 0.8, f"{same}; {UNSEEN:,} tickets in a circle"),
        compare("poll, page (cookie)", runs[4], runs[3], 0.8, f"{same}; headers of one browser"),
        compare("poll, unseen, to 40-byte requests", runs[2], runs[5], None, "compares requests of different length"),
        compare(
            "first page, in place", runs[7], runs[6], 0.9, "compressed, as browsers ask: 10 kB, the reference 2 bytes"
        ),
        compare("board", runs[9], runs[8], 0.9, f"{same.replace('450', '2,000')}; made anew ten times a second"),
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
