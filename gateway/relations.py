"""Owns what must hold between keys of waitroom.toml, each a sentence that says why; `schema.py` bounds single keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from itertools import combinations
from urllib.parse import urlsplit

from gateway import notation
from gateway.draft import Checked, Draft, shown
from gateway.model import Rate
from gateway.notation import duration_text
from gateway.schema import AuditTable, BypassTable, OperatorTable, RoomTable, ServerTable, UpstreamTable


def faults(draft: Draft, *, dev: bool) -> Iterator[str]:
    """Every relation that does not hold, among keys that are good by themselves."""
    yield from _server_faults(draft.server, draft.operators, dev=dev)
    yield from _worker_faults(draft)
    yield from _operator_faults(draft)
    yield from _audit_faults(draft.audit)
    yield from _duplicates("rooms", "id", [room.table.id for room in draft.rooms if room.has("id")])
    for upstream in draft.upstreams.values():
        yield from _url_faults(draft.server, upstream)
    for room in draft.rooms:
        yield from _upstream_faults(draft, room)
        yield from _figure_faults(room)
        yield from _customer_faults(draft.server, room)
        yield from _bypass_faults(room)
        yield from _host_faults(draft.server, room)
    yield from _overlap_faults(draft.rooms)
    if draft.default is not None and draft.default.has("upstream"):
        yield from _unknown_upstream("default.upstream", draft.default.table.upstream, draft)


def burst_fault(burst: int, rate: Rate) -> str | None:
    """Why this burst does not go with this rate; the operator API asks the same of a change."""
    low = notation.burst_min(rate)
    if low <= burst <= notation.BURST_MAX:
        return None
    return (
        f"allowed: {low} to {notation.BURST_MAX} at {rate}, a quarter of a second of the rate or more, 2 at least: "
        "with less the door stands idle between two looks"
    )


def _worker_faults(draft: Draft) -> Iterator[str]:
    if not draft.server.has("workers"):
        return
    workers = draft.server.table.workers
    of_upstreams = [(one.key, one.table.max_in_flight) for one in draft.upstreams.values() if one.has("max_in_flight")]
    of_rooms = [(one.key, one.table.max_in_flight) for one in draft.rooms if one.has("max_in_flight")]
    for key, limit in (*of_upstreams, *of_rooms):
        if limit is not None and limit < workers:
            yield (
                f"{key}.max_in_flight = {limit} with server.workers = {workers}: allowed: {workers} or more, "
                "as it is divided among the workers, or fewer workers"
            )
    if workers > 1 and draft.redis.has("url") and draft.redis.table.url == "embedded":
        yield (
            f'server.workers = {workers} with redis.url = "embedded": allowed: 1, or the URL of a Redis or Valkey of its own: '
            "the embedded server belongs to one process"
        )


def _server_faults(
    server: Checked[ServerTable], operators: list[Checked[OperatorTable]], *, dev: bool
) -> Iterator[str]:
    table = server.table
    if server.has("scheme") and table.scheme == "http" and not dev:
        yield (
            'server.scheme = "http": allowed: "https", or "http" with --dev: without TLS before the gateway anyone '
            "on the way can take a visitor's place"
        )
    if server.has("operator") and not notation.is_loopback(table.operator[0]) and not operators:
        yield (
            f"server.operator = {shown(notation.address_text(table.operator))}: allowed: a loopback address, or any with "
            "[[operators]]: whoever reaches this port steers the rooms"
        )
    if server.has("public", "operator") and _is_same_port(table.public, table.operator):
        yield (
            f"server.operator = {shown(notation.address_text(table.operator))}: allowed: another port than that of "
            f"server.public, {shown(notation.address_text(table.public))}"
        )
    if server.has("trusted_proxies") and _is_everybody(table.trusted_proxies):
        yield (
            f"server.trusted_proxies = {shown(table.trusted_proxies)}: allowed: the networks of your own proxies: "
            "whoever is trusted may forge the client's address, and with everybody trusted source rules, the host and "
            "https are what a client says they are"
        )


def _audit_faults(audit: Checked[AuditTable]) -> Iterator[str]:
    if audit.has("stream", "file") and audit.table.stream == 0 and audit.table.file is not None:
        yield 'audit.file with audit.stream = "0B": allowed: a stream of "1MiB" or more, as it is Redis that numbers the events'


def _is_same_port(one: tuple[str, int], other: tuple[str, int]) -> bool:
    """Whether one of two listeners would find the port in use; an unspecified address takes it on all of them."""
    hosts = {"127.0.0.1" if host == "localhost" else host for host in (one[0], other[0])}
    is_shared = len(hosts) == 1 or any(ip_address(host).is_unspecified for host in hosts)
    return one[1] == other[1] != 0 and is_shared


def _is_everybody(networks: list[str]) -> bool:
    """Whether all addresses of a family are in them, in one piece or in several."""
    read = [ip_network(text) for text in networks]
    four = collapse_addresses(network for network in read if isinstance(network, IPv4Network))
    six = collapse_addresses(network for network in read if isinstance(network, IPv6Network))
    return any(network.prefixlen == 0 for network in four) or any(network.prefixlen == 0 for network in six)


def _url_faults(server: Checked[ServerTable], upstream: Checked[UpstreamTable]) -> Iterator[str]:
    if not upstream.has("urls"):
        return
    for url, times in Counter(upstream.table.urls).items():
        if times > 1:
            yield f"{upstream.key}.urls: {shown(url)} stands there {times} times; allowed: each URL once"
    for index, url in enumerate(upstream.table.urls):
        if server.has("public") and _is_gateway(url, server.table.public):
            yield f"{upstream.key}.urls[{index}] = {shown(url)}: is this gateway itself (server.public); allowed: another"


def _is_gateway(url: str, public: tuple[str, int]) -> bool:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    here, there = ("127.0.0.1" if host == "localhost" else host for host in (public[0], parts.hostname or ""))
    try:
        is_near = notation.is_loopback(there)
    except ValueError:  # a name: who knows where it leads
        return False
    return port == public[1] and (there == here or (is_near and ip_address(here).is_unspecified))


def _operator_faults(draft: Draft) -> Iterator[str]:
    yield from _duplicates("operators", "name", [one.table.name for one in draft.operators if one.has("name")])
    known = [room.table.id for room in draft.rooms if room.has("id")]
    for operator in draft.operators:
        for name in operator.table.rooms if operator.has("rooms") else ():
            if name not in known:
                yield f"{operator.key}.rooms: no room is called {shown(name)}; allowed: {', '.join(known)}"


def _duplicates(place: str, key: str, names: list[str]) -> Iterator[str]:
    for name, times in Counter(names).items():
        if times > 1:
            yield f"{place}: {times} have {key} = {shown(name)}; allowed: each {key} once"


def _upstream_faults(draft: Draft, room: Checked[RoomTable]) -> Iterator[str]:
    if not room.has("upstream"):
        return
    yield from _unknown_upstream(f"{room.key}.upstream", room.table.upstream, draft)
    upstream = draft.upstreams.get(room.table.upstream)
    share = room.table.max_in_flight
    if upstream is None or share is None or not (upstream.has("max_in_flight") and room.has("max_in_flight")):
        return
    if share > upstream.table.max_in_flight:
        yield (
            f"{room.key}.max_in_flight = {share}: allowed: 1 to {upstream.table.max_in_flight}, which is "
            f"upstreams.{room.table.upstream}.max_in_flight: a share cannot exceed the whole"
        )


def _unknown_upstream(place: str, name: str, draft: Draft) -> Iterator[str]:
    if name not in draft.upstreams:
        yield f"{place} = {shown(name)}: no such upstream; allowed: {', '.join(draft.upstreams) or 'none is defined'}"


def _figure_faults(room: Checked[RoomTable]) -> Iterator[str]:
    table = room.table
    if (
        room.has("burst", "drain_rate")
        and table.burst is not None
        and (why := burst_fault(table.burst, table.drain_rate))
    ):
        yield f"{room.key}.burst = {table.burst}: {why}"
    if room.has("session", "session_max") and table.session > table.session_max:
        yield (
            f'{room.key}.session = "{duration_text(table.session)}": allowed: up to session_max, which is '
            f'"{duration_text(table.session_max)}": one lease cannot outlast all its renewals'
        )
    if room.has("claim_window", "absence_max") and table.claim_window > table.absence_max:
        yield (
            f'{room.key}.claim_window = "{duration_text(table.claim_window)}": allowed: up to absence_max, which is '
            f'"{duration_text(table.absence_max)}": a place must be kept as long as the page promises'
        )
    if room.has("opens_at", "closes_at") and table.opens_at and table.closes_at and table.closes_at <= table.opens_at:
        yield f"{room.key}.closes_at = {shown(table.closes_at)}: allowed: later than opens_at, {shown(table.opens_at)}"


def _customer_faults(server: Checked[ServerTable], room: Checked[RoomTable]) -> Iterator[str]:
    table = room.table
    if not room.has("customer_header", "customer_secret_file"):
        return
    if (table.customer_header is None) != (table.customer_secret_file is None):
        given, other = ("customer_header", "customer_secret_file")[:: 1 if table.customer_header is not None else -1]
        yield f"{room.key}.{given}: allowed: together with {other}, which makes a place of the customer's name"
    elif table.customer_header is not None and server.has("trusted_proxies") and not server.table.trusted_proxies:
        yield (
            f"{room.key}.customer_header = {shown(table.customer_header)}: allowed: with server.trusted_proxies: from "
            "anyone else the header is a claim, not a customer"
        )


def _bypass_faults(room: Checked[RoomTable]) -> Iterator[str]:
    if not room.has("bypass"):
        return
    for index, rule in enumerate(room.table.bypass):
        place = f"{room.key}.bypass[{index}]"
        if (rule.path is None) == (rule.source is None):
            yield f"{place}: allowed: either path or source, one of the two"
        elif room.has("match") and rule.path is not None and not _is_inside(rule.path, room.table):
            yield f"{place}.path = {shown(rule.path)}: allowed: a path that the room protects; this one it does not"
    yield from _duplicates(f"{room.key}.bypass", "name", [bypass_name(rule) for rule in room.table.bypass])


def _is_inside(path: str, room: RoomTable) -> bool:
    return any(notation.can_overlap(path, match.path) for match in room.match)


def bypass_name(rule: BypassTable) -> str:
    """What the rule is called in metrics: its name, or what it says."""
    return rule.name or rule.path or rule.source or ""


def _host_faults(server: Checked[ServerTable], room: Checked[RoomTable]) -> Iterator[str]:
    if not (room.has("match") and server.has("hosts")):
        return
    for index, match in enumerate(room.table.match):
        if match.host is not None and match.host not in server.table.hosts:
            yield (
                f"{room.key}.match[{index}].host = {shown(match.host)}: allowed: one of server.hosts "
                f"({', '.join(server.table.hosts) or 'none listed'}): under any other name a request gets past the room"
            )


def _overlap_faults(rooms: list[Checked[RoomTable]]) -> Iterator[str]:
    for one, other in combinations([room for room in rooms if room.has("match")], 2):
        if one.key == other.key:  # a room that stands there twice is told as that
            continue
        found = next(
            (
                (mine.path, theirs.path)
                for mine in one.table.match
                for theirs in other.table.match
                if (mine.host is None or theirs.host is None or mine.host == theirs.host)
                and notation.can_overlap(mine.path, theirs.path)
            ),
            None,
        )
        if found is not None:
            yield (
                f"{one.key}.match and {other.key}.match overlap: {shown(found[0])} and {shown(found[1])} can be the "
                "same request; allowed: routes that no spelling puts into two rooms (nor case or a final slash)"
            )
