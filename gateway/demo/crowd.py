"""Owns the running of a crowd: starts every visitor on time, asks for balances beside it, and ends when all is said."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any, Final

import aiohttp
import uvloop

from gateway.demo.entrylog import Entry, read_entries
from gateway.demo.forms import ACCOUNT_COOKIE
from gateway.demo.options import (
    RATE_MAX,
    SECONDS_MAX,
    Parser,
    add_crowd_options,
    crowd_settings,
    file_to_read,
    file_to_write,
    number,
    web_address,
)
from gateway.demo.plan import CrowdSettings, Kind, Plan, plan_crowd
from gateway.demo.report import Door, as_json, format_report, summarise
from gateway.demo.tally import CrowdRun, Outcome
from gateway.demo.visitor import Visitor
from gateway.demo.wire import CEIL_NEVER_S, Wire
from gateway.tasks import Owner

ROOM: Final = "point-cashout"
CUSTOMER_PATIENCE_S: Final = 5.0
STATS_PATIENCE_S: Final = 10.0
LAG_EVERY_S: Final = 0.05


async def run_crowd(run: CrowdRun, urls: tuple[str, ...], seconds: float, room: str = ROOM) -> None:
    """Send the crowd to `urls`, and end when everybody who wants to come in has ended, at the latest after `seconds`.

    Those who only poll and never claim would poll for ever: they are sent home when the others are through.
    """
    owner = Owner()
    # No limit and no shared cookies: each visitor is a person of its own, with one request under way at a time.
    connector = aiohttp.TCPConnector(limit=0)
    run.began_s, run.seconds_max = asyncio.get_running_loop().time(), seconds
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        try:
            owner.start(_measure_lag(run), "lag")
            for index in range(run.settings.customers):
                owner.start(_ask_balances(session, urls[index % len(urls)], index, run), "customer")
            visits = [
                (plan, owner.start(_visit_on_time(session, urls, plan, run, room), "visitor"))
                for plan in plan_crowd(run.settings)
            ]
            awaited = [task for plan, task in visits if plan.kind is not Kind.NO_SHOW]
            if awaited:
                _, waiting = await asyncio.wait(awaited, timeout=seconds)
                run.is_cut_short = bool(waiting)
        finally:
            run.ended_s = asyncio.get_running_loop().time()
            await owner.close()


async def _visit_on_time(
    session: aiohttp.ClientSession, urls: tuple[str, ...], plan: Plan, run: CrowdRun, room: str
) -> None:
    await asyncio.sleep(run.began_s + plan.arrives_s - asyncio.get_running_loop().time())
    visitor = Visitor(plan, Wire(session, urls, plan, run.tally.failures), room, run.tally)
    run.journeys.append(visitor.journey)
    await visitor.visit()


async def _measure_lag(run: CrowdRun) -> None:
    clock = asyncio.get_running_loop().time
    while True:
        due_s = clock() + LAG_EVERY_S
        await asyncio.sleep(LAG_EVERY_S)
        run.tally.lag_max_s = max(run.tally.lag_max_s, clock() - due_s)


async def _ask_balances(session: aiohttp.ClientSession, url: str, index: int, run: CrowdRun) -> None:
    """An ordinary customer who has nothing to do with the promotion and asks for the balance once a second."""
    clock = asyncio.get_running_loop().time
    due_s = run.began_s + index / max(1, run.settings.customers)
    timeout = aiohttp.ClientTimeout(total=CUSTOMER_PATIENCE_S, ceil_threshold=CEIL_NEVER_S)
    headers = {"Cookie": f"{ACCOUNT_COOKIE}=customer{index}", "Accept": "application/json"}
    while True:
        await asyncio.sleep(due_s - clock())
        asked_s, failure = clock(), ""
        try:
            async with session.get(url + "/balance", headers=headers, timeout=timeout) as response:
                await response.read()
                failure = "" if response.status == 200 else str(response.status)
        except TimeoutError:
            failure = "timeout"
        except (aiohttp.ClientError, OSError):
            failure = "reset"
        run.balance.asked_ms.append((clock() - asked_s) * 1e3)
        if failure:
            run.balance.failures[failure] += 1
        due_s = max(due_s + 1, clock())


async def read_stats(bank_url: str) -> dict[str, Any]:
    """What the bank counts about itself."""
    timeout = aiohttp.ClientTimeout(total=STATS_PATIENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(bank_url + "/stats") as response:
        stats: dict[str, Any] = await response.json()
        return stats


async def watch(run: CrowdRun, say: Callable[[str], None], every_s: float = 2.0) -> None:
    """Say in one line what is going on, again and again."""
    clock = asyncio.get_running_loop().time
    asked = failed = 0
    while True:
        await asyncio.sleep(every_s)
        times_ms, failures = run.balance.asked_ms[asked:], run.balance.failures.total() - failed
        asked, failed = asked + len(times_ms), failed + failures
        balance = f"balance {max(times_ms):5.0f} ms" if times_ms else "balance no answer"
        counts = ((outcome, run.tally.outcomes[outcome]) for outcome in Outcome)
        ended = " ".join(f"{outcome} {count}" for outcome, count in counts if count)
        say(
            f"{clock() - run.began_s:4.0f} s | arrived {run.tally.arrived} | in line {run.tally.waiting}"
            f" | at the form {run.tally.inside} | {ended or 'nobody served yet'} | failed requests {run.tally.failures.total()}"
            f" | {balance}, failed {failures}"
        )


async def _main(options: argparse.Namespace, crowd: CrowdSettings) -> int:
    if options.bank_url:  # asked before the crowd is sent: a bank that cannot be asked later would cost the report
        try:
            await read_stats(options.bank_url)
        except (aiohttp.ClientError, OSError, ValueError) as fault:
            print(f"{options.bank_url}/stats cannot be asked: {fault}", file=sys.stderr)
            return 1
    run = CrowdRun(crowd)
    owner = Owner()
    owner.start(watch(run, lambda line: print(line, flush=True)), "watch")
    try:
        await run_crowd(run, tuple(options.url), options.seconds)
    finally:
        await owner.close()
    entries: list[Entry] = read_entries(options.entries) if options.entries else []
    stats = await read_stats(options.bank_url) if options.bank_url else {}
    door = Door(options.rate, options.burst) if options.rate else None
    report = summarise(run, entries, stats, door)
    print(format_report([report]))
    if options.json:
        options.json.write_text(json.dumps(as_json(report), indent=2))
    return 0


def main(arguments: list[str]) -> int:
    """Send a crowd to any address, with or without a gateway before it."""
    parser = Parser("python -m gateway.demo.crowd", __doc__)
    parser.add_argument(
        "--url", type=web_address, action="append", required=True, help="where it goes; again for more gateways"
    )
    add_crowd_options(parser, CrowdSettings())
    seconds = number(1, SECONDS_MAX)
    parser.add_argument("--seconds", type=seconds, default=300.0, help="the run ends then at the latest")
    parser.add_argument("--bank-url", type=web_address, help="the bank itself, for its own figures")
    parser.add_argument("--entries", type=file_to_read, help="the bank's entry log, if it can be read from here")
    rate = number(0, RATE_MAX)
    parser.add_argument("--rate", type=rate, default=0.0, help="the drain rate in entries/s, to check promise 1 with")
    parser.add_argument("--burst", type=number(0, 10 * RATE_MAX), default=0.0, help="the burst that goes with it")
    parser.add_argument("--json", type=file_to_write, help="write the report there too")
    options = parser.parse_args(arguments)
    return uvloop.run(_main(options, crowd_settings(parser, options, CrowdSettings())))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
