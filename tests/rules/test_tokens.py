"""Holds promise 13 at its root: what the gateway signs, what it refuses to read, and that PyJWT agrees both ways."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model import Admission, Ticket
from gateway.rules.keys import Key
from gateway.rules.tokens import ISSUER_BYTES_MAX, Keyring, Reason, Refusal, id_of, subject_of
from tests.rules.glancing import Glancing

NOW_S = 1_800_000_000
ROOM = "point-cashout"
ISSUER = "https://gate.example"
ID = bytes(range(16))
TICKET = Ticket(ROOM, ID, number=42, epoch=3, joined_at_s=NOW_S - 5, issued_at_s=NOW_S, expires_at_s=NOW_S + 1200)
ADMISSION = Admission(ROOM, ID, epoch=3, entered_at_s=NOW_S - 9, issued_at_s=NOW_S, expires_at_s=NOW_S + 600)
UNTIMED = {"verify_exp": False, "verify_iat": False}


@pytest.fixture(scope="module", params=["ec", "hs"])
def ring(request: pytest.FixtureRequest, keys: dict[str, Key]) -> Keyring:
    return Glancing(keys[request.param], issuer=ISSUER)


def by_pyjwt(text: str, key: Key, use: str) -> dict[str, Any]:
    """What PyJWT alone makes of a token: raises if it refuses it."""
    secret: Any = key.ticket_secret() if use == "ticket" else key.verifying
    algorithm = "HS256" if use == "ticket" else key.algorithm
    reader = jwt.PyJWT(options={"enforce_minimum_key_length": True})
    options: Any = {**UNTIMED, "require": ["iss", "aud", "sub", "iat", "exp"]}
    return reader.decode(text, secret, algorithms=[algorithm], audience=ROOM, issuer=ISSUER, options=options)


def forged(claims: dict[str, Any], key: Key, use: str = "ticket", headers: dict[str, Any] | None = None) -> str:
    """A token by PyJWT under the right key, with whatever claims and headers."""
    secret: Any = key.ticket_secret() if use == "ticket" else key.private
    algorithm = "HS256" if use == "ticket" else key.algorithm
    return jwt.encode(claims, secret, algorithm=algorithm, headers={"kid": key.kid, **(headers or {})})


def claims_of(text: str) -> dict[str, Any]:
    return jwt.decode(text, options={"verify_signature": False})


# --- minting and reading ----------------------------------------------------------------------------------------------

seconds = st.integers(1, 2**33)
tickets = st.builds(
    Ticket,
    room=st.just(ROOM),
    id=st.binary(min_size=16, max_size=16),
    number=st.integers(0, 2**31),
    epoch=st.integers(0, 2**31),
    joined_at_s=seconds,
    issued_at_s=st.integers(1, NOW_S + 60),
    expires_at_s=st.integers(NOW_S + 1, 2**33),
    expected_s=st.none() | st.integers(0, 10**6),
    lane=st.integers(0, 9),
)


@given(ticket=tickets)
def test_a_ticket_reads_as_it_was_minted_here_and_by_pyjwt(
    ec_ring: Keyring, keys: dict[str, Key], ticket: Ticket
) -> None:
    """Promise 13: the fast path and PyJWT agree on every ticket that we mint."""
    text = ec_ring.mint_ticket(ticket)
    assert ec_ring.read_ticket(text, ROOM, NOW_S) == ticket
    assert by_pyjwt(text, keys["ec"], "ticket")["num"] == ticket.number
    assert len(text) <= 800


@given(ticket=tickets, is_ours_to_the_byte=st.booleans())
def test_a_ticket_minted_by_pyjwt_reads_alike(
    ec_ring: Keyring, keys: dict[str, Key], ticket: Ticket, is_ours_to_the_byte: bool
) -> None:
    """Promise 13: a gateway of another version, which orders its header otherwise, is understood."""
    claims = claims_of(ec_ring.mint_ticket(ticket))
    text = forged(claims, keys["ec"], headers=None if is_ours_to_the_byte else {"typ": "ticket+jwt"})
    assert (text.split(".")[0] == ec_ring.mint_ticket(ticket).split(".")[0]) is is_ours_to_the_byte
    assert ec_ring.read_ticket(text, ROOM, NOW_S) == ticket


@pytest.mark.parametrize("is_instant", [False, True])
def test_an_admission_reads_as_it_was_minted(ring: Keyring, is_instant: bool) -> None:
    """Promise 13, under ES256 and under HS256."""
    admission = Admission(ROOM, ID, 3, NOW_S - 9, NOW_S, NOW_S + 600, is_instant)
    assert ring.read_admission(ring.mint_admission(admission), ROOM, NOW_S) == admission


def test_claims_are_plain_integers_a_string_audience_and_no_more(ec_ring: Keyring) -> None:
    """Section 7, and what HAProxy's verifier can read: times plain integers, `aud` a string, no `nbf`."""
    assert claims_of(ec_ring.mint_ticket(TICKET)) == {
        "iss": ISSUER, "aud": ROOM, "sub": "00010203-0405-0607-0809-0a0b0c0d0e0f", "iat": NOW_S, "exp": NOW_S + 1200,
        "use": "ticket", "epoch": 3, "num": 42, "lane": 0, "at": NOW_S - 5,
    }  # fmt: skip
    assert claims_of(ec_ring.mint_admission(ADMISSION)) == {
        "iss": ISSUER, "aud": ROOM, "sub": "00010203-0405-0607-0809-0a0b0c0d0e0f", "iat": NOW_S, "exp": NOW_S + 600,
        "use": "admission", "epoch": 3, "ent": NOW_S - 9,
    }  # fmt: skip


