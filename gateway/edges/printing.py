"""From a Config to what `waitroom edge` prints, what it says besides, and the public keys it leaves for the edge to read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization

from gateway.edges.caddy import caddy
from gateway.edges.haproxy import haproxy, holds_secrets
from gateway.edges.nginx import nginx
from gateway.edges.site import TRUST, Address, site_of
from gateway.model import Config
from gateway.rules.keys import Key

KINDS: Final = ("haproxy", "nginx", "caddy")
_LISTEN = re.compile(r"(?:(?:\[[0-9A-Fa-f:]+\]|[0-9.]+):)?[0-9]{1,5}")
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Printed:
    """`files`: public keys, for nobody to hide, that the text names; `remarks` are sentences for whoever asked."""

    text: str = field(repr=False)
    remarks: tuple[str, ...] = ()
    files: tuple[tuple[Path, bytes], ...] = ()


def printed(
    kind: str,
    config: Config,
    read_key: Callable[[Path], Key],
    *,
    listen: str | None = None,
    certificate: str | None = None,
    gateways: Sequence[Address] = (),
) -> Printed:
    """`kind`: haproxy, nginx or caddy. Raises EdgeError, KeyFileError."""
    names = (config.tokens.signing_key_file, *config.tokens.verify_key_files)
    keys = {Path(name): read_key(Path(name)) for name in names}
    site = site_of(config, keys.values(), listen=listen, certificate=certificate, gateways=gateways)
    remarks = [] if config.server.trusted_proxies else [TRUST]
    if kind != "haproxy":
        return Printed({"nginx": nginx, "caddy": caddy}[kind](site), tuple(remarks))
    files = {key.kid: path.absolute().with_name(f"{path.name}.pub") for path, key in keys.items() if _is_public(key)}
    if holds_secrets(site):
        remarks.append(SECRECY)
    contents = tuple((files[key.kid], public_pem(key)) for key in keys.values() if key.kid in files)
    return Printed(haproxy(site, files), tuple(remarks), contents)


SECRECY: Final = (
    "what is printed holds secret keys: keep it readable by root alone "
    "(umask 077; waitroom edge haproxy > /etc/haproxy/haproxy.cfg)"
)


def public_pem(key: Key) -> bytes:
    """The public half of an ES256 key, as edges read it."""
    assert not isinstance(key.private, bytes), "a symmetric key has no public half"
    kind = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.private.public_key().public_bytes(serialization.Encoding.PEM, kind)


def gateway_address(text: str) -> Address:
    """`host:port`; raises ValueError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found[3]) < 65536:
        raise ValueError(f"{text}: host:port is wanted")
    return Address(found[1] or found[2], int(found[3]))


def listen_address(text: str) -> str:
    """`port` or `address:port`; raises ValueError."""
    if _LISTEN.fullmatch(text) is None or int(text.rpartition(":")[2]) > 65535:
        raise ValueError(f"{text}: a port, or address:port, is wanted")
    return text


def _is_public(key: Key) -> bool:
    return not isinstance(key.private, bytes)
