"""Tokens that do not count: whatever is wrong with one, its bearer is a new visitor, and nothing fails."""

from __future__ import annotations

import base64
import hmac
import json
from dataclasses import replace
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.model import Admission, Ticket
from gateway.rules.keys import load_key_file, new_key_file
from gateway.rules.tokens import Keyring
from tests.web.gatewayfixture import SHUT, House, OpenHouse, Room, house_opener, protecting, until, until_answer

open_house = pytest.fixture(house_opener)
ID = b"i" * 16


def segment(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def forge(kind: str, good: str, admission: Admission, keyring: Keyring, stranger: Keyring) -> str:
    """A token that must not count, made from one that does."""
    header, payload, signature = good.split(".")
    claims = jwt.decode(good, options={"verify_signature": False})
    key = keyring.signing
    match kind:
        case "empty":
            return ""
        case "nonsense":
            return "not-a-token"
        case "cut":
            return good[:-10]
        case "headless":
            return f".{payload}.{signature}"
        case "long":
            return good + "A" * 5000
        case "changed":
            return f"{header}.{segment(claims | {'exp': claims['exp'] + 9999})}.{signature}"
        case "none":
            return f"{segment({'alg': 'none', 'kid': key.kid})}.{payload}."
        case "confused":  # HMAC keyed with what everybody can read
            public = key.verifying.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[union-attr]
            signed = f"{segment({'alg': 'HS256', 'kid': key.kid, 'typ': 'JWT'})}.{payload}"
            mac = hmac.digest(public, signed.encode(), "sha256")
            return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"
        case "stranger":
            return stranger.mint_admission(admission)
        case "own-key":  # a token that brings the key it was signed with
            return jwt.encode(claims, stranger.signing.private, algorithm="ES256", headers={"kid": key.kid, "jwk": {}})
        case "expired":
            return keyring.mint_admission(replace(admission, expires_at_s=admission.issued_at_s - 1))
        case "other-room":
            return keyring.mint_admission(replace(admission, room="another"))
        case "deep":
            return f"{header}.{base64.urlsafe_b64encode(b'[' * 1200).rstrip(b'=').decode()}.{signature}"
        case "old-ticket":
            return keyring.mint_ticket(Ticket(admission.room, ID, 5, 0, 1, 1, admission.expires_at_s))
    raise AssertionError(kind)


KINDS = (
    *("empty", "nonsense", "cut", "headless", "long", "changed", "none", "confused", "stranger", "own-key"),
    *("expired", "other-room", "deep", "old-ticket"),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", ["cookie", "header"])
async def test_a_bad_token_is_a_new_visitor(open_house: OpenHouse, tmp_path: Path, kind: str, way: str) -> None:
    """Promise 13: refused at the door and in the lobby, never a 500, and nothing reaches the bank."""
    room = protecting("forged", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    desk = house.gateway._desks[room.id]
    text, admission = desk.new_admission(ID, is_instant=False)
    new_key_file(tmp_path / "stranger.pem", "ES256")
    stranger = Keyring(load_key_file(tmp_path / "stranger.pem"))
    bad = forge(kind, text, admission, desk.keyring, stranger)
    names = ("admission", "ticket")
    if way == "cookie":
        bearer = house.visitor(Cookie="; ".join(f"__Host-waitroom-{name}-{room.id}={bad}" for name in names))
    else:
        bearer = house.visitor(**{"Waitroom-Admission": bad, "Waitroom-Ticket": bad})
    good = house.visitor()
    good.cookies = {desk.admission_cookie: text}
    assert (await good.get(f"/{room.id}/")).status == 200
    house.bank.requests.clear()
    assert (await bearer.get(f"/{room.id}/")).status == 429
    assert house.bank.requests == []
    assert (await bearer.get(f"/_waitroom/{room.id}/status")).status == 404
    assert (await bearer.claim(room)).status == 404
    assert (await bearer.get(f"/_waitroom/auth?room={room.id}")).status == 401
    assert (await bearer.ask("DELETE", f"/_waitroom/{room.id}/ticket")).status == 204
    assert (await bearer.join(room)).status == 201


async def test_a_ticket_of_a_key_not_known_yet_is_never_overwritten(open_house: OpenHouse, tmp_path: Path) -> None:
    """Promise 13: during a rotation another gateway may know the key; this one waits, and sets no cookie."""
    room = protecting("rotation")
    house = await open_house(room)
    await house.idle(room)
    new_key_file(tmp_path / "next.pem", "ES256")
    ahead = Keyring(load_key_file(tmp_path / "next.pem"))
    now_s = house.gateway._desks[room.id].now_s()
    ticket = ahead.mint_ticket(Ticket(room.id, ID, 1, 1, now_s, now_s, now_s + 600))
    bearer = house.visitor()
    bearer.cookies = {f"__Host-waitroom-ticket-{room.id}": ticket}
    for answer in (
        await bearer.join(room, "k" * 22),
        await bearer.get(f"/_waitroom/{room.id}/status"),
        await bearer.claim(room),
        await bearer.ask("DELETE", f"/_waitroom/{room.id}/ticket"),
    ):
        assert (answer.status, answer.json["type"]) == (503, "unreachable")
        assert int(answer.headers["Retry-After"]) >= 1
    assert (await bearer.open(f"/{room.id}/")).status == 429
    assert bearer.cookies == {f"__Host-waitroom-ticket-{room.id}": ticket}
    assert house.bank.requests == []


async def entered(house: House, room: Room) -> tuple[str, str]:
    visitor = house.visitor()
    await visitor.enter(room)
    return next(iter(visitor.cookies.items()))


@pytest.mark.parametrize("void_admissions", [False, True])
async def test_a_reset_refuses_old_tickets_everywhere_within_a_second(
    open_house: OpenHouse, void_admissions: bool
) -> None:
    """Promise 13: tickets of the older epoch at every gateway; admissions too, when asked."""
    room = protecting("reset")
    house = await open_house(room, gateways=2)
    admission = await entered(house, room)
    await house.patch(room, paused=True)
    waiting = house.visitor()
    old = await waiting.join(room, "k" * 22)
    there = house.visitor(house.gateways[1])
    there.cookies = dict(waiting.cookies)
    assert (await there.see(room))["number"] == old.json["number"]
    await house.post(room, "reset", {"admissions": void_admissions})
    for bearer in (waiting, there):
        await until_answer(
            lambda b=bearer: b.get(f"/_waitroom/{room.id}/status"),  # type: ignore[misc]
            lambda answer: answer.status == 404,
            1.0,
        )
    for gateway in house.gateways:
        inside = house.visitor(gateway, Accept="application/json")
        inside.cookies = dict([admission])
        want = 429 if void_admissions else 200
        await until_answer(lambda i=inside: i.get(f"/{room.id}/"), lambda answer: answer.status == want, 1.0)  # type: ignore[misc]
    again = await waiting.join(room, "k" * 22)
    assert again.status == 201
    assert again.json["number"] > old.json["number"]
    await until(lambda: house.queue(room, house.gateways[1]).memory.epoch == 2)
