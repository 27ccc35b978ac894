"""A gateway, the recording bank behind it and one connection before it, all in one loop: cases go through, and each is judged."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from gateway.app import Gateway
from gateway.model import Bypass, Config, Match, Room, Server, Upstream
from gateway.model import Tokens as TokenSettings
from gateway.rules.keys import new_key_file
from tests.conftest import make_room
from tests.fuzz.bank import CASE, Field, RecordingBank
from tests.fuzz.cases import FOLDERS, JOINED, Case, case_of
from tests.fuzz.judge import HOSTS, Broken, Happening, judge
from tests.fuzz.tokens import NAMES, SESSION_S, Tokens
from tests.fuzz.wire import DEADLINE_S, Desync, Got, Wire
from tests.web.gatewayfixture import QUICK, until

RENEWED_CASES: Final = 1_000  # tokens and tickets: they lapse, are spent, and are dismissed
LONG: Final = {"session_s": SESSION_S, "session_max_s": 4 * SESSION_S}


def rooms(now_s: float) -> tuple[Room, ...]:
    tomorrow = int(now_s) + 86_400
    bypass = (
        Bypass("static", path="/points/cashout/static/*"),
        Bypass("rates", path="/points/cashout/rates"),
        Bypass("branches", source="192.0.2.0/24"),
    )
    open_door = {"drain_rate": QUICK, "burst": 100_000, "active_max": 10**6}
    changes: dict[str, dict[str, object]] = {
        "cashout": {"bypass": bypass, "opens_at_s": tomorrow},
        "deposit": {"match": (Match("/deposit/*", "bank.example"),), "opens_at_s": tomorrow},
        "open": open_door,
        "lounge": open_door,
    }
    return tuple(
        make_room(room, **({"match": (Match(f"{folder}/*"),), "entry": f"{folder}/"} | changes[room] | LONG))
        for room, folder in FOLDERS.items()
    )


def wired(text: str) -> bytes:
    """Characters up to 255 as bytes, so that a case can spell any byte; others as UTF-8."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


