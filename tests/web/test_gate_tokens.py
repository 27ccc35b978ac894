"""Tokens that do not count: whatever is wrong with one, its bearer is a new visitor, and nothing fails."""

from __future__ import annotations

import base64
import hmac
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway.model import Admission, Room, Ticket
from gateway.rules.keys import load_key_file, new_key_file
from gateway.rules.tokens import Keyring
from tests.web.gatewayfixture import SHUT, Answer, House, OpenHouse, house_opener, protecting, until, until_answer

open_house = pytest.fixture(house_opener)
ID = b"i" * 16


def segment(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


@dataclass(frozen=True)
class Forgery:
    """A good admission, and what it takes to make bad tokens of it."""

    good: str
    admission: Admission
    ours: Keyring
    stranger: Keyring

    @property
    def parts(self) -> list[str]:
        return self.good.split(".")

    @property
    def claims(self) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(self.good, options={"verify_signature": False})
        return claims

    def signed_by_hash(self, secret: bytes) -> str:
        """HMAC where a signature is wanted."""
        signed = f"{segment({'alg': 'HS256', 'kid': self.ours.signing.kid, 'typ': 'JWT'})}.{self.parts[1]}"
        mac = hmac.digest(secret, signed.encode(), "sha256")
        return f"{signed}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"

    def changed(self, payload: str) -> str:
        return f"{self.parts[0]}.{payload}.{self.parts[2]}"

    def minted(self, **changes: Any) -> str:
        return self.ours.mint_admission(replace(self.admission, **changes))

    def with_own_key(self) -> str:
        headers = {"kid": self.ours.signing.kid, "jwk": self.stranger.jwks()["keys"][0]}
        return jwt.encode(self.claims, self.stranger.signing.private, algorithm="ES256", headers=headers)

    def public_key(self) -> bytes:
        key = self.ours.signing.verifying
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


FORGERIES: dict[str, Callable[[Forgery], str]] = {
    "empty": lambda _: "",
    "nonsense": lambda _: "not-a-token",
    "cut": lambda it: it.good[:-10],
    "headless": lambda it: f".{it.parts[1]}.{it.parts[2]}",
    "long": lambda it: it.good + "A" * 5000,
    "changed": lambda it: it.changed(segment(it.claims | {"exp": it.claims["exp"] + 9999})),
    "none": lambda it: f"{segment({'alg': 'none', 'kid': it.ours.signing.kid})}.{it.parts[1]}.",
    "confused": lambda it: it.signed_by_hash(it.public_key()),  # keyed with what everybody can read
    "stranger": lambda it: it.stranger.mint_admission(it.admission),
    "own-key": lambda it: it.with_own_key(),
    "expired": lambda it: it.minted(expires_at_s=it.admission.issued_at_s - 1),
    "other-room": lambda it: it.minted(room="another"),
    "deep": lambda it: it.changed(base64.urlsafe_b64encode(b"[" * 1200).rstrip(b"=").decode()),
    "old-ticket": lambda it: it.ours.mint_ticket(Ticket(it.admission.room, ID, 5, 0, 1, 1, it.admission.expires_at_s)),
}


@pytest.mark.parametrize("kind", FORGERIES)
@pytest.mark.parametrize("way", ["cookie", "header"])
async def test_a_bad_token_is_a_new_visitor(open_house: OpenHouse, tmp_path: Path, kind: str, way: str) -> None:
    """Promise 13: refused at the door and in the lobby, never a 500, and nothing reaches the bank."""
    room = protecting("forged", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    desk = house.gateway._desks[room.id]
    text, admission = desk.new_admission(ID, desk.now_s())
    new_key_file(tmp_path / "stranger.pem", "ES256")
    stranger = Keyring(load_key_file(tmp_path / "stranger.pem"))
    bad = FORGERIES[kind](Forgery(text, admission, desk.keyring, stranger))
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

    def is_told(answer: Answer) -> bool:
        return answer.status == (429 if void_admissions else 200)

    for gateway in house.gateways:
        inside = house.visitor(gateway, Accept="application/json")
        inside.cookies = dict([admission])
        await until_answer(lambda i=inside: i.get(f"/{room.id}/"), is_told, 1.0)  # type: ignore[misc]
    again = await waiting.join(room, "k" * 22)
    assert again.status == 201
    assert again.json["number"] > old.json["number"]
    await until(lambda: house.queue(room, house.gateways[1]).memory.epoch == 2)
