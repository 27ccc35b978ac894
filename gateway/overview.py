"""Owns what `waitroom check` prints of a good configuration: routes, rooms, upstreams, and what follows from them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from gateway.model import Config, Room, Upstream
from gateway.notation import address_text, duration_text, redis_place
from gateway.notes import notes


def overview(config: Config) -> str:
    """The configuration as it resolves, for a person; no secret is in it."""
    server = config.server
    parts = [
        f"{config.source} is good. config {config.digest[:12]}",
        columns(
            [
                ["public", f"{address_text(server.public)}, {'https at the edge' if server.https else 'plain http'}"],
                ["operator", address_text(server.operator)],
                ["workers", str(server.workers)],
                ["redis", redis_place(config.redis_url)],
                ["hosts", ", ".join(server.hosts) or "any"],
                ["trusted proxies", ", ".join(server.trusted_proxies) or "none"],
                ["operators", ", ".join(f"{one.name} ({one.role})" for one in config.operators) or "none"],
            ]
        ),
        "Routes\n" + columns([["  HOST", "PATH", "GOES TO"], *_routes(config)]),
        *(_room(room) for room in config.rooms),
        "Upstreams\n"
        + columns(
            [
                [f"  {name}", ", ".join(upstream.urls), f"{upstream.max_in_flight} in flight", _timeouts(upstream)]
                for name, upstream in config.upstreams.items()
            ]
        ),
    ]
    if found := notes(config):
        parts.append("What follows\n" + "\n".join(f"  - {note}" for note in found))
    return "\n\n".join(parts)


def _routes(config: Config) -> Iterator[list[str]]:
    for room in config.rooms:
        for match in room.match:
            yield [f"  {match.host or 'any'}", match.path, f"room {room.id}, then {room.upstream}"]
        for rule in room.bypass:
            what = rule.path or f"from {rule.source}"
            yield ["  as above", what, f"{room.upstream}, past the queue (GET, HEAD; {rule.name})"]
    yield ["  any", "/_waitroom/*", "the gateway itself"]
    yield ["  any", "everything else", config.default_upstream or "404"]


def _room(room: Room) -> str:
    settings = room.settings
    lines = [
        ["  enters", f"{settings.drain_rate}, burst {settings.burst}, at most {settings.active_max} inside"],
        ["  in flight", f"{room.max_in_flight} of {room.upstream}'s"],
        ["  session", f"{duration_text(room.session_s)}, used on up to {duration_text(room.session_max_s)}"],
        ["  claim window", f"{duration_text(room.claim_window_s)}; absent {duration_text(room.absence_max_s)} at most"],
        ["  line", f"{room.waiting_max:,} places, {room.joins_per_s:,} joins/s"],
        ["  page", f"status {room.queueing_status}, entry {room.entry}"],
    ]
    if room.origins:
        lines.append(["  origins", ", ".join(room.origins)])
    for name, at_s in (("opens", room.opens_at_s), ("closes", room.closes_at_s)):
        if at_s is not None:
            lines.append([f"  {name}", datetime.fromtimestamp(at_s, UTC).isoformat().replace("+00:00", "Z")])
    if room.customer_header is not None:
        lines.append(["  customers", f"one place each, by {room.customer_header}"])
    return f"Room {room.id}\n" + columns(lines)


def _timeouts(upstream: Upstream) -> str:
    figures = {
        "connect": upstream.connect_timeout_s,
        "read": upstream.read_timeout_s,
        "write": upstream.write_timeout_s,
        "idle": upstream.idle_timeout_s,
    }
    signed = "signed" if upstream.signing_key else "not signed"
    return ", ".join(f"{name} {duration_text(seconds)}" for name, seconds in figures.items()) + f", {signed}"


def columns(lines: list[list[str]]) -> str:
    """Lines of cells as text, each column as wide as its widest cell."""
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
