"""Owns what is signed: tickets and admissions, minted and read, and the bounded memory of those that were verified.

Tickets are read by gateways only, so they are HS256 under a key derived from the signing key; admissions are read by
edges too, so they are ES256 and need the public key alone (or HS256, where the signing key is symmetric). Keys are
found by `kid` in a dict, and each has one algorithm for each use; `jku`, `x5u`, `jwk` and the token's own idea of `alg`
count for nothing (RFC 8725). A bad token is a `Refusal`, never an exception. Rotation: load the new key as a verifying
key everywhere, then make it the signing key, then drop the old one when the last token under it has expired.
"""

from __future__ import annotations

import binascii
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from sys import intern
from typing import Any, Final, Literal, NamedTuple

import jwt
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from gateway.model import Admission, Ticket
from gateway.rules.keys import Algorithm, Key, Mac, base64url, compact_json

Use = Literal["ticket", "admission"]

READ_BYTES_MAX: Final = 2048  # a token longer than this is refused before it is parsed; ours stay under 800
ISSUER_BYTES_MAX: Final = 128  # as JSON; with a room id of 63 bytes this keeps every token of ours under 800
IAT_LEEWAY_S: Final = 60  # gateways follow one Redis clock, each with its own delay


class Reason(StrEnum):
    MALFORMED = "malformed"
    TOO_LONG = "too_long"
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    EXPIRED = "expired"
    NOT_YET = "not_yet"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_ROOM = "wrong_room"
    WRONG_USE = "wrong_use"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a token does not count. `may_be_ours`: good at another gateway or later, perhaps, so never overwrite it."""

    reason: Reason
    may_be_ours: bool = False


class Glance(NamedTuple):
    """As much of a ticket as a poll's answer needs."""

    number: int
    epoch: int
    joined_at_s: int
    expires_at_s: int


# --- the ring: what signs and what verifies ---------------------------------------------------------------------------


