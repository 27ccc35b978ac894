"""Owns the reading of small secret files: operator tokens, HMAC keys, a Redis URL with its password."""

from __future__ import annotations

import base64
import os
import re
import stat
from pathlib import Path
from typing import Final

SECRET_BYTES_MAX: Final = 16_384
HMAC_KEY_BYTES_MIN: Final = 32  # RFC 2104, section 3: as long as the hash, SHA-256
TOKEN_CHARACTERS_MIN: Final = 16

_HEX = re.compile(rb"(?:[0-9A-Fa-f]{2}){32,}")
_BASE64URL = re.compile(rb"[A-Za-z0-9_-]{43,}={0,2}")


def read_secret(path: Path) -> bytes:
    """The file's bytes; white space around a text is not part of it. `ValueError` is a clause about the file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe that nobody writes to must not hold us
    except OSError as fault:
        raise ValueError(f"cannot be read: {fault.strerror}") from None
    try:
        _check_file(os.fstat(descriptor))
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            content = file.read(SECRET_BYTES_MAX + 1)
    finally:
        os.close(descriptor)
    if len(content) > SECRET_BYTES_MAX:
        raise ValueError(f"is longer than {SECRET_BYTES_MAX} bytes")
    # A binary secret may end in 0x0A by chance, so only pure ASCII is taken for text and trimmed.
    return content.strip(b" \t\r\n") if content.isascii() else content


def _check_file(found: os.stat_result) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise ValueError("is a folder")
    if not stat.S_ISREG(found.st_mode):
        raise ValueError("is not a regular file")
    # Orchestrators lend root's files to a group; anything wider is open to strangers.
    is_lent_by_root = found.st_uid == 0 and os.geteuid() != 0
    if found.st_mode & (0o027 if is_lent_by_root else 0o077):
        raise ValueError(f"is open to others (mode {found.st_mode & 0o777:04o}): chmod 600 it")


def read_hmac_key(path: Path) -> bytes:
    """A key of 32 bytes at least: as hex, as base64url, or as it is. `ValueError` is a clause about the file."""
    content = read_secret(path)
    if _HEX.fullmatch(content):
        return bytes.fromhex(content.decode())
    if _BASE64URL.fullmatch(content):
        text = content.rstrip(b"=")
        if len(text) % 4 != 1:
            return base64.urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    if len(content) < HMAC_KEY_BYTES_MIN:
        raise ValueError(
            f"holds {len(content)} bytes: {HMAC_KEY_BYTES_MIN} at least, as hex, base64url or raw "
            f"(openssl rand -hex {HMAC_KEY_BYTES_MIN})"
        )
    return content


def read_token(path: Path) -> str:
    """A bearer token (RFC 6750) of 16 characters at least. `ValueError` is a clause about the file."""
    content = read_secret(path)
    if re.fullmatch(rb"[A-Za-z0-9._~+/=-]{%d,512}" % TOKEN_CHARACTERS_MIN, content) is None:
        raise ValueError(
            f"does not hold one bearer token of {TOKEN_CHARACTERS_MIN} to 512 letters, digits or ._~+/=- "
            "(openssl rand -hex 32)"
        )
    return content.decode()