def test_the_longest_tokens_stay_under_800_bytes(keys: dict[str, Key]) -> None:
    """Section 7: <= 800 bytes, with the longest room id, issuer and figures."""
    room = "r" * 63
    for issuer in ("i" * (ISSUER_BYTES_MAX - 2), "é" * ((ISSUER_BYTES_MAX - 2) // 6)):
        ring = Keyring(keys["ec"], issuer=issuer)
        ticket = ring.mint_ticket(Ticket(room, ID, 2**31, 2**53, 2**33, NOW_S, 2**33, 10**6, 99))
        admission = ring.mint_admission(Admission(room, ID, 2**53, 2**33, NOW_S, 2**33, is_instant=True))
        assert isinstance(ring.read_ticket(ticket, room, NOW_S), Ticket)
        assert isinstance(ring.read_admission(admission, room, NOW_S), Admission)
        assert max(len(ticket), len(admission)) <= 800
    with pytest.raises(ValueError, match="issuer"):
        Keyring(keys["ec"], issuer="i" * (ISSUER_BYTES_MAX - 1))


# --- what is refused --------------------------------------------------------------------------------------------------

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.+/ \x00é"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(use=st.sampled_from(["ticket", "admission"]), where=st.integers(0, 10**6), new=st.text(CHARACTERS, max_size=3),
       cut=st.integers(0, 3))  # fmt: skip
def test_a_mutated_token_is_refused_here_and_by_pyjwt(
    ring: Keyring, keys: dict[str, Key], use: str, where: int, new: str, cut: int
) -> None:
    """Promise 13: no byte of a token can be changed, added or taken away."""
    text = ring.mint_ticket(TICKET) if use == "ticket" else ring.mint_admission(ADMISSION)
    at = where % (len(text) + 1)
    mutated = text[:at] + new + text[at + cut :]
    read = ring.read_ticket if use == "ticket" else ring.read_admission
    if mutated == text:
        return
    assert isinstance(read(mutated, ROOM, NOW_S), Refusal)
    key = next(key for key in keys.values() if key.kid == jwt.get_unverified_header(text)["kid"])
    with pytest.raises(jwt.PyJWTError):
        by_pyjwt(mutated, key, use)


@given(text=st.text(max_size=60) | st.text(CHARACTERS, max_size=60))
def test_any_text_is_refused_and_never_raises(ec_ring: Keyring, text: str) -> None:
    """Promise 13: a bad token is a value."""
    assert isinstance(ec_ring.read_ticket(text, ROOM, NOW_S), Refusal)
    assert isinstance(ec_ring.read_admission(text, ROOM, NOW_S), Refusal)


json_values = st.sampled_from(
    [None, True, 0, -1, 1.5, "", "x", [], ["HS256"], ["b64"], ["exp"], {}, {"kty": "oct"}, "HS256", "ES256", "none"]
)
members = st.sampled_from(["alg", "typ", "kid", "crit", "b64", "jku", "jwk", "x5u", "zip", "cty"])


@given(header=st.dictionaries(members, json_values), keeps_kid=st.booleans())
def test_any_header_over_good_claims_is_refused_and_never_raises(
    ring: Keyring, header: dict[str, Any], keeps_kid: bool
) -> None:
    """Promise 13: not even a header with a list for `alg` is an error."""
    good_header, payload, signature = ring.mint_ticket(TICKET).split(".")
    if keeps_kid:
        header["kid"] = json.loads(base64.urlsafe_b64decode(good_header + "=="))["kid"]
    segment = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
    text = f"{segment}.{payload}.{signature}"
    assert isinstance(ring.read_ticket(text, ROOM, NOW_S), Refusal)
    assert isinstance(ring.read_admission(text, ROOM, NOW_S), Refusal)


TICKET_CLAIMS = {
    "iss": ISSUER, "aud": ROOM, "sub": subject_of(ID), "iat": NOW_S, "exp": NOW_S + 1200, "use": "ticket", "epoch": 3,
    "num": 42, "lane": 0, "at": NOW_S - 5,
}  # fmt: skip
ADMISSION_CLAIMS = {
    "iss": ISSUER, "aud": ROOM, "sub": subject_of(ID), "iat": NOW_S, "exp": NOW_S + 600, "use": "admission", "epoch": 3,
    "ent": NOW_S - 9,
}  # fmt: skip
TRAILED = json.dumps(TICKET_CLAIMS).encode() + b" {}"
WRONG_TYPES = [None, "1", 1.5, True, [1], {"a": 1}]


@pytest.mark.parametrize("claim", ["iat", "exp", "epoch", "num", "lane", "at", "sub"])
@pytest.mark.parametrize("value", WRONG_TYPES)
@pytest.mark.parametrize("header", [None, {"typ": "other"}], ids=["fast", "pyjwt"])
def test_a_signed_ticket_with_a_claim_of_the_wrong_type_is_refused(
    ec_ring: Keyring, keys: dict[str, Key], claim: str, value: object, header: dict[str, Any] | None
) -> None:
    """Promise 13: never a 500, even for what our own key signed."""
    secret = keys["ec"].ticket_secret()
    payload = json.dumps({**TICKET_CLAIMS, claim: value}).encode()
    text = jwt.PyJWS().encode(payload, secret, "HS256", headers={"kid": keys["ec"].kid, **(header or {})})
    assert ec_ring.read_ticket(text, ROOM, NOW_S) == Refusal(Reason.MALFORMED)


@pytest.mark.parametrize("payload", [b"", b"[]", b"7", b"nul", b'{"a":', b"\xff", b"[" * 1200, TRAILED])
@pytest.mark.parametrize("header", [None, {"typ": "other"}], ids=["fast", "pyjwt"])
def test_a_signed_payload_that_is_no_object_is_refused(
    ec_ring: Keyring, keys: dict[str, Key], payload: bytes, header: dict[str, Any] | None
) -> None:
    """Promise 13."""
    secret = keys["ec"].ticket_secret()
    text = jwt.PyJWS().encode(payload, secret, "HS256", headers={"kid": keys["ec"].kid, **(header or {})})
    assert ec_ring.read_ticket(text, ROOM, NOW_S) == Refusal(Reason.MALFORMED)


@pytest.mark.parametrize("claim", [*TICKET_CLAIMS, *ADMISSION_CLAIMS])
def test_a_signed_token_without_one_of_its_claims_is_refused(ring: Keyring, keys: dict[str, Key], claim: str) -> None:
    """Promise 13: PyJWT alone would accept a token without `exp`."""
    kid = jwt.get_unverified_header(ring.mint_ticket(TICKET))["kid"]
    key = next(key for key in keys.values() if key.kid == kid)
    ticket = {name: value for name, value in TICKET_CLAIMS.items() if name != claim}
    admission = {name: value for name, value in ADMISSION_CLAIMS.items() if name != claim}
    if claim in TICKET_CLAIMS:
        assert isinstance(ring.read_ticket(forged(ticket, key), ROOM, NOW_S), Refusal)
    if claim in ADMISSION_CLAIMS:
        assert isinstance(ring.read_admission(forged(admission, key, "admission"), ROOM, NOW_S), Refusal)


@pytest.mark.parametrize(
    ("change", "refusal"),
    [
        ({"exp": NOW_S}, Refusal(Reason.EXPIRED)),
        ({"exp": -5}, Refusal(Reason.EXPIRED)),
        ({"iat": NOW_S + 61}, Refusal(Reason.NOT_YET, may_be_ours=True)),
        ({"aud": "card-cashback"}, Refusal(Reason.WRONG_ROOM)),
        ({"aud": [ROOM]}, Refusal(Reason.WRONG_ROOM)),
        ({"iss": "https://elsewhere.example"}, Refusal(Reason.WRONG_ISSUER)),
        ({"use": "admission"}, Refusal(Reason.WRONG_USE)),
    ],
)
@pytest.mark.parametrize("header", [None, {"typ": "other"}], ids=["fast", "pyjwt"])
def test_each_refusal_says_why(
    ec_ring: Keyring, keys: dict[str, Key], change: dict[str, Any], refusal: Refusal, header: dict[str, Any] | None
) -> None:
    """Promise 13: forged, expired, foreign; and only what may become good again must not be overwritten."""
    assert ec_ring.read_ticket(forged({**TICKET_CLAIMS, **change}, keys["ec"], headers=header), ROOM, NOW_S) == refusal


def test_the_last_good_second_and_the_leeway_are_accepted(ec_ring: Keyring, keys: dict[str, Key]) -> None:
    """Section 7: leeway 60 s on `iat`, none on `exp`."""
    for change in ({"exp": NOW_S + 1}, {"iat": NOW_S + 60}):
        assert isinstance(ec_ring.read_ticket(forged({**TICKET_CLAIMS, **change}, keys["ec"]), ROOM, NOW_S), Ticket)


def test_a_token_never_serves_for_the_other_use(ring: Keyring, ec_ring: Keyring) -> None:
    """Promise 13: a place in the line is not a right to pass. Where the algorithms differ, the reason is named."""
    assert isinstance(ring.read_admission(ring.mint_ticket(TICKET), ROOM, NOW_S), Refusal)
    assert isinstance(ring.read_ticket(ring.mint_admission(ADMISSION), ROOM, NOW_S), Refusal)
    assert ec_ring.read_admission(ec_ring.mint_ticket(TICKET), ROOM, NOW_S) == Refusal(Reason.WRONG_USE)
    assert ec_ring.read_ticket(ec_ring.mint_admission(ADMISSION), ROOM, NOW_S) == Refusal(Reason.WRONG_USE)


def test_oversized_tokens_are_refused_before_they_are_parsed(ec_ring: Keyring, keys: dict[str, Key]) -> None:
    """Section 7: refused over 2 KB, however well signed."""
    text = forged({**TICKET_CLAIMS, "padding": "x" * 2000}, keys["ec"])
    assert ec_ring.read_ticket(text, ROOM, NOW_S) == Refusal(Reason.TOO_LONG)
    assert ec_ring.read_admission("é" * 2049, ROOM, NOW_S) == Refusal(Reason.TOO_LONG)


def test_padding_makes_no_second_spelling(ring: Keyring) -> None:
    """One token, one spelling: PyJWT would accept this one."""
    assert isinstance(ring.read_ticket(ring.mint_ticket(TICKET) + "=", ROOM, NOW_S), Refusal)
    assert isinstance(ring.read_admission(ring.mint_admission(ADMISSION) + "==", ROOM, NOW_S), Refusal)


def test_algorithm_confusion_is_refused(ec_ring: Keyring, keys: dict[str, Key]) -> None:
    """Promise 13: `none`, the public key as an HMAC secret, and a key brought along in the header."""
    kid = keys["ec"].kid
    none = jwt.encode(ADMISSION_CLAIMS, "", algorithm="none", headers={"kid": kid})
    assert isinstance(ec_ring.read_admission(none, ROOM, NOW_S), Refusal)

    verifying = keys["ec"].verifying
    assert isinstance(verifying, ec.EllipticCurvePublicKey)
    encodings = serialization.Encoding, serialization.PublicFormat.SubjectPublicKeyInfo
    for encoding in (encodings[0].PEM, encodings[0].DER):
        signed = jwt.encode(ADMISSION_CLAIMS, "x" * 32, algorithm="HS256", headers={"kid": kid}).rpartition(".")[0]
        mac = jwt.algorithms.HMACAlgorithm(hashlib.sha256).sign(
            signed.encode(), verifying.public_bytes(encoding, encodings[1])
        )
        text = f"{signed}.{jwt.utils.base64url_encode(mac).decode()}"
        assert isinstance(ec_ring.read_admission(text, ROOM, NOW_S), Refusal)

    theirs = keys["new"]
    for headers in ({"jwk": theirs.jwk()}, {"jku": "http://127.0.0.1:1/jwks.json"}, {"x5u": "http://127.0.0.1:1/"}):
        text = forged(ADMISSION_CLAIMS, theirs, "admission", {**headers, "kid": kid})
        assert ec_ring.read_admission(text, ROOM, NOW_S) == Refusal(Reason.BAD_SIGNATURE)


# --- keys that come and go --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("old", "new"), [("ec", "new"), ("ec", "hs"), ("hs", "ec")])
def test_a_new_key_verifies_before_it_signs_and_the_old_one_after(keys: dict[str, Key], old: str, new: str) -> None:
    """Section 7, rotation: at no step does a gateway refuse what another one of the fleet signs."""
    before = Keyring(keys[old], issuer=ISSUER)
    announced = Keyring(keys[old], [keys[new]], ISSUER)
    switched = Keyring(keys[new], [keys[old]], ISSUER)
    fleet = [(before, announced), (announced, before), (announced, switched), (switched, announced), (before, switched)]
    for signing, reading in fleet:
        assert reading.read_ticket(signing.mint_ticket(TICKET), ROOM, NOW_S) == TICKET
        assert reading.read_admission(signing.mint_admission(ADMISSION), ROOM, NOW_S) == ADMISSION


def test_a_ticket_under_a_key_not_known_yet_may_be_ours(keys: dict[str, Key]) -> None:
    """Promise 13: a ticket of ours that cannot be verified just now is never overwritten."""
    ring, other = Keyring(keys["ec"], issuer=ISSUER), Keyring(keys["new"], issuer=ISSUER)
    assert ring.read_ticket(other.mint_ticket(TICKET), ROOM, NOW_S) == Refusal(Reason.UNKNOWN_KEY, may_be_ours=True)
    assert ring.read_admission(other.mint_admission(ADMISSION), ROOM, NOW_S).may_be_ours  # type: ignore[union-attr]
    stranger = Keyring(keys["new"], issuer="https://elsewhere.example")
    for text, now_s in ((stranger.mint_ticket(TICKET), NOW_S), (other.mint_ticket(TICKET), NOW_S + 1200)):
        assert ring.read_ticket(text, ROOM, now_s) == Refusal(Reason.UNKNOWN_KEY, may_be_ours=False)


def test_jwks_has_every_public_key_and_verifies_admissions(keys: dict[str, Key]) -> None:
    """Section 7: edges need the public key alone; a symmetric key is never published."""
    ring = Keyring(keys["ec"], [keys["new"], keys["hs"]], ISSUER)
    published = json.loads(json.dumps(ring.jwks()))
    assert [key["kid"] for key in published["keys"]] == [keys["ec"].kid, keys["new"].kid]
    assert all(set(key) == {"kty", "crv", "x", "y", "kid", "alg", "use"} for key in published["keys"])
    text = ring.mint_admission(ADMISSION)
    key = jwt.PyJWKSet.from_dict(published)[jwt.get_unverified_header(text)["kid"]]
    options: Any = UNTIMED
    assert jwt.decode(text, key, algorithms=["ES256"], audience=ROOM, options=options)["ent"] == NOW_S - 9


@given(identity=st.binary(min_size=16, max_size=16))
def test_an_id_survives_its_text(identity: bytes) -> None:
    """Section 2: 16 bytes, shown as a UUID."""
    assert id_of(subject_of(identity)) == identity


CAPITALS, MISPLACED = "00010203-0405-0607-0809-0A0B0C0D0E0F", "0001020304050607-0809-0a0b0c-0d0e0f--"


@pytest.mark.parametrize("subject", [None, 7, "", "0" * 36, CAPITALS, MISPLACED, "z" * 36, f" {CAPITALS.lower()[1:]}"])
def test_other_spellings_of_an_id_are_none(subject: object) -> None:
    """One id, one spelling: else one released visitor could be named in ways that are not recognised."""
    assert id_of(subject) is None
