"""Owns what follows from the figures of a configuration: sentences for `waitroom check`, none of them a fault."""

from __future__ import annotations

import math
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from gateway.model import Config, Room
from gateway.notation import can_overlap, duration_text, is_loopback

# Networks of proxies are narrower than what a provider hands out to strangers.
PREFIX_NARROW: Final = {4: 16, 6: 32}


def notes(config: Config) -> list[str]:
    """What a person should know about these figures before a crowd tells them."""
    return [
        *(note for room in config.rooms for note in _room_notes(room)),
        *(note for room in config.rooms for note in _unprotected_host_notes(config, room)),
        *_upstream_notes(config),
        *_server_notes(config),
    ]


def _room_notes(room: Room) -> Iterator[str]:
    rate, active_max = room.settings.drain_rate, room.settings.active_max
    cap_per_s = active_max / room.session_s
    needed = math.ceil(rate.per_second * room.session_s)
    if cap_per_s < rate.per_second:
        yield (
            f"{room.id}: with these figures the cap allows {_figure(cap_per_s)} entries/s when nobody releases, not "
            f"{_figure(rate.per_second)}: active_max {active_max} / session {duration_text(room.session_s)}. "
            f"For {rate} without releases: active_max >= {needed}"
        )
    if room.settings.burst > active_max:
        yield f"{room.id}: burst {room.settings.burst} is more than active_max {active_max}: the cap ends each burst"
    clear_s = room.waiting_max / rate.per_second
    yield f"{room.id}: a full line of {room.waiting_max:,} takes {_long(clear_s)} at {rate}"
    if room.settings.stock is not None:
        yield f"{room.id}: the door shuts when {room.settings.stock} are taken, unless the upstream reports otherwise"
    if room.settings.paused:
        yield f"{room.id}: is paused by the file: nobody enters until an operator resumes it"
    if not any(can_overlap(room.entry.partition("?")[0], match.path) for match in room.match):
        yield f"{room.id}: its entry {room.entry} is not among its own routes: visitors end where nothing is protected"


def _unprotected_host_notes(config: Config, room: Room) -> Iterator[str]:
    """A room for one host, before an upstream that others reach by [default]: a way round, if it ignores the host."""
    if config.default_upstream != room.upstream:
        return
    for match in room.match:
        if match.host is None:
            continue
        guarded = {other.host for other in room.match if can_overlap(other.path, match.path)}
        open_hosts = [host for host in config.server.hosts if host not in guarded]
        if None not in guarded and open_hosts:
            yield (
                f"{room.id}: {match.path} is protected at {match.host} only, while {', '.join(open_hosts)} "
                f"reach{'es' if len(open_hosts) == 1 else ''} the same upstream unprotected by [default]"
            )


def _upstream_notes(config: Config) -> Iterator[str]:
    for name, upstream in config.upstreams.items():
        rooms = [room for room in config.rooms if room.upstream == name]
        shares = sum(room.max_in_flight for room in rooms)
        if rooms and shares >= upstream.max_in_flight:
            yield (
                f"upstreams.{name}: the rooms' shares add up to {shares} of max_in_flight {upstream.max_in_flight}: "
                "when all are busy, nothing is left for its other routes"
            )
        if not rooms and config.default_upstream != name:
            yield f"upstreams.{name}: nothing is sent there: no room and no [default] names it"
        if rooms and not upstream.signing_key:
            yield f"upstreams.{name}: requests are not signed (signing_key_file): keep it reachable by gateways only"


def _server_notes(config: Config) -> Iterator[str]:
    server = config.server
    if config.default_upstream is None:
        yield "default: missing: what matches no room gets 404"
    if not server.hosts:
        yield "server.hosts: none is listed: requests for any host are answered"
    if not server.https:
        yield "server.scheme: plain http: cookies are neither Secure nor bound to the host; for development only"
    if not server.trusted_proxies:
        yield "server.trusted_proxies: none: the client's address is the connection's, X-Forwarded-For is not believed"
    for text in server.trusted_proxies:
        network = ip_network(text)
        if not network.is_private and network.prefixlen < PREFIX_NARROW[network.version]:
            yield (
                f"server.trusted_proxies: {text} is wide and public: whoever has an address there may forge the "
                "client's address, host and https"
            )
    if not config.operators:
        reach = "on this machine " if is_loopback(server.operator[0]) else ""
        yield f"operators: none: everyone {reach}who reaches the operator port may steer the rooms"
    if config.redis_url == "embedded":
        yield "redis.url: embedded: one gateway on this machine; several gateways need a Redis of their own"


def _figure(per_second: float) -> str:
    return f"{per_second:.3g}" if per_second < 1000 else f"{per_second:.0f}"


def _long(seconds: float) -> str:
    for unit, length_s in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length_s:
            return f"{seconds / length_s:.1f} {unit}"
    return f"{seconds:.0f} s"
