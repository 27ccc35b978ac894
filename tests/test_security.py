"""Attacks that go through the whole house: what leaks, what strangers can learn or grow, and who can read what lies about."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.app import Gateway
from gateway.logs import Fields
from gateway.model import Operator, Role
from tests.conftest import RedisServer, redis_server
from tests.fuzz.tokens import HOSTILE
from tests.fuzz.tokens import Tokens as NamedTokens
from tests.web.gatewayfixture import NAVIGATION, House, OpenHouse, Visitor, house_opener, opened, protecting

open_house = pytest.fixture(house_opener)
PASSWORD = "redis-hunter2-hunter2"
UPSTREAM_KEY = b"upstream-hunter2-hunter2-hunter2"
CUSTOMER_SECRET = b"customer-hunter2-hunter2-hunter2"
OPERATOR_TOKEN = "operator-hunter2-hunter2-hunter2"
VISITOR_KEY = "visitor-hunter2-hunter2"


# --- secrets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded_redis() -> Iterator[RedisServer]:
    server = redis_server("valkey", options=("--requirepass", PASSWORD))
    server.start()
    yield server
    server.remove()


class Written(logging.Handler):
    """Keeps every line as it would be written."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(Fields().format(record))


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """What is logged, from the most talkative level on."""
    caplog.set_level(logging.DEBUG)
    written = Written()
    logging.getLogger().addHandler(written)
    yield written.lines
    logging.getLogger().removeHandler(written)


def told_secrets(text: str, secrets: dict[str, str]) -> list[str]:
    return [name for name, secret in secrets.items() if secret in text]


async def walk(visitor: Visitor, room: Any) -> None:
    """A visitor with a key enters and passes; then with bad tokens and a body that is none."""
    await visitor.enter(room, VISITOR_KEY)
    await visitor.get(f"/{room.id}/a")
    await visitor.ask("POST", f"/_waitroom/{room.id}/ticket", {"Content-Type": "application/json"}, data=b'{"key": ')
    await visitor.ask("GET", "/%00" + VISITOR_KEY, NAVIGATION)


async def test_no_secret_is_in_logs_metrics_answers_or_reprs(
    guarded_redis: RedisServer, tmp_path: Path, lines: list[str]
) -> None:
    """Whatever is asked, refused or broken: no password, key, token or visitor's key is told to who reads along."""
    room = protecting("secrets")
    asked = replace(room, customer_header="X-Customer", customer_secret=CUSTOMER_SECRET, id="customers", match=())
    url = guarded_redis.url.replace("unix://", f"unix://:{PASSWORD}@")
    async with opened(url, tmp_path, [room, asked], upstream={"signing_key": UPSTREAM_KEY}) as house:
        operators = (Operator("sre", Role.OPERATOR, OPERATOR_TOKEN),)
        gateway = Gateway(
            replace(
                house.config, operators=operators, server=replace(house.config.server, state_dir=str(tmp_path / "2"))
            )
        )
        await gateway.start()
        house.gateways.append(gateway)
        visitor = house.visitor(gateway)
        await walk(visitor, room)
        waiting = house.visitor(gateway)
        await waiting.join(room)
        port = f"http://127.0.0.1:{gateway.ports[1]}"
        texts = []
        for path in ("/metrics", "/api/rooms", f"/api/rooms/{room.id}", "/"):
            for token in (OPERATOR_TOKEN, OPERATOR_TOKEN[:-1]):
                headers = {"Authorization": f"Bearer {token}"}
                async with house.session.get(port + path, headers=headers) as answer:
                    texts.append(await answer.text())
        asked_for = ("/_waitroom/jwks.json", "/_waitroom/openapi.json", f"/_waitroom/{room.id}/board", "/nothing%00")
        texts += [(await visitor.get(path)).text for path in asked_for]
        await house.bank.close()
        texts.append((await visitor.get("/free")).text)
        guarded_redis.kill()
        texts.append((await visitor.get(f"/_waitroom/{room.id}/status")).text)
        texts += map(
            repr,
            (house.config, gateway.config, gateway.keyring.signing, gateway.config.operators, gateway.config.rooms),
        )
        secrets = {
            "redis": PASSWORD,
            "upstream": UPSTREAM_KEY.decode(),
            "customer": CUSTOMER_SECRET.decode(),
            "operator": OPERATOR_TOKEN[:-1],
            "visitor": VISITOR_KEY,
            "signing key": (tmp_path / "signing.pem").read_text().splitlines()[1],
            "ticket key": gateway.keyring.signing.ticket_secret().hex(),
            **{name: value.rpartition(".")[2] for name, value in (visitor.cookies | waiting.cookies).items()},
        }
        assert len(secrets) >= 9
    assert told_secrets("\n".join(texts), secrets) == []
    assert len(lines) > 5
    assert told_secrets("\n".join(lines), secrets) == []
    assert told_secrets(f"x {PASSWORD} y", secrets) == ["redis"]


