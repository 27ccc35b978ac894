"""Owns the demo bank: a point cash-out with opening hours, what else it sells, and its own counts; all share one core."""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from math import ceil
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from gateway.demo import forms, pages
from gateway.demo.books import Books
from gateway.demo.core import Core, CoreFullError
from gateway.demo.counter import CASHBACK, CASHBACK_WON, DEPOSIT, Desk, Till
from gateway.demo.entrylog import EntryLog
from gateway.demo.figures import percentile
from gateway.demo.hours import SEOUL, Hours
from gateway.demo.ledger import SCHEMA as LEDGER_SCHEMA
from gateway.demo.ledger import Ledger, Paid, Refusal
from gateway.demo.offers import SCHEMA as OFFERS_SCHEMA
from gateway.demo.offers import Offer
from gateway.demo.options import Parser, clock_time, file_to_read, moment, number, whole

BALANCE_TIMES_MAX: Final = 100_000
BACKLOG: Final = 4_096  # the kernel's queue must not be the limit that is shown: the bank's own is
CASHOUT: Final = "/points/cashout/"
CLOSED_RETRY_S_MAX: Final = 5  # people look again sooner than that, whatever a closed page says
# What goes to the core, and is counted by how it ended.
CORE_PATHS: Final = frozenset(
    {"/balance", "/payments", CASHOUT, f"{CASHOUT}pay", "/deposit/", "/deposit/apply", "/cashback/", "/cashback/claim"}
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class BankSettings:
    """What the bank can take. 8 / 0.05 s = 160 transactions a second; 1,000 queued are 6 s of waiting."""

    folder: Path
    signing_key: bytes = b""
    workers: int = 8
    transaction_s: float = 0.05
    queue_max: int = 1_000
    deposits: int = 1_000
    hours: Hours = field(default_factory=Hours)  # of the cash-out


class Bank:
    """The handlers and all they hold open."""

    def __init__(self, settings: BankSettings) -> None:
        self._books = Books(settings.folder / "bank.sqlite", LEDGER_SCHEMA + OFFERS_SCHEMA)
        self._ledger = Ledger(self._books, time.time)
        self._hours = settings.hours
        self._core = Core(settings.workers, settings.transaction_s, settings.queue_max)
        self._log = EntryLog(settings.folder / "entries.jsonl", settings.signing_key, time.monotonic, time.time)
        self._counts: Counter[str] = Counter()
        self._balance_ms: deque[float] = deque(maxlen=BALANCE_TIMES_MAX)
        self._deposits = Offer(self._books, DEPOSIT, settings.deposits, time.time)
        cashbacks = Offer(self._books, CASHBACK, None, time.time)
        shared = (self._core, self._log, self._counts)
        self.deposit = Desk(self._deposits, *shared, pages.deposit_page)
        self.cashback = Desk(cashbacks, *shared, lambda _: pages.cashback_page(CASHBACK_WON))
        self.till = Till(self._books, self._core)

    async def home(self, _request: web.Request) -> web.Response:
        return forms.html(pages.home_page())

    async def balance(self, request: web.Request) -> web.Response:
        """Not protected, but the same core: what the crowd takes is missing here."""
        began_s = time.monotonic()
        account = forms.account_of(request)
        points = await self._core.run(lambda: self._ledger.points_of(account))
        self._balance_ms.append((time.monotonic() - began_s) * 1e3)
        return web.json_response({"account": account, "points": points})

    async def cashout(self, request: web.Request) -> web.Response:
        account = forms.account_of(request)
        self._log.note(request.headers, account)
        points = await self._core.run(lambda: self._ledger.points_of(account))
        if forms.wants_html(request):
            answer = forms.html(pages.cashout_page(account, points, secrets.token_urlsafe(16)))
        else:
            answer = web.json_response({"account": account, "points": points})
        return forms.remember(request, answer, account)

    async def pay(self, request: web.Request) -> web.Response:
        account = forms.account_of(request)
        self._log.note(request.headers, account)
        fields = await forms.fields_of(request)
        key = request.headers.get("Idempotency-Key") or fields.get("payout", "")
        amount = fields.get("points", "")
        if not 0 < len(key) <= forms.NAME_LENGTH_MAX or not forms.WHOLE_NUMBER.fullmatch(amount):
            return forms.say(
                request, 400, "points must be a whole number from 1 up, with an Idempotency-Key or a payout field"
            )
        points = int(amount)
        due = self._hours.due(_now())
        day = due.isoformat() if due else ""
        outcome = await self._core.run(lambda: self._ledger.pay(account, points, key, day))
        match outcome:
            case Paid():
                self._counts["paid"] += not outcome.is_replay
                return _receipt(request, outcome, forms.RELEASE)
            case Refusal.TOO_FEW_POINTS:
                return forms.say(request, 409, "not that many points")
            case Refusal.KEY_REUSED:
                return forms.say(request, 422, "this payout key was used for another account or amount")

    def _closed(self, request: web.Request) -> web.Response | None:
        """Before the hour, a refusal that costs the core nothing."""
        now = _now()
        if not request.path.startswith(CASHOUT) or self._hours.is_open(now):
            return None
        self._counts["early"] += 1
        opens_at = self._hours.opens_at
        again_s = min(CLOSED_RETRY_S_MAX, ceil(self._hours.opens_in_s(now)))
        sentence = f"the cash-out opens at {opens_at:%H:%M:%S}" if opens_at else "the cash-out is closed"
        return forms.say(request, 403, sentence, {"Retry-After": str(again_s)})

    async def static(self, request: web.Request) -> web.Response:
        if request.match_info["name"] != "bank.css":
            raise web.HTTPNotFound
        return web.Response(text=pages.STYLE, content_type="text/css", headers={"Cache-Control": "max-age=600"})

    async def stats(self, _request: web.Request) -> web.Response:
        audit = self._ledger.audit()  # milliseconds, and it must answer when the core does not
        balance = {
            "asked": self._counts["/balance"],
            "answered": len(self._balance_ms),
            "p50_ms": round(percentile(self._balance_ms, 0.5), 1),
            "p99_ms": round(percentile(self._balance_ms, 0.99), 1),
        }
        names = ("served", "failed", "refused", "abandoned", "paid", "granted", "early")
        counts = {name: self._counts[name] for name in names}
        seen = {"unsigned": self._log.unsigned, "entries": self._log.entries, "queued": self._core.taken}
        offer = self._deposits
        sold = {"stock": offer.stock, "sold": offer.sold, "oversold": offer.oversold}
        return web.json_response({**counts, **seen, "balance": balance, "deposits": sold, "ledger": asdict(audit)})

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count how each request of the core ended; worked for, but with nobody left to answer, is abandoned."""
        if request.path not in CORE_PATHS:
            return await handler(request)
        if (closed := self._closed(request)) is not None:
            return closed
        self._counts[request.path] += 1
        try:
            answer = await handler(request)
        except CoreFullError:
            self._counts["refused"] += 1
            return forms.say(request, 503, "the bank is overloaded", {"Retry-After": "1"})
        except Exception:
            self._counts["failed"] += 1
            raise
        is_gone = request.transport is None or request.transport.is_closing()
        self._counts["abandoned" if is_gone else "served"] += 1
        return answer

    async def close(self, _app: web.Application) -> None:
        self._core.close()
        self._books.close()
        self._log.close()


def build_bank(settings: BankSettings) -> web.Application:
    """The bank as an aiohttp application; its files are in `settings.folder`."""
    bank = Bank(settings)
    app = web.Application(middlewares=[bank.count])
    app.add_routes(
        [
            web.get("/", bank.home),
            web.get("/balance", bank.balance),
            web.get(CASHOUT, bank.cashout),
            web.post(f"{CASHOUT}pay", bank.pay),
            web.get(f"{CASHOUT}static/{{name}}", bank.static),
            web.get("/deposit/", bank.deposit.show),
            web.post("/deposit/apply", bank.deposit.take),
            web.get("/cashback/", bank.cashback.show),
            web.post("/cashback/claim", bank.cashback.take),
            web.post("/payments", bank.till.pay),
            web.get("/stats", bank.stats),
        ]
    )
    app.on_cleanup.append(bank.close)
    return app


def _receipt(request: web.Request, paid: Paid, headers: Mapping[str, str]) -> web.Response:
    if forms.wants_html(request):
        return forms.html(pages.receipt_page(paid.points, paid.is_replay, paid.due), 200, headers)
    due = {"due": paid.due} if paid.due else {}
    return web.json_response({"paid": paid.points, "replay": paid.is_replay, **due}, headers=headers)


def _now() -> datetime:
    return datetime.fromtimestamp(time.time(), SEOUL)


def _add_limits(parser: Parser) -> None:
    """What it can take and what it has; the defaults are the demo's."""
    limits = BankSettings(Path())
    parser.add_argument(
        "--workers", type=whole(1, 64), default=limits.workers, help="of the core banking system (%(default)s)"
    )
    parser.add_argument(
        "--transaction-ms",
        type=number(0, 60_000),
        default=1e3 * limits.transaction_s,
        help="how long each transaction keeps a worker (%(default)g)",
    )
    parser.add_argument(
        "--queue-max", type=whole(0, 1_000_000), default=limits.queue_max, help="before the workers (%(default)s)"
    )
    parser.add_argument(
        "--deposits", type=whole(0, 1_000_000), default=limits.deposits, help="of the special offer (%(default)s)"
    )
    parser.add_argument(
        "--opens-at", type=moment, metavar="2021-01-05T11:00+09:00", help="the cash-out refuses before (always open)"
    )
    parser.add_argument(
        "--same-day-until", type=clock_time, metavar="20:00", help="later payouts wait a business day (none wait)"
    )


def main(arguments: list[str]) -> int:
    """Serve the bank until it is told to stop."""
    parser = Parser("python -m gateway.demo.bank", __doc__)
    parser.add_argument("--port", type=whole(1, 65_535), default=9000, help="(%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on: this machine only (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the books and the entry log are kept (default: a new one)")
    parser.add_argument(
        "--signing-key-file", type=file_to_read, help="hex of the key that the gateway signs requests with"
    )
    _add_limits(parser)
    options = parser.parse_args(arguments)
    folder = options.folder or Path(tempfile.mkdtemp(prefix="demo-bank-"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        key = bytes.fromhex(options.signing_key_file.read_text().strip()) if options.signing_key_file else b""
    except OSError as fault:
        parser.error(f"{fault.filename}: {fault.strerror}")
    except ValueError:
        parser.error(f"--signing-key-file: {options.signing_key_file} does not hold a key in hex")
    print(f"demo bank on http://{options.host}:{options.port}/, its books in {folder}", flush=True)
    hours = Hours(options.opens_at, options.same_day_until)
    limits = (options.workers, options.transaction_ms / 1e3, options.queue_max, options.deposits)
    app = build_bank(BankSettings(folder, key, *limits, hours))
    try:
        web.run_app(
            app,
            host=options.host,
            port=options.port,
            backlog=BACKLOG,
            shutdown_timeout=1,
            print=None,
            access_log=None,
            loop=uvloop.new_event_loop(),
        )
    except OSError as fault:
        print(f"port {options.port} on {options.host} cannot be listened on: {fault.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
