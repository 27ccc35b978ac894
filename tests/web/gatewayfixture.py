"""Real gateways for tests: a bank whose answers a test sets, visitors that keep cookies, gateways in one loop."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from gateway.app import Gateway
from gateway.model import Config, Match, Rate, Room, Server, Tokens, Upstream
from gateway.rules.keys import new_key_file
from gateway.web.openapi import status_schema
from tests.conftest import RedisServer, make_room

DEADLINE_S = 8.0
STATUS = jsonschema.Draft202012Validator(status_schema())
NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Accept": "text/html"}
FORM = {"Accept": "text/html", "Content-Type": "application/x-www-form-urlencoded"}
APP = {"Waitroom-Transport": "header"}
QUICK = Rate(100_000, "s")  # a door that never makes a test wait
SHUT = Rate(1, "h")  # a door that opens once an hour: called ones stand there, the others wait
Sent = Mapping[str, str] | Iterable[tuple[str, str]]
_names = count(1)


async def until(is_so: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Poll for a state; fail when it does not come."""
    end = time.monotonic() + deadline_s
    while not is_so():
        assert time.monotonic() < end, "the state did not come"
        await asyncio.sleep(0.01)


async def until_answer(
    ask: Callable[[], Awaitable[Answer]], is_it: Callable[[Answer], bool], deadline_s: float = DEADLINE_S
) -> Answer:
    """Ask again until the answer is the one that is waited for."""
    end = time.monotonic() + deadline_s
    while not is_it(answer := await ask()):
        assert time.monotonic() < end, f"the last answer was {answer}"
        await asyncio.sleep(0.02)
    return answer


def protecting(name: str, **changes: object) -> Room:
    """A room of an id that no other test uses, before `/{id}/*`."""
    room_id = f"{name}-{next(_names)}"
    changes = {"drain_rate": QUICK, "burst": 100_000, "active_max": 100_000} | changes
    return make_room(room_id, **({"match": (Match(f"/{room_id}/*"),), "entry": f"/{room_id}/"} | changes))


# --- the bank --------------------------------------------------------------------------------------------------------