class Run:
    """`try_all(choices)` sends one case for each; `tally` is what it came to."""

    def __init__(self, gateway: Gateway, bank: RecordingBank, tokens: Tokens) -> None:
        self.tally: Counter[str] = Counter()
        self.bank = bank
        self.tokens = tokens
        self._wire = Wire(gateway.ports[0])
        self._count = 0
        self._last: Case | None = None

    async def try_all(self, choices: Sequence[bytes]) -> None:
        for one in choices:
            await self.try_one(case_of(one, NAMES))

    async def try_one(self, case: Case) -> None:
        self._count += 1
        number = self._count
        if number % RENEWED_CASES == 0:
            self.tokens.renew()
            await self.give_tickets()
        fields = self._fields(case, number)
        target = wired(case.target)
        self.bank.parts[number] = case.part
        wire = request_of(case, target, fields)
        got = None
        try:
            async with asyncio.timeout(DEADLINE_S):
                if case.framing == "cut":
                    await self._wire.begin(wire)
                else:
                    got = await self._ask(wire, case.method, number)
        except TimeoutError:
            raise Broken(f"no answer within {DEADLINE_S:g} s\n  {case}") from None
        except Desync as fault:
            self._wire.close()
            raise Broken(f"{fault}\n  {case}\n  behind: {self._last}") from None
        self._last = case
        if self.bank.seen.keys() - {number}:
            raise Broken(f"reached the bank after all: {self.bank.seen}\n  {case}")
        it = Happening(case, target.strip(b" "), fields, self.bank.seen.pop(number, []), got, self.tokens)
        if self.bank.strays:
            raise Broken(f"the bank was asked what nobody asked: {self.bank.strays}\n  {case}")
        judge(it, self.tally)
        self.tally["cases"] += 1
        if case.part == "dismissing" and it.seen and it.seen[0].values(b"waitroom-subject"):
            self._dismiss(it.seen[0].values(b"waitroom-subject")[0].decode())

    async def _ask(self, wire: bytes, method: str, number: int) -> Got | None:
        """Once more where a connection that was kept ended under a request that nobody has seen, as any client does."""
        was_open = self._wire.is_open
        got = await self._wire.ask(wire, method)
        if got is None and was_open and number not in self.bank.seen:
            self.tally["asked anew"] += 1
            got = await self._wire.ask(wire, method)
        return got

    def _dismiss(self, subject: str) -> None:
        for text in [text for text, (_, known) in self.tokens.good.items() if known == subject]:
            self.tokens.dismiss(text)

    def _fields(self, case: Case, number: int) -> list[Field]:
        cookies = []
        fields = [(wired(name), wired(value)) for name, value in case.fields]
        for carrier, bearing in case.bearings:
            way, _, name = carrier.partition(":")
            text = self.tokens.text(bearing)
            if way == "cookie":
                cookies.append(f"{name}={text}")
            else:
                fields.append((wired(name), wired(text)))
        if cookies:
            fields.insert(len(fields) // 2, (b"Cookie", wired("; ".join(cookies))))
        if case.host or case.version != "HTTP/1.0":
            fields.insert(0, (b"Host", wired(case.host)))
        return [*fields, (CASE, str(number).encode())]

    async def give_tickets(self) -> None:
        """Two places in each room, by keys of their own."""
        for room in JOINED:
            for name in ("ticket", "ticket 2"):
                head = f"POST /_waitroom/{room}/ticket HTTP/1.1\r\nHost: bank.example\r\nContent-Length: 0\r\n\r\n"
                got = await self._wire.ask(head.encode(), "POST")
                assert got is not None
                assert got.status == 201, got
                cookie = got.values(b"set-cookie")[0].decode().partition(";")[0]
                self.tokens.give(room, name, cookie.partition("=")[2])

    def close(self) -> None:
        self._wire.close()


def request_of(case: Case, target: bytes, fields: Sequence[Field]) -> bytes:
    lines = [b"%b %b %b" % (wired(case.method), target, case.version.encode()), *map(b": ".join, fields)]
    match case.framing:
        case "none":
            return b"\r\n".join((*lines, b"", b""))
        case "counted":
            return b"\r\n".join((*lines, b"Content-Length: %d" % len(case.body), b"", case.body))
        case "cut":
            return b"\r\n".join((*lines, b"Content-Length: %d" % (len(case.body) + 9), b"", case.body))
        case _:
            middle = len(case.body) // 2
            pieces = (case.body[:middle], case.body[middle:])
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece)
            return b"\r\n".join((*lines, b"Transfer-Encoding: chunked", b"", chunks + b"0\r\n\r\n"))


@asynccontextmanager
async def opened(redis_url: str, folder: Path) -> AsyncIterator[Run]:
    """A gateway before the recording bank, its rooms ready and their tickets given."""
    bank = RecordingBank()
    await bank.open()
    new_key_file(folder / "signing.pem", "ES256")
    loopback = ("127.0.0.1", 0)
    gateway = Gateway(
        Config(
            server=Server(loopback, loopback, HOSTS, state_dir=str(folder / "state"), stop_grace_s=0.0),
            redis_url=redis_url,
            tokens=TokenSettings(str(folder / "signing.pem")),
            rooms=rooms(time.time()),
            upstreams={"bank": Upstream("bank", (bank.url,), signing_key=b"k" * 32)},
            default_upstream="bank",
        )
    )
    await gateway.start()
    try:
        desks = gateway._desks
        for desk in desks.values():  # the next reset leaves an epoch behind whose tokens are old
            await until(lambda desk=desk: desk.queue.board is not None)  # type: ignore[misc]
            epoch, _ = await desk.queue.reset(void_admissions=True)
            await until(lambda desk=desk, epoch=epoch: desk.queue.memory.admission_epoch == epoch)  # type: ignore[misc]
        states = {"cashout": "scheduled", "deposit": "scheduled", "open": "idle", "lounge": "idle"}
        await until(lambda: {room: desk.room_state() for room, desk in desks.items()} == states)
        run = Run(gateway, bank, Tokens(folder, desks))
        await run.give_tickets()
        yield run
        run.close()
    finally:
        await gateway.stop()
        await bank.close()