class Keyring:
    """Mints under the signing key, reads under any. Raises nothing on bad tokens; `now_s` is unix seconds."""

    def __init__(self, signing: Key, verifying: Iterable[Key] = (), issuer: str = "waitroom") -> None:
        if len(json.dumps(issuer)) > ISSUER_BYTES_MAX:
            raise ValueError(f"issuer is longer than {ISSUER_BYTES_MAX} bytes as JSON")
        self.issuer = issuer
        self.signing = signing
        self._keys = {key.kid: key for key in (signing, *verifying)}
        # The very header bytes that we mint lead to a keyed hash: the usual token is verified without parsing them.
        self._macs: dict[Use, dict[bytes, Mac]] = {"ticket": {}, "admission": {}}
        for key in self._keys.values():
            self._macs["ticket"][header_of("HS256", key.kid)] = Mac(key.ticket_secret())
            if isinstance(key.private, bytes):
                self._macs["admission"][header_of("HS256", key.kid)] = Mac(key.private)
        self._ticket_header = header_of("HS256", signing.kid)
        self._admission_header = header_of(signing.algorithm, signing.kid)
        self._openings: dict[str, bytes] = {}  # room -> the part of a payload that is the same for all its tokens
        self._jwt = jwt.PyJWT(options={"enforce_minimum_key_length": True})

    @property
    def verifying(self) -> tuple[Key, ...]:
        """Every key that counts, the signing one first."""
        return tuple(self._keys.values())

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public keys edges verify admissions with (RFC 7517), the signing one first; never a symmetric key."""
        return {"keys": [jwk for key in self._keys.values() if (jwk := key.jwk()) is not None]}

    def mint_ticket(self, ticket: Ticket) -> str:
        """The ticket as a JWT. Written by hand: 3.5 us, where PyJWT takes 15."""
        payload = b'%b"sub":"%b","iat":%d,"exp":%d,"use":"ticket","epoch":%d,"num":%d,"lane":%d,"at":%d' % (
            self._opening(ticket.room),
            subject_of(ticket.id).encode(),
            ticket.issued_at_s,
            ticket.expires_at_s,
            ticket.epoch,
            ticket.number,
            ticket.lane,
            ticket.joined_at_s,
        )
        payload += b"}" if ticket.expected_s is None else b',"eta":%d}' % ticket.expected_s
        signed = b"%b.%b" % (self._ticket_header, base64url(payload))
        mac = self._macs["ticket"][self._ticket_header].digest(signed)
        return (b"%b.%b" % (signed, base64url(mac))).decode("ascii")

    def mint_admission(self, admission: Admission) -> str:
        """The admission as a JWT under the signing key, to the byte what PyJWT makes; by hand, a third faster."""
        payload = b'%b"sub":"%b","iat":%d,"exp":%d,"use":"admission","epoch":%d,"ent":%d' % (
            self._opening(admission.room),
            subject_of(admission.id).encode(),
            admission.issued_at_s,
            admission.expires_at_s,
            admission.epoch,
            admission.entered_at_s,
        )
        payload += b',"ins":1}' if admission.is_instant else b"}"
        signed = b"%b.%b" % (self._admission_header, base64url(payload))
        return (b"%b.%b" % (signed, base64url(self._signature(signed)))).decode("ascii")

    def _signature(self, signed: bytes) -> bytes:
        private = self.signing.private
        if isinstance(private, bytes):
            return self._macs["admission"][self._admission_header].digest(signed)
        r, s = decode_dss_signature(private.sign(signed, _ES256))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")  # RFC 7518, 3.4: the two numbers, not their DER

    def read_ticket(self, text: str, room: str, now_s: int) -> Ticket | Refusal:
        """The ticket that `text` is, if one of ours for this room and in force. The caller compares the epoch."""
        payload = self._payload(text, "ticket")
        if isinstance(payload, bytes):
            opening = self._opening(room)
            found = _TICKET.fullmatch(payload, len(opening)) if payload.startswith(opening) else None
            if found is not None:  # to the byte as `mint_ticket` writes it: nothing is left to be judged but its times
                subject, iat, exp, *numbers, eta = found.groups()
                identity = binascii.unhexlify(subject.replace(b"-", b""))
                epoch, number, lane, at = map(int, numbers)
                issued_at_s, expires_at_s = int(iat), int(exp)
                expected_s = None if eta is None else int(eta)
                return _time_fault(issued_at_s, expires_at_s, now_s) or Ticket(
                    room, identity, number, epoch, at, issued_at_s, expires_at_s, expected_s, lane
                )
        claims = self._claims(payload, text, "ticket", room, now_s)
        return claims if isinstance(claims, Refusal) else _ticket_of(claims)

    def glance(self, text: bytes, room: str, now_s: int) -> Glance | None:
        """What a poll needs of a ticket that `read_ticket` would take, at half its price; None: let that judge."""
        payload = self._verified(text, "ticket") if len(text) <= READ_BYTES_MAX else None
        if not isinstance(payload, bytes):
            return None
        opening = self._opening(room)
        found = _TICKET.fullmatch(payload, len(opening)) if payload.startswith(opening) else None
        if found is None:
            return None
        iat, exp, epoch, number, at = found.group(2, 3, 4, 5, 7)
        expires_at_s = int(exp)
        if _time_fault(int(iat), expires_at_s, now_s) is not None:
            return None
        return Glance(int(number), int(epoch), int(at), expires_at_s)

    def read_admission(self, text: str, room: str, now_s: int) -> Admission | Refusal:
        """The admission that `text` is, if one of ours for this room and in force. The caller compares the epoch."""
        claims = self._claims(self._payload(text, "admission"), text, "admission", room, now_s)
        return claims if isinstance(claims, Refusal) else _admission_of(claims)

    def _payload(self, text: str, use: Use) -> bytes | Refusal | None:
        """What a token says under the very header that we mint, its signature verified; None: it has another header."""
        if len(text) > READ_BYTES_MAX:
            return Refusal(Reason.TOO_LONG)
        try:
            return self._verified(text.encode("ascii"), use)
        except UnicodeEncodeError:
            return Refusal(Reason.MALFORMED)

    def _verified(self, text: bytes, use: Use) -> bytes | Refusal | None:
        signed, _, signature = text.rpartition(b".")
        header, _, payload = signed.partition(b".")
        keyed = self._macs[use].get(header)
        if keyed is None:
            return None
        if not hmac.compare_digest(base64url(keyed.digest(signed)), signature):
            return Refusal(Reason.BAD_SIGNATURE)
        try:
            return binascii.a2b_base64(payload.translate(_TO_BASE64) + b"===")
        except ValueError:
            return Refusal(Reason.MALFORMED)

    def _claims(
        self, payload: bytes | Refusal | None, text: str, use: Use, room: str, now_s: int
    ) -> dict[str, Any] | Refusal:
        """The claims of a token whose signature is good, if nothing stands against them."""
        if payload is None:
            claims = self._claims_by_pyjwt(text, use, room, now_s)
        elif isinstance(payload, bytes):
            claims = _json_object(payload)
        else:
            return payload
        if isinstance(claims, Refusal):
            return claims
        fault = self._fault(claims, use, room, now_s)
        return claims if fault is None else fault

    def _claims_by_pyjwt(self, text: str, use: Use, room: str, now_s: int) -> dict[str, Any] | Refusal:
        """The same for every other header: ES256, unknown keys, and whatever somebody made up."""
        if "=" in text:  # PyJWT allows padding; one token has one spelling here
            return Refusal(Reason.MALFORMED)
        try:
            header = jwt.get_unverified_header(text)
            key = self._keys.get(header.get("kid", ""))
            if key is None:
                return Refusal(Reason.UNKNOWN_KEY, may_be_ours=self._claims_to_be_ours(text, use, room, now_s))
            algorithm: Algorithm = "HS256" if use == "ticket" else key.algorithm
            if header.get("alg") != algorithm:
                is_other_use = header.get("alg") in ("HS256", key.algorithm)  # a tuple: `alg` may be unhashable
                return Refusal(Reason.WRONG_USE if is_other_use else Reason.BAD_SIGNATURE)
            return self._jwt.decode(
                text,
                key.ticket_secret() if use == "ticket" else key.verifying,
                algorithms=[algorithm],
                options=_PYJWT_OPTIONS,
            )
        except jwt.InvalidSignatureError:
            return Refusal(Reason.BAD_SIGNATURE)
        except jwt.PyJWTError:
            return Refusal(Reason.MALFORMED)

    def _claims_to_be_ours(self, text: str, use: Use, room: str, now_s: int) -> bool:
        claims = jwt.decode(text, options={"verify_signature": False})
        return self._fault(claims, use, room, now_s) is None

    def _fault(self, claims: dict[str, Any], use: Use, room: str, now_s: int) -> Refusal | None:
        """What stands against these claims, whoever signed them. Times are judged here: PyJWT reads a clock."""
        get = claims.get
        iat, exp, epoch = get("iat"), get("exp"), get("epoch")
        if not type(iat) is type(exp) is type(epoch) is int:
            return Refusal(Reason.MALFORMED)
        if get("iss") != self.issuer:
            return Refusal(Reason.WRONG_ISSUER)
        if get("use") != use:
            return Refusal(Reason.WRONG_USE)
        if get("aud") != room:
            return Refusal(Reason.WRONG_ROOM)
        return _time_fault(iat, exp, now_s)

    def _opening(self, room: str) -> bytes:
        opening = self._openings.get(room)
        if opening is None:  # as many entries as rooms are configured
            opening = f'{{"iss":{json.dumps(self.issuer)},"aud":{json.dumps(room)},'.encode()
            self._openings[room] = opening
        return opening


# The payload of a ticket as `mint_ticket` writes it, from behind the part that is the same for all of a room.
_TICKET: Final = re.compile(
    rb'"sub":"(H{8}-H{4}-H{4}-H{4}-H{12})","iat":(N),"exp":(N),"use":"ticket",'
    rb'"epoch":(N),"num":(N),"lane":(N),"at":(N)(?:,"eta":(N))?}'.replace(b"H", rb"[0-9a-f]").replace(
        b"N", rb"[0-9]{1,15}"
    )
)
_PYJWT_OPTIONS: Final[Any] = {
    "require": ["iss", "aud", "sub", "iat", "exp"],
    "verify_exp": False,
    "verify_iat": False,
    "verify_nbf": False,
    "verify_aud": False,
    "verify_iss": False,
}


def _time_fault(issued_at_s: int, expires_at_s: int, now_s: int) -> Refusal | None:
    if expires_at_s <= now_s:
        return Refusal(Reason.EXPIRED)
    if issued_at_s > now_s + IAT_LEEWAY_S:
        return Refusal(Reason.NOT_YET, may_be_ours=True)  # another gateway's clock, or ours, is off: it passes
    return None


def _json_object(text: bytes) -> dict[str, Any] | Refusal:
    try:
        claims = json.loads(text)
    except (ValueError, RecursionError):
        return Refusal(Reason.MALFORMED)
    return claims if type(claims) is dict else Refusal(Reason.MALFORMED)


def _ticket_of(claims: dict[str, Any]) -> Ticket | Refusal:
    get = claims.get
    identity, number, lane, at, eta = id_of(get("sub")), get("num"), get("lane"), get("at"), get("eta")
    if (
        identity is None
        or not type(number) is type(lane) is type(at) is int
        or (eta is not None and type(eta) is not int)
    ):
        return Refusal(Reason.MALFORMED)
    return Ticket(intern(claims["aud"]), identity, number, claims["epoch"], at, claims["iat"], claims["exp"], eta, lane)


def _admission_of(claims: dict[str, Any]) -> Admission | Refusal:
    identity, entered_at_s, instant = id_of(claims.get("sub")), claims.get("ent"), claims.get("ins", 0)
    if identity is None or not type(entered_at_s) is type(instant) is int:
        return Refusal(Reason.MALFORMED)
    room, epoch, iat, exp = intern(claims["aud"]), claims["epoch"], claims["iat"], claims["exp"]
    return Admission(room, identity, epoch, entered_at_s, iat, exp, is_instant=instant == 1)


# --- ids as text ------------------------------------------------------------------------------------------------------


def subject_of(identity: bytes) -> str:
    """The 16 bytes of an id as the UUID text that upstreams, logs and tokens see."""
    text = identity.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def id_of(subject: object) -> bytes | None:
    """The id that `subject` spells, or None: only the one spelling that `subject_of` makes counts."""
    if type(subject) is not str or len(subject) != 36:
        return None
    try:
        identity = bytes.fromhex(subject.replace("-", ""))
    except ValueError:
        return None
    return identity if len(identity) == 16 and subject_of(identity) == subject else None


_ES256: Final = ec.ECDSA(hashes.SHA256())
_TO_BASE64: Final = bytes.maketrans(b"-_", b"+/")


def cookie_name(use: Use, room: str, *, https: bool) -> str:
    """The cookie that a room's tokens travel in; the prefix binds it to the host, and needs https."""
    return f"{'__Host-' if https else ''}waitroom-{use}-{room}"


def header_of(algorithm: Algorithm, kid: str) -> bytes:
    """The header segment, to the byte what PyJWT makes."""
    return base64url(compact_json({"alg": algorithm, "kid": kid, "typ": "JWT"}))