@dataclass
class ManualBank:
    """An upstream that records what reaches it and answers as the test says; `play` may take over."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"the bank"
    requests: list[tuple[str, str, CIMultiDictProxy[str]]] = field(default_factory=list)
    play: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]] | None = None
    url: str = ""
    _runner: web.ServerRunner | None = None

    async def open(self, tls: ssl.SSLContext | None = None) -> None:
        """With `tls` it calls itself localhost."""
        self._runner = web.ServerRunner(web.Server(self._serve, auto_decompress=False), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls).start()
        start = "http://127.0.0.1" if tls is None else "https://localhost"
        self.url = f"{start}:{self._runner.addresses[0][1]}"

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append((request.method, request.raw_path, request.headers))
        if self.play is not None:
            return await self.play(request)
        await request.read()
        return web.Response(status=self.status, headers=self.headers, body=self.body)

    @property
    def last(self) -> CIMultiDictProxy[str]:
        return self.requests[-1][2]

    def reset(self) -> None:
        self.status, self.headers, self.body, self.play = 200, {}, b"the bank", None
        self.requests.clear()

    async def close(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()


async def manual_bank() -> AsyncIterator[ManualBank]:
    """As a fixture: one of its own for each test."""
    bank = ManualBank()
    await bank.open()
    yield bank
    await bank.close()


# --- visitors --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def cookies(self) -> list[str]:
        return self.headers.getall("Set-Cookie", [])


class Visitor:
    """A client that keeps cookies like a browser behind TLS would, and remembers what it was told to keep."""

    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self.port = port
        self.cookies: dict[str, str] = {}
        self.headers: dict[str, str] = {}

    async def ask(self, method: str, target: str, headers: Sent | None = None, **options: Any) -> Answer:
        sent: CIMultiDict[str] = CIMultiDict({"Host": "bank.example"})
        sent.update(self.headers)
        if self.cookies:
            sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent.extend(headers or ())
        url = URL.build(scheme="http", host="127.0.0.1", port=self.port, path=target, encoded=True)
        async with self._session.request(method, url, headers=sent, allow_redirects=False, **options) as answer:
            got = Answer(answer.status, answer.headers, await answer.read())
        for cookie in got.cookies:
            self._keep(cookie)
        return got

    def _keep(self, cookie: str) -> None:
        pair, *attributes = cookie.split("; ")
        name, _, value = pair.partition("=")
        if "Max-Age=0" in attributes:
            self.cookies.pop(name, None)
        else:
            self.cookies[name] = value

    async def get(self, target: str, headers: dict[str, str] | None = None) -> Answer:
        return await self.ask("GET", target, headers)

    async def open(self, target: str) -> Answer:
        """As a browser that goes to an address."""
        return await self.ask("GET", target, NAVIGATION)

    async def join(self, room: Room, key: str | None = None, headers: dict[str, str] | None = None) -> Answer:
        return await self.ask("POST", f"/_waitroom/{room.id}/ticket", headers, json={} if key is None else {"key": key})

    async def see(self, room: Room, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """The status, which must be what the contract says it is."""
        answer = await self.get(f"/_waitroom/{room.id}/status", headers)
        assert answer.status == 200, answer
        STATUS.validate(answer.json)
        return answer.json

    async def claim(self, room: Room, headers: dict[str, str] | None = None) -> Answer:
        return await self.ask("POST", f"/_waitroom/{room.id}/admission", headers)

    async def enter(self, room: Room, key: str | None = None) -> Answer:
        """Join, wait to be called, and claim."""
        joined = await self.join(room, key)
        assert joined.status in {200, 201}, joined
        return await until_answer(lambda: self.claim(room), lambda answer: answer.status == 200)


# --- gateways --------------------------------------------------------------------------------------------------------


class House:
    """Gateways of one configuration on one Redis, the bank behind them, and the visitors before them."""

    def __init__(self, config: Config, bank: ManualBank, session: aiohttp.ClientSession) -> None:
        self.config = config
        self.bank = bank
        self.session = session
        self.gateways: list[Gateway] = []

    async def start(self, **server: Any) -> Gateway:
        """One more gateway, with a state folder of its own unless it is told one."""
        folder = server.pop("state_dir", f"{self.config.server.state_dir}/{len(self.gateways)}")
        gateway = Gateway(replace(self.config, server=replace(self.config.server, state_dir=folder, **server)))
        await gateway.start()
        self.gateways.append(gateway)
        return gateway

    async def stop(self, gateway: Gateway) -> None:
        self.gateways.remove(gateway)
        await gateway.stop()

    async def kill(self, gateway: Gateway) -> None:
        """As `kill -9` would: nothing is flushed, nothing is saved, connections are cut."""
        self.gateways.remove(gateway)
        await gateway.owner.close()
        await asyncio.gather(*(listener.close(0.01) for listener in gateway._listeners))
        await gateway._upstreams.close()
        assert gateway._connection is not None
        await gateway._connection.close()

    @property
    def gateway(self) -> Gateway:
        return self.gateways[0]

    def visitor(self, gateway: Gateway | None = None, /, **headers: str) -> Visitor:
        visitor = Visitor(self.session, (gateway or self.gateway).ports[0])
        visitor.headers = headers
        return visitor

    def queue(self, room: Room, gateway: Gateway | None = None) -> Any:
        return (gateway or self.gateway)._desks[room.id].queue

    async def idle(self, *rooms: Room) -> None:
        """Wait until every gateway's board says that nobody waits."""
        await self.state("idle", *rooms)

    async def state(self, state: str, *rooms: Room) -> None:
        desks = [gateway._desks[room.id] for gateway in self.gateways for room in rooms]
        await until(lambda: all(desk.room_state() == state for desk in desks))

    async def patch(self, room: Room, gateway: Gateway | None = None, /, **changes: Any) -> None:
        """An operator's change, by the operator port."""
        port = (gateway or self.gateway).ports[1]
        async with self.session.patch(f"http://127.0.0.1:{port}/api/rooms/{room.id}", json=changes) as answer:
            assert answer.status == 200, await answer.text()

    async def post(self, room: Room, what: str, document: dict[str, Any]) -> None:
        port = self.gateway.ports[1]
        async with self.session.post(f"http://127.0.0.1:{port}/api/rooms/{room.id}/{what}", json=document) as answer:
            assert answer.status in {200, 204}, await answer.text()

    async def close(self) -> None:
        for gateway in list(self.gateways):
            await self.stop(gateway)


@asynccontextmanager
async def opened(
    redis_url: str,
    folder: Path,
    rooms: Iterable[Room],
    *,
    gateways: int = 1,
    upstream: dict[str, Any] | None = None,
    default: bool = True,
    **server: Any,
) -> AsyncIterator[House]:
    """A house with so many gateways, whose names are bank.example and shop.example."""
    bank = ManualBank()
    await bank.open()
    key_file = folder / "signing.pem"
    if not key_file.exists():
        new_key_file(key_file, "ES256")
    settings: dict[str, Any] = {
        "public": ("127.0.0.1", 0),
        "operator": ("127.0.0.1", 0),
        "hosts": ("bank.example", "shop.example"),
    }
    settings |= {"state_dir": str(folder / "state"), "stop_grace_s": 0.0} | server
    config = Config(
        server=Server(**settings),
        redis_url=redis_url,
        tokens=Tokens(str(key_file)),
        rooms=tuple(rooms),
        upstreams={"bank": Upstream("bank", (bank.url,), **(upstream or {}))},
        default_upstream="bank" if default else None,
    )
    jar = aiohttp.DummyCookieJar()
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(
        cookie_jar=jar, connector=connector, skip_auto_headers=("Accept", "User-Agent")
    ) as session:
        house = House(config, bank, session)
        try:
            for _ in range(gateways):
                await house.start()
            yield house
        finally:
            await house.close()
            await bank.close()


OpenHouse = Callable[..., Awaitable[House]]


async def house_opener(valkey: RedisServer, tmp_path: Path) -> AsyncIterator[OpenHouse]:
    """As a fixture: opens houses before the session's Valkey, with the rooms given and the options of `opened`."""
    async with AsyncExitStack() as stack:

        async def open_house(*rooms: Room, **options: Any) -> House:
            return await stack.enter_async_context(opened(valkey.url, tmp_path, rooms, **options))

        yield open_house
