"""Owns the demo bank: a point cash-out and a balance query that share eight workers, and its own counts."""

from __future__ import annotations

import json
import re
import secrets
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import uvloop
from aiohttp import web

from gateway.demo import pages
from gateway.demo.core import Core, CoreFullError
from gateway.demo.entrylog import EntryLog
from gateway.demo.figures import percentile
from gateway.demo.ledger import Ledger, Paid, Refusal
from gateway.demo.options import Parser, file_to_read, whole

ACCOUNT_COOKIE: Final = "bank_account"
BALANCE_TIMES_MAX: Final = 100_000
BACKLOG: Final = 4_096  # the kernel's queue must not be the limit that is shown: the bank's own is
NAME_LENGTH_MAX: Final = 64
WHOLE_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")  # ASCII digits, below a billion

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class BankSettings:
    """What the bank can take. 8 / 0.05 s = 160 transactions a second; 1,000 queued are 6 s of waiting."""

    folder: Path
    signing_key: bytes = b""
    workers: int = 8
    transaction_s: float = 0.05
    queue_max: int = 1_000


class Bank:
    """The handlers and all they hold open."""

    def __init__(self, settings: BankSettings) -> None:
        self._ledger = Ledger(settings.folder / "bank.sqlite", time.time)
        self._core = Core(settings.workers, settings.transaction_s, settings.queue_max)
        self._log = EntryLog(settings.folder / "entries.jsonl", settings.signing_key, time.monotonic, time.time)
        self._counts: Counter[str] = Counter()
        self._balance_ms: deque[float] = deque(maxlen=BALANCE_TIMES_MAX)

    async def home(self, _request: web.Request) -> web.Response:
        return _html(pages.home_page())

    async def balance(self, request: web.Request) -> web.Response:
        """Not protected, but the same core: what the crowd takes is missing here."""
        began_s = time.monotonic()
        account = _account(request)
        points = await self._core.run(lambda: self._ledger.points_of(account))
        self._balance_ms.append((time.monotonic() - began_s) * 1e3)
        return web.json_response({"account": account, "points": points})

    async def cashout(self, request: web.Request) -> web.Response:
        account = _account(request)
        self._log.note(request.headers, account)
        points = await self._core.run(lambda: self._ledger.points_of(account))
        if _wants_html(request):
            answer = _html(pages.cashout_page(account, points, secrets.token_urlsafe(16)))
        else:
            answer = web.json_response({"account": account, "points": points})
        if ACCOUNT_COOKIE not in request.cookies:
            answer.set_cookie(ACCOUNT_COOKIE, account, httponly=True, samesite="Lax")
        return answer

    async def pay(self, request: web.Request) -> web.Response:
        account = _account(request)
        self._log.note(request.headers, account)
        fields = await _fields(request)
        key = request.headers.get("Idempotency-Key") or fields.get("payout", "")
        amount = fields.get("points", "")
        if not 0 < len(key) <= NAME_LENGTH_MAX or not WHOLE_NUMBER.fullmatch(amount):
            return _say(
                request, 400, "points must be a whole number from 1 up, with an Idempotency-Key or a payout field"
            )
        points = int(amount)
        outcome = await self._core.run(lambda: self._ledger.pay(account, points, key))
        match outcome:
            case Paid():
                self._counts["paid"] += not outcome.is_replay
                # The visitor is done: the gateway may give the slot to the next one.
                return _receipt(request, outcome, {"Waitroom-Release": "1"})
            case Refusal.TOO_FEW_POINTS:
                return _say(request, 409, "not that many points")
            case Refusal.KEY_REUSED:
                return _say(request, 422, "this payout key was used for another account or amount")

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
        counts = {name: self._counts[name] for name in ("served", "failed", "refused", "abandoned", "paid")}
        seen = {"unsigned": self._log.unsigned, "entries": self._log.entries, "queued": self._core.taken}
        return web.json_response({**counts, **seen, "balance": balance, "ledger": asdict(audit)})

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Count how each request of the core ended; worked for, but with nobody left to answer, is abandoned."""
        if request.path not in {"/balance", "/points/cashout/", "/points/cashout/pay"}:
            return await handler(request)
        self._counts[request.path] += 1
        try:
            answer = await handler(request)
        except CoreFullError:
            self._counts["refused"] += 1
            return _say(request, 503, "the bank is overloaded", {"Retry-After": "1"})
        except Exception:
            self._counts["failed"] += 1
            raise
        is_gone = request.transport is None or request.transport.is_closing()
        self._counts["abandoned" if is_gone else "served"] += 1
        return answer

    async def close(self, _app: web.Application) -> None:
        self._core.close()
        self._ledger.close()
        self._log.close()


def build_bank(settings: BankSettings) -> web.Application:
    """The bank as an aiohttp application; its files are in `settings.folder`."""
    bank = Bank(settings)
    app = web.Application(middlewares=[bank.count])
    app.add_routes(
        [
            web.get("/", bank.home),
            web.get("/balance", bank.balance),
            web.get("/points/cashout/", bank.cashout),
            web.post("/points/cashout/pay", bank.pay),
            web.get("/points/cashout/static/{name}", bank.static),
            web.get("/stats", bank.stats),
        ]
    )
    app.on_cleanup.append(bank.close)
    return app


def _account(request: web.Request) -> str:
    """Who the customer is to the bank; a visitor that is not logged in becomes a guest."""
    name = request.cookies.get(ACCOUNT_COOKIE, "")
    return name if 0 < len(name) <= NAME_LENGTH_MAX else f"guest-{secrets.token_hex(6)}"


async def _fields(request: web.Request) -> Mapping[str, str]:
    if request.content_type != "application/json":
        return {name: str(value) for name, value in (await request.post()).items()}
    try:
        body = json.loads(await request.text())
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in body.items()} if isinstance(body, dict) else {}


def _wants_html(request: web.Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def _html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def _say(request: web.Request, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> web.Response:
    if _wants_html(request):
        return _html(pages.sentence_page("데모 은행 · Demo bank", sentence), status, headers)
    return web.json_response({"error": sentence}, status=status, headers=headers)


def _receipt(request: web.Request, paid: Paid, headers: Mapping[str, str]) -> web.Response:
    if _wants_html(request):
        return _html(pages.receipt_page(paid.points, paid.is_replay), 200, headers)
    return web.json_response({"paid": paid.points, "replay": paid.is_replay}, headers=headers)


def main(arguments: list[str]) -> int:
    """Serve the bank until it is told to stop."""
    parser = Parser("python -m gateway.demo.bank", __doc__)
    parser.add_argument("--port", type=whole(1, 65_535), default=9000, help="(%(default)s)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on: this machine only (%(default)s)")
    parser.add_argument("--folder", type=Path, help="where the books and the entry log are kept (default: a new one)")
    parser.add_argument(
        "--signing-key-file", type=file_to_read, help="hex of the key that the gateway signs requests with"
    )
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
    app = build_bank(BankSettings(folder, key))
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
