"""What every edge has to know of a site, drawn from its Config once: who is asked, which routes are whose, what is stripped.

An edge decides by itself only about what has one reading: a host of ours, a path in plain spelling. Everything else is the
gateway's to judge. So an edge may know less than `rules/routes.py`, and is never asked to know more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from gateway.errors import WaitroomError
from gateway.model import Config, Room, Upstream
from gateway.notation import address_text, fold, folder_of
from gateway.rules.keys import Key
from gateway.rules.tokens import cookie_name

# What an edge takes for plain, a part of `routes.is_plain`: no upper case, no quotes, no segment that begins with a dot.
PLAIN_PATH: Final = "(/[a-z0-9_~!$&()*+,=:@-][a-z0-9._~!$&()*+,=:@-]*)*/?"
PLAIN_TARGET: Final = f"^{PLAIN_PATH}([?][^#]*)?$"
_PLAIN: Final = re.compile(PLAIN_PATH)
# Fields that are between edges, gateways and upstreams, or a visitor's proof for a gateway. Edges that cannot remove by
# prefix remove these by name.
FIELDS: Final = (
    "Waitroom-Subject",
    "Waitroom-Room",
    "Waitroom-Signature",
    "Waitroom-Ticket",
    "Waitroom-Admission",
    "Waitroom-Transport",
    "Waitroom-Lease",
    "Waitroom-State",
    "Waitroom-Release",
    "Waitroom-Remaining",
    "Waitroom-Epoch",
)
AUTH: Final = "/_waitroom/auth"
RETRY_S: Final = 5
TRUST: Final = (
    "[server] trusted_proxies of waitroom.toml is empty: name the edge there, else gateways take it for the visitor, believe "
    "nothing that it says of one, and count all visitors as one network"
)
PROBLEM: Final = (
    '{"type":"unreachable","title":"The line cannot be reached just now","status":503,"detail":"try again in a moment"}'
)


class EdgeError(WaitroomError):
    """This configuration cannot be put before an edge."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an edge connects to."""

    host: str
    port: int
    is_tls: bool = False

    def __str__(self) -> str:
        return address_text((self.host, self.port))


@dataclass(frozen=True, slots=True)
class Path:
    """A path as edges compare it: itself with and without a final slash, and what lies below it."""

    text: str  # without the final slash; "" is the root
    is_folder: bool

    @property
    def exact(self) -> tuple[str, ...]:
        return (self.text, f"{self.text}/") if self.text else ("/",)

    @property
    def below(self) -> str | None:
        return f"{self.text}/" if self.is_folder else None


@dataclass(frozen=True, slots=True)
class Way:
    """A bypass rule in plain spelling: to the letter, or whatever lies below."""

    path: str
    is_folder: bool


@dataclass(frozen=True, slots=True)
class Guard:
    """A room as an edge sees it. `paths` by host, None for rules of every host; the hosts first."""

    index: int
    room: Room
    upstream: Upstream
    paths: tuple[tuple[str | None, tuple[Path, ...]], ...]
    ways: tuple[Way, ...]
    admission_cookie: str
    ticket_cookie: str

    @property
    def name(self) -> str:
        """A word for the edge's own configuration."""
        return f"room_{self.index}"


@dataclass(frozen=True, slots=True)
class Site:
    """A whole site, and where its edge stands. `certificate` None: TLS ends before the edge."""

    config: Config
    guards: tuple[Guard, ...]
    gateways: tuple[Address, ...]
    listen: str
    certificate: str | None
    keys: tuple[Key, ...] = field(repr=False)

    @property
    def hosts(self) -> tuple[str, ...]:
        return self.config.server.hosts

    @property
    def scheme(self) -> str:
        return "https" if self.config.server.https else "http"

    @property
    def default(self) -> Upstream | None:
        name = self.config.default_upstream
        return None if name is None else self.config.upstreams[name]


def site_of(
    config: Config,
    keys: Iterable[Key],
    *,
    listen: str | None = None,
    certificate: str | None = None,
    gateways: Sequence[Address] = (),
) -> Site:
    """Raises EdgeError where it is not known how gateways are reached."""
    host, port = config.server.public
    if not gateways and not port:
        raise EdgeError("[server] public has port 0, which is known only once it runs: name the gateways")
    known = {"0.0.0.0": "127.0.0.1", "::": "::1", "localhost": "127.0.0.1"}
    return Site(
        config=config,
        guards=tuple(_guard(config, index, room) for index, room in enumerate(config.rooms)),
        gateways=tuple(gateways) or (Address(known.get(host, host), port),),
        listen=listen or ("80" if certificate is None else "443"),
        certificate=certificate,
        keys=tuple(keys),
    )


def addresses(upstream: Upstream) -> list[Address]:
    """Where an upstream's URLs lead."""
    found = []
    for url in upstream.urls:
        parts = urlsplit(url)
        is_tls = parts.scheme == "https"
        found.append(Address(parts.hostname or "", parts.port or (443 if is_tls else 80), is_tls))
    return found


def is_tls(upstream: Upstream) -> bool:
    """Raises EdgeError for http:// and https:// together, which edges but HAProxy cannot balance over."""
    kinds = {address.is_tls for address in addresses(upstream)}
    if len(kinds) > 1:
        raise EdgeError(f"upstreams.{upstream.name}.urls: http:// or https:// for all, as this edge speaks one of them")
    return True in kinds


def host_text(host: str) -> str:
    """A host of the configuration as a Host header spells it."""
    return f"[{host}]" if ":" in host else host


def share(whole: int, upstream: Upstream) -> int:
    """What one of an upstream's URLs may have in flight, of so many together."""
    return -(-whole // len(upstream.urls))


def _guard(config: Config, index: int, room: Room) -> Guard:
    https = config.server.https
    hosts = sorted({match.host for match in room.match}, key=lambda host: (host is None, host or ""))
    return Guard(
        index=index,
        room=room,
        upstream=config.upstreams[room.upstream],
        paths=tuple((host, paths) for host in hosts if (paths := tuple(_paths(room, host)))),
        ways=tuple(_ways(room)),
        admission_cookie=cookie_name("admission", room.id, https=https),
        ticket_cookie=cookie_name("ticket", room.id, https=https),
    )


def _paths(room: Room, host: str | None) -> Iterator[Path]:
    """The room's paths on one host. One that is not plain is met by no plain target, hence left to the gateway."""
    for match in room.match:
        folder = folder_of(match.path)
        text = fold(match.path if folder is None else folder).rstrip("/")
        if match.host == host and _PLAIN.fullmatch(text or "/"):
            yield Path(text, folder is not None)


def _ways(room: Room) -> Iterator[Way]:
    for rule in room.bypass:
        if rule.path is not None:
            folder = folder_of(rule.path)
            path = rule.path if folder is None else folder
            if _PLAIN.fullmatch(path):
                yield Way(path, folder is not None)


def trust(site: Site) -> Iterator[str]:
    """What gateways must be told of this edge, while they are not."""
    if not site.config.server.trusted_proxies:
        yield "#"
        yield from commented(f"{TRUST}.")


def quoted(text: str) -> str:
    """A word of nginx and Caddy, whatever stands in it."""
    return json.dumps(text, ensure_ascii=False)


def commented(text: str, width: int = 110) -> list[str]:
    """A paragraph as comment lines."""
    lines, line = [], "#"
    for word in text.split():
        if len(line) + 1 + len(word) > width:
            lines.append(line)
            line = "#"
        line += f" {word}"
    return [*lines, line]
