"""Holds what keys are made of: files that are private and strong, names that are standard, secrets that tell nothing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.errors import KeyFileError
from gateway.rules.keys import Key, Mac, load_key_file, new_key_file


@pytest.mark.parametrize("algorithm", ["ES256", "HS256"])
def test_a_new_key_file_is_private_and_never_overwritten(tmp_path: Path, algorithm: Any) -> None:
    """Promise 14: no default secret, and no key lost to a repeated command."""
    path = tmp_path / "key"
    key = new_key_file(path, algorithm)
    assert path.stat().st_mode & 0o777 == 0o600
    assert (load_key_file(path).kid, key.algorithm) == (key.kid, algorithm)
    before = path.read_bytes()
    with pytest.raises(KeyFileError, match="never overwritten"):
        new_key_file(path, algorithm)
    assert path.read_bytes() == before
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KeyFileError):
        new_key_file(tmp_path / "link", algorithm)
    with pytest.raises(KeyFileError, match="cannot be made: File exists"):
        new_key_file(path / "key", algorithm)
    with pytest.raises(KeyFileError, match="cannot be written"):
        new_key_file(tmp_path / ("n" * 300), algorithm)
    new_key_file(tmp_path / "missing" / "key", algorithm)
    assert (tmp_path / "missing").stat().st_mode & 0o777 == 0o700


def pem(private: Any, password: bytes | None = None) -> bytes:
    how = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    encoded: bytes = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
    return encoded


def oct_jwk(secret: bytes) -> bytes:
    return json.dumps({"kty": "oct", "k": base64.urlsafe_b64encode(secret).decode().rstrip("=")}).encode()


EC_KEY = ec.generate_private_key(ec.SECP256R1())
REFUSED_FILES = {
    "empty": b"",
    "words": b"change-me",
    "no JWK": b'{"kty": "oct"}',
    "a JWK of a wrong type": b'{"kty": "oct", "k": 7}',
    "a list": b"[1]",
    "deep": b"[" * 16_000,
    "binary": b"\xff\xfe\x00" * 20,
    "248 bits": oct_jwk(os.urandom(31)),
    "no bits": oct_jwk(b""),
    "P-384": pem(ec.generate_private_key(ec.SECP384R1())),
    "secp256k1": pem(ec.generate_private_key(ec.SECP256K1())),
    "RSA": pem(rsa.generate_private_key(65537, 2048)),
    "Ed25519": pem(ed25519.Ed25519PrivateKey.generate()),
    "with a password": pem(EC_KEY, b"secret"),
    "public": EC_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ),
    "cut": pem(EC_KEY)[:80],
}


@pytest.mark.parametrize("name", REFUSED_FILES)
def test_a_weak_or_foreign_key_file_is_refused_in_one_sentence(tmp_path: Path, name: str) -> None:
    """Promise 14: it never starts on a key that does not hold."""
    path = tmp_path / "key"
    path.write_bytes(REFUSED_FILES[name])
    path.chmod(0o600)
    with pytest.raises(KeyFileError) as caught:
        load_key_file(path)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_a_folder_or_a_pipe_is_refused(tmp_path: Path) -> None:
    """Promise 14, without waiting for a pipe that nobody writes to."""
    os.mkfifo(tmp_path / "pipe", 0o600)
    for path in (tmp_path / "none", tmp_path, tmp_path / "pipe"):
        with pytest.raises(KeyFileError):
            load_key_file(path)


def test_a_key_file_open_to_others_is_refused(tmp_path: Path) -> None:
    """Promise 14."""
    path = tmp_path / "key"
    new_key_file(path)
    for mode in (0o644, 0o604, 0o606, 0o622):
        path.chmod(mode)
        with pytest.raises(KeyFileError, match="open to others"):
            load_key_file(path)
    path.chmod(0o400)
    load_key_file(path)


def test_a_key_in_the_traditional_pem_form_is_read(tmp_path: Path) -> None:
    """`openssl ecparam -genkey` writes this form."""
    path = tmp_path / "key"
    form = serialization.PrivateFormat.TraditionalOpenSSL
    path.write_bytes(EC_KEY.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    path.chmod(0o600)
    assert load_key_file(path).algorithm == "ES256"


def test_the_kid_is_the_rfc_7638_thumbprint(keys: dict[str, Key]) -> None:
    """RFC 7638, section 3: SHA-256 over the required members, sorted, without spaces."""
    verifying = keys["ec"].verifying
    assert isinstance(verifying, ec.EllipticCurvePublicKey)
    jwk = jwt.algorithms.ECAlgorithm.to_jwk(verifying, as_dict=True)
    members_hashed = f'{{"crv":"P-256","kty":"EC","x":"{jwk["x"]}","y":"{jwk["y"]}"}}'
    digest = hashlib.sha256(members_hashed.encode()).digest()
    assert keys["ec"].kid == base64.urlsafe_b64encode(digest).decode().rstrip("=")


def test_secrets_are_not_shown(keys: dict[str, Key]) -> None:
    """What is logged by mistake must not open the bank."""
    for key in keys.values():
        assert repr(key) == f"Key(kid={key.kid!r}, algorithm={key.algorithm!r})"


def test_the_ticket_key_tells_nothing_of_the_signing_key(keys: dict[str, Key]) -> None:
    """Section 7: derived one way, another for each key, and never the admissions' key itself."""
    secrets = {key.ticket_secret() for key in keys.values()}
    assert len(secrets) == 3
    assert keys["hs"].private not in secrets
    private = keys["ec"].private
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert private.private_numbers().private_value.to_bytes(32, "big") not in secrets


@pytest.mark.parametrize("key_bytes", [0, 1, 32, 63, 64, 65, 200])
@pytest.mark.parametrize("message", [b"", b"a", b"x" * 64, b"y" * 1000])
def test_a_mac_is_what_the_library_makes(key_bytes: int, message: bytes) -> None:
    """RFC 2104; edges and other gateways verify with libraries."""
    key = bytes(range(256))[:key_bytes]
    mac = Mac(key)
    assert mac.digest(message) == mac.digest(message) == hmac.digest(key, message, "sha256")
