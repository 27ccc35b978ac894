"""What edges are attacked with: tokens, targets, and requests byte for byte; and how a test sees which way one took."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway.model import Room
from gateway.rules.keys import load_key_file, new_key_file
from gateway.rules.tokens import Keyring
from tests.edges.edgefixture import KEY, TRUSTED, Edge, OpenEdge
from tests.web.gatewayfixture import House, OpenHouse
from tests.web.test_gate_tokens import FORGERIES, ID, Forgery, segment


async def opened(
    kind: str, open_house: OpenHouse, open_edge: OpenEdge, *rooms: Room, **options: Any
) -> tuple[House, Edge]:
    """An edge of the kind before a house that trusts it and signs."""
    house = await open_house(*rooms, trusted_proxies=TRUSTED, upstream={"signing_key": KEY}, **options)
    return house, await open_edge(kind, house)


def passed_a_gateway(house: House) -> bool:
    return "waitroom" in house.bank.last.get("Via", "")


HOSTILE: dict[str, Callable[[Forgery], str]] = FORGERIES | {
    "negative": lambda it: it.minted(expires_at_s=-it.admission.expires_at_s),
    "most-negative": lambda it: it.minted(expires_at_s=-(2**63)),
    "huge": lambda it: it.minted(expires_at_s=2**63),
    "beyond-a-session": lambda it: it.minted(expires_at_s=it.admission.expires_at_s + 3600),
    "eleven-digits": lambda it: it.minted(expires_at_s=10_000_000_000),
    "wraps-round": lambda it: it.minted(expires_at_s=it.admission.expires_at_s + 2**32),
    "first-byte": lambda it: "f" + it.good[1:],
    "edited-signature": lambda it: it.good[:-20] + ("A" if it.good[-20] != "A" else "B") + it.good[-19:],
    "none-without-kid": lambda it: f"{segment({'alg': 'none', 'typ': 'JWT'})}.{it.parts[1]}.",
    "none-in-capitals": lambda it: f"{segment({'alg': 'NONE', 'kid': it.ours.signing.kid})}.{it.parts[1]}.",
    "es-for-hs": lambda it: f"{segment({'alg': 'ES256', 'kid': 'x', 'typ': 'JWT'})}.{it.parts[1]}.{it.parts[2]}",
    "empty-signature": lambda it: f"{it.parts[0]}.{it.parts[1]}.",
    "fourth-part": lambda it: it.good + ".x",
    "quoted": lambda it: f'"{it.good}"',
    "other-issuer": lambda it: Keyring(it.ours.signing, issuer="another").mint_admission(it.admission),
}


def forgery_of(house: House, room: Room, folder: Path) -> Forgery:
    desk = house.gateway._desks[room.id]
    text, admission = desk.new_admission(ID, desk.now_s())
    if not (folder / "stranger.pem").exists():
        new_key_file(folder / "stranger.pem", "ES256")
    return Forgery(text, admission, desk.keyring, Keyring(load_key_file(folder / "stranger.pem")))


def cookie(room: Room, text: str) -> str:
    return f"__Host-waitroom-admission-{room.id}={text}"


ODD = (
    "/{id}/%61",
    "/%{hex}",
    "//{id}/",
    "/x/../{id}/a",
    "/./{id}/a",
    "/x/%2e%2e/{id}/a",
    "/{id};x=1/a",
    "/{upper}/a",
    "\\{id}\\a",
    "/x\\..\\{id}/a",
    "/{id}%2fa",
    "/{id}/.hidden",
    "http://bank.example/{id}/a",
    "/static/../{id}/a",
)


async def raw(port: int, request: str) -> bytes:
    """What a server answers to these bytes, until it ends the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request.encode("latin-1"))
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()
