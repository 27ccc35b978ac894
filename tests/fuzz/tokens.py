"""The tokens of a run by the names that cases call them by: good ones, which may pass, and hostile ones, which never may."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import jwt

from gateway.model import Admission
from gateway.rules.keys import load_key_file, new_key_file
from gateway.rules.tokens import Keyring, subject_of
from gateway.web.desk import Desk
from tests.edges.hostile import HOSTILE as EDGE_HOSTILE
from tests.fuzz.cases import GOOD, Bearing
from tests.web.test_gate_tokens import ID, Forgery, segment

# Signed by us, and saying so: to a gateway their time is what it is. Only edges bound it.
_OURS: Final = {"huge", "beyond-a-session", "eleven-digits", "wraps-round", "most-negative"}


def _signed(it: Forgery, headers: dict[str, Any] | None = None, **claims: Any) -> str:
    """By our own key, which says what it never would."""
    merged = {name: value for name, value in (it.claims | claims).items() if value is not None}
    head = {"kid": it.ours.signing.kid} | (headers or {})
    return jwt.PyJWS().encode(json.dumps(merged).encode(), it.ours.signing.private, algorithm="ES256", headers=head)


def _headed(it: Forgery, **header: Any) -> str:
    """The good one under another header."""
    return f"{segment({'alg': 'ES256', 'kid': it.ours.signing.kid, 'typ': 'JWT'} | header)}.{it.parts[1]}.{it.parts[2]}"


HOSTILE: Final[dict[str, Callable[[Forgery], str]]] = {
    **{name: make for name, make in EDGE_HOSTILE.items() if name not in _OURS},
    "old-epoch": lambda it: it.minted(epoch=it.admission.epoch - 1),
    "no-epoch": lambda it: _signed(it, epoch=None),
    "epoch-as-text": lambda it: _signed(it, epoch="1"),
    "epoch-as-truth": lambda it: _signed(it, epoch=True),
    "no-exp": lambda it: _signed(it, exp=None),
    "exp-as-text": lambda it: _signed(it, exp="9999999999"),
    "exp-as-fraction": lambda it: _signed(it, exp=it.admission.expires_at_s + 0.5),
    "exp-without-end": lambda it: _signed(it, exp=float("inf")),
    "from-tomorrow": lambda it: it.minted(issued_at_s=it.admission.issued_at_s + 86_400),
    "aud-as-list": lambda it: _signed(it, aud=[it.admission.room, "x"]),
    "use-ticket": lambda it: _signed(it, use="ticket"),
    "use-missing": lambda it: _signed(it, use=None),
    "subject-in-capitals": lambda it: _signed(it, sub=subject_of(b"\xab" * 16).upper()),
    "subject-with-lines": lambda it: _signed(it, sub="a\r\nWaitroom-Room: x"),
    "issuer-as-list": lambda it: _signed(it, iss=["waitroom"]),
    "ticket-key": lambda it: it.signed_by_hash(it.ours.signing.ticket_secret()),
    "empty-key": lambda it: it.signed_by_hash(b""),
    "kid-as-key": lambda it: it.signed_by_hash(it.ours.signing.kid.encode()),
    "kid-missing": lambda it: _headed(it, kid=None),
    "kid-number": lambda it: _headed(it, kid=0),
    "kid-list": lambda it: _headed(it, kid=[it.ours.signing.kid]),
    "kid-path": lambda it: _headed(it, kid="../../../../dev/null"),
    "kid-query": lambda it: _headed(it, kid="' OR 1=1 --"),
    "kid-surrogate": lambda it: _headed(it, kid="\ud800"),
    "alg-list": lambda it: _headed(it, alg=["ES256"]),
    "alg-none": lambda it: _headed(it, alg=None),
    "alg-es384": lambda it: _headed(it, alg="ES384"),
    "alg-hs256": lambda it: _headed(it, alg="HS256"),
    "critical": lambda it: _signed(it, {"crit": ["exp"], "exp": 1}),
    "key-url": lambda it: _headed(it, jku="http://evil.example/jwks.json"),
    "unencoded": lambda it: _headed(it, b64=False),
    "header-only": lambda it: it.parts[0],
    "dots": lambda _: "..",
    "five-parts": lambda it: f"{it.good}.{it.parts[1]}.{it.parts[2]}",
    "zero-signature": lambda it: (
        f"{it.parts[0]}.{it.parts[1]}.{base64.urlsafe_b64encode(bytes(64)).rstrip(b'=').decode()}"
    ),
    "claims-of-no-object": lambda it: it.changed(segment([1, 2])),
    "claims-twice": lambda it: f"{it.good},{it.good}",
    "spaced": lambda it: it.good.replace(".", ". "),
}
NAMES: Final = tuple(sorted(HOSTILE))
AGING_S: Final = 900  # past half of a session of an hour: it is renewed on the way
SESSION_S: Final = 3600


class Tokens:
    """`good` knows every admission that may pass by its text, until it is dismissed; `tickets` those that were given."""

    def __init__(self, folder: Path, desks: dict[str, Desk]) -> None:
        self._desks = desks
        self.good: dict[str, tuple[str, str]] = {}  # text -> room, subject
        self.tickets: dict[str, str] = {}
        self._named: dict[tuple[str, str], str] = {}
        self._dealt = 0
        if not (folder / "stranger.pem").exists():
            new_key_file(folder / "stranger.pem", "ES256")
        self._stranger = Keyring(load_key_file(folder / "stranger.pem"))
        self.renew()

    def renew(self) -> None:
        """All of them anew, so that a long run does not outlive its tokens."""
        for room, desk in self._desks.items():
            for name in GOOD:
                self._deal(desk, name)
            text = self._named[room, "good"]
            admission = desk.keyring.read_admission(text, room, desk.now_s())
            assert isinstance(admission, Admission)
            forged = replace(admission, id=ID)
            base = Forgery(desk.keyring.mint_admission(forged), forged, desk.keyring, self._stranger)
            for name, make in HOSTILE.items():
                self._named[room, name] = make(base)
            self._named.setdefault((room, "dismissed"), self._named[room, "old-epoch"])

    def _deal(self, desk: Desk, name: str) -> None:
        self._dealt += 1
        now_s, room = desk.now_s(), desk.room.id
        until_s = now_s + (AGING_S if name == "aging" else SESSION_S)
        identity = self._dealt.to_bytes(16, "big")
        admission = Admission(room, identity, desk.queue.memory.epoch, now_s, now_s, until_s)
        text = desk.keyring.mint_admission(admission)
        self._named[room, name] = text
        self.good[text] = (room, subject_of(identity))

    def give(self, room: str, name: str, ticket: str) -> None:
        self._named[room, name] = ticket
        self.tickets[ticket] = room

    def dismiss(self, text: str) -> None:
        """The bank ended this admission: from now on it is hostile, and another has its name."""
        room, subject = self.good.pop(text)
        assert subject not in {known for _, known in self.good.values()}
        self._named[room, "dismissed"] = text
        for (where, name), named in tuple(self._named.items()):
            if where == room and named == text and name in GOOD:
                self._deal(self._desks[room], name)

    def text(self, bearing: Bearing) -> str:
        text = self._named.get(
            (bearing.room, bearing.kind), self._named[bearing.room, "dismissed"]
        )  # no tickets in the lounge
        if not bearing.byte:
            return text
        return text[: bearing.place] + bearing.byte + text[bearing.place + 1 :]

    def meant(self, text: str) -> str:
        """The good text that this one spells: base64 has slack bits in its last letter, which sign nothing."""
        if text in self.good or len(text) > 2048 or text.count(".") != 2 or "=" in text:
            return text
        stem = text[:-1]
        for good in self.good:
            if good[:-1] == stem and _raw(good) == _raw(text):
                return good
        return text


def _raw(text: str) -> bytes | None:
    try:
        return base64.urlsafe_b64decode(text.rpartition(".")[2] + "==")
    except ValueError:
        return None