# --- what strangers can grow or learn -------------------------------------------------------------------------------


async def labels_of(house: House) -> set[str]:
    async with house.session.get(f"http://127.0.0.1:{house.gateway.ports[1]}/metrics") as answer:
        text = await answer.text()
    return set(re.findall(r"^(waitroom_\w+(?:\{[^}]*\})?) ", text, re.MULTILINE))


async def test_nothing_that_is_asked_becomes_a_label(open_house: OpenHouse) -> None:
    """A series a path, host, method or token would fill Prometheus, and tell who was here."""
    room = protecting("labels")
    house = await open_house(room)
    visitor = house.visitor()
    await walk(visitor, room)  # what is counted by script or reason begins with the first of its kind
    await house.visitor().ask("POST", f"/_waitroom/{room.id}/leave")
    before = await labels_of(house)
    for number in range(20):
        for method, target in (
            ("GET", f"/{number}"),
            (f"X{number}", "/free"),
            ("GET", f"/{room.id}/{number}"),
            ("POST", f"/_waitroom/no-{number}/ticket"),
        ):
            await visitor.ask(method, target, {"Waitroom-Ticket": f"t{number}", "User-Agent": f"u{number}"})
        await house.visitor(Host=f"h{number}.example").get("/")
        await house.visitor().join(room, f"{number:032}")
    assert len(before) > 50
    assert await labels_of(house) - before == set()


async def test_a_bad_token_tells_nothing_of_good_ones(open_house: OpenHouse, tmp_path: Path) -> None:
    """Enumeration: whether a token is forged, expired, of another room or nonsense, the answer is the same to the letter."""
    room = protecting("told")
    house = await open_house(room)
    tokens = NamedTokens(tmp_path, house.gateway._desks)
    answers = set()
    for name in HOSTILE.keys() - {"old-epoch"}:  # of the epoch before the first
        bearing = tokens._named[room.id, name]
        if bearing.isprintable() and not bearing.startswith(" "):
            answer = await house.visitor(**{"Waitroom-Admission": bearing}).get(f"/_waitroom/{room.id}/status")
            answers.add((answer.status, answer.body))
    assert len(answers) == 1
    assert next(iter(answers))[0] == 404


# --- what lies about -------------------------------------------------------------------------------------------------


def open_to_others(folder: Path) -> set[str]:
    """Files below it that others may read or write, those behind a closed door not counted."""
    if folder.stat().st_mode & 0o077 == 0:
        return set()
    return {one.name for one in folder.iterdir() if not one.is_dir() and one.stat().st_mode & 0o077} | {
        name for one in folder.iterdir() if one.is_dir() for name in open_to_others(one)
    }


@pytest.fixture
def _careless() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_careless")
async def test_state_and_the_embedded_server_are_their_owners_alone(tmp_path: Path) -> None:
    """No port, no file and no socket through which another user of the machine could move a place or a setting."""
    state = tmp_path / "state"
    async with opened("embedded", tmp_path, [room := protecting("kept")], state_dir=str(state)) as house:
        await house.visitor().enter(room)
        server = house.gateway._connection
        assert server is not None
        socket = Path((next(state.rglob("socket"))).read_text())
        assert socket.parent.stat().st_mode & 0o077 == 0
        with redis.Redis(unix_socket_path=str(socket)) as client:
            assert client.config_get("port")["port"] == "0"
    assert list(state.rglob(f"{room.id}.json"))
    assert open_to_others(state) == set()
    (state / "planted").touch(0o666)
    state.chmod(0o755)
    assert "planted" in open_to_others(state)
