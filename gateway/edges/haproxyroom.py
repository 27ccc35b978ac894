"""One room in HAProxy: whose token counts and what it must say, what speaks against it, and the way to its upstream."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from typing import Final

from gateway.edges.haproxyserver import NO_FIELDS_OF_OURS, heads_to_upstream, open_backend, quoted, servers
from gateway.edges.site import Guard, Path, Site, commented, host_text
from gateway.model import Room
from gateway.rules.policy import HALF_LIFE
from gateway.rules.tokens import IAT_LEEWAY_S, header_of

ADMISSIONS_MAX: Final = 1_000_000  # an entry is made when it is needed
MEET_S: Final = 60  # gateways see each admission in use once in so long: active / MEET_S requests a second
KEPT: Final = ("until", "epoch", "entered", "fresh")  # of an admission, in a table's tags
SUBJECT: Final = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
SUBJECT_CHARACTERS: Final = 36
NUMBER_DIGITS_MAX: Final = 9  # of an epoch
PASSES: Final = "{ var(txn.pass) -m bool }"


def spellings(site: Site, host: str) -> tuple[str, str]:
    """A host as browsers send it; in any other spelling it is a gateway's to read."""
    name = host_text(host)
    return name, f"{name}:{site.listen.rpartition(':')[2]}"


def _mine(guard: Guard) -> str:
    return f"{{ var(txn.room) -m int {guard.index + 1} }}"


# --- in the frontend -------------------------------------------------------------------------------------------------


def asked(site: Site, guard: Guard) -> Iterator[str]:
    """Whose request it is, and the short way: by the very Cookie that was verified on this connection before."""
    mine = _mine(guard)
    yield ""
    yield f"    # Room {guard.room.id}"
    for number, (host, paths) in enumerate(guard.paths):
        acl = f"in_{guard.name}_{number}"
        yield from _path_acl(acl, paths)
        on_host = f" {{ req.fhdr(host) -m str {' '.join(spellings(site, host))} }}" if host is not None else ""
        yield f"    http-request set-var(txn.room) int({guard.index + 1}) if {{ var(txn.plain) -m bool }}{on_host} {acl}"
    for way in guard.ways:
        how = "-m beg" if way.is_folder else "-m str"
        yield f"    http-request set-var(txn.way) bool(true) if {mine} METH_GET {{ path {how} {quoted(way.path)} }}"
    yield (
        f"    http-request set-var(txn.pass) bool(true) if {mine} {{ var(sess.room) -m int {guard.index + 1} }} "
        "{ req.fhdr(cookie),strcmp(sess.cookie) eq 0 } { var(sess.fresh),sub(txn.now) gt 0 } "
        f"{{ var(sess.epoch),sub(proc.epoch_{guard.index}) ge 0 }}"
    )


def token(site: Site, guard: Guard) -> Iterator[str]:
    """The one token the request brought, and its claims, if it was verified before or has the form of ours."""
    mine, (opening, form) = _mine(guard), claims_form(site, guard.room)
    ours, ticket = f"req.cook_cnt({guard.admission_cookie})", f"req.cook_cnt({guard.ticket_cookie})"
    yield f"    # Room {guard.room.id}"
    yield f"    http-request set-var(txn.token) req.cook({guard.admission_cookie}) if {mine} {{ {ours} eq 1 }}"
    yield f"    http-request set-var(txn.by_cookie) bool(true) if {mine} {{ var(txn.token) -m found }}"
    yield (
        f"    http-request set-var(txn.token) req.fhdr(waitroom-admission) if {mine} {{ req.fhdr_cnt(waitroom-admission) eq 1 }} "
        f"{{ {ours} eq 0 }} {{ {ticket} eq 0 }}"
    )
    with_token = f"{mine} {{ var(txn.token) -m found }}"
    is_known = f"{with_token} {{ var(txn.token),table_gpt(0,{guard.name}) gt 0 }}"
    yield f"    http-request track-sc1 var(txn.token) table {guard.name} if {is_known}"
    yield f"    http-request set-var(txn.claims) var(txn.token),field(2,.),ub64dec if {with_token}"
    yield (
        f"    http-request set-var(txn.form) bool(true) if {with_token} !{{ sc1_tracked }} "
        f"{{ var(txn.claims) -m reg {quoted(form)} }} "
        f"{{ var(txn.token) -m len 1:{token_characters_max(site, guard.room)} }} !{{ var(txn.token),field(4,.) -m found }}"
    )
    subject = f"var(txn.claims),bytes({len(opening)},{SUBJECT_CHARACTERS})"
    yield f"    http-request set-var(txn.subject) {subject} if {with_token}"


def _path_acl(acl: str, paths: tuple[Path, ...]) -> Iterator[str]:
    exact = [text for path in paths for text in path.exact]
    yield f"    acl {acl} path -m str {' '.join(map(quoted, exact))}"
    if below := [path.below for path in paths if path.below is not None]:
        yield f"    acl {acl} path -m beg {' '.join(map(quoted, below))}"


def claims_form(site: Site, room: Room) -> tuple[str, str]:
    """How the claims of this room's admissions begin, and all that they may be: what `Keyring.mint_admission` writes.

    Plain integers of ten digits for the times, so that no other spelling of a number is ever computed with.
    """
    opening = f'{{"iss":{json.dumps(site.config.tokens.issuer)},"aud":{json.dumps(room.id)},"sub":"'
    escaped = re.sub(r"([^A-Za-z0-9_:,\"' -])", r"\\\1", opening)
    form = (
        f'^{escaped}{SUBJECT}","iat":[0-9]{{10}},"exp":[0-9]{{10}},"use":"admission",'
        f'"epoch":[0-9]{{1,{NUMBER_DIGITS_MAX}}},"ent":[0-9]{{10}}(,"ins":1)?\\}}$'
    )
    return opening, form.replace("'", ".")  # strong quotes end at an apostrophe; an issuer may have one


def token_characters_max(site: Site, room: Room) -> int:
    """The longest admission of this room: a table's key is cut at its length, and a cut token would be another's."""
    opening, _ = claims_form(site, room)
    ten = "0" * 10
    rest = f'{"0" * SUBJECT_CHARACTERS}","iat":{ten},"exp":{ten},"use":"admission","epoch":{"0" * NUMBER_DIGITS_MAX},'
    claims_bytes = len(opening) + len(rest) + len(f'"ent":{ten},"ins":1}}')
    header = max(len(header_of(key.algorithm, key.kid)) for key in site.keys)
    return header + 1 + -(-claims_bytes * 4 // 3) + 1 + 86


def judgement(guard: Guard) -> Iterator[str]:
    """What speaks against a token that is ours, and when a gateway should see it."""
    mine, room = _mine(guard), guard.room
    proven = f"{mine} {{ var(txn.until) -m found }}"
    yield ""
    yield f"    # Room {room.id}: in force, for a session at most; of an epoch that counts; not released."
    yield (
        f"    http-request set-var(txn.good) bool(true) if {proven} {{ var(txn.left) -m int 1:{room.session_s + IAT_LEEWAY_S} }} "
        f"{{ var(txn.epoch),sub(proc.epoch_{guard.index}) ge 0 }} !is_released"
    )
    yield "    # It passes by itself until a gateway should see it: past half of a session, for as long as it can be renewed; and"
    yield f"    # every {MEET_S} s, so that what gateways know of releases counts here. An instant entry is due at once: its slot"
    yield "    # lapses unless a gateway sees it come back. So is an upgrade, whose lease the gateway touches."
    yield from _fresh_until("http-request", guard, f"{mine} {{ var(txn.new) -m bool }}")
    is_instant = f"{mine} {{ var(txn.new) -m bool }} {{ var(txn.claims) -m end ',\"ins\":1}}' }}"
    yield f"    http-request set-var(txn.fresh) int(0) if {is_instant}"
    good = f"{mine} {{ var(txn.good) -m bool }}"
    yield f"    http-request set-var(txn.due) bool(true) if {good} has_gateway {{ var(txn.fresh),sub(txn.now) le 0 }}"
    yield f"    http-request set-var(txn.due) bool(true) if {good} has_gateway {{ req.hdr(upgrade) -m found }}"
    yield f"    http-request set-var(txn.pass) bool(true) if {good} !{{ var(txn.due) -m bool }}"
    yield from _remember("http-request", guard, f"{mine} {PASSES} {{ var(txn.new) -m bool }}")
    cut = f'regsub("(^|;[ \t]*){guard.admission_cookie.replace(".", "[.]")}=[^;]*","")'
    yield "    # A gateway may not have heard of the release yet: it is not shown what was released."
    ended = f"{proven} is_released"
    yield f"    http-request set-header Cookie %[req.fhdr(cookie),{quoted(cut)}] if {ended} {{ var(txn.by_cookie) -m bool }}"
    yield f"    http-request del-header waitroom-admission if {ended}"


def _fresh_until(when: str, guard: Guard, condition: str) -> Iterator[str]:
    room = guard.room
    renews = f"{{ var(txn.until),sub(txn.entered) lt {room.session_max_s} }}"
    yield f"    {when} set-var(txn.renew) var(txn.until) if {condition}"
    yield f"    {when} set-var(txn.renew) var(txn.until),sub({room.session_s // HALF_LIFE}) if {condition} {renews}"
    yield f"    {when} set-var(txn.fresh) date,add({MEET_S}) if {condition}"
    yield f"    {when} set-var(txn.fresh) var(txn.renew) if {condition} {{ var(txn.renew),sub(txn.fresh) lt 0 }}"


def _remember(when: str, guard: Guard, condition: str) -> Iterator[str]:
    yield f"    {when} track-sc1 var(txn.token) table {guard.name} if {condition}"
    yield from (f"    {when} sc-set-gpt({place},1) var(txn.{name}) if {condition}" for place, name in enumerate(KEPT))


def ways(guard: Guard) -> Iterator[str]:
    mine = _mine(guard)
    if guard.ways:
        yield f"    use_backend {guard.name}_open if {mine} {{ var(txn.way) -m bool }}"
    yield f"    use_backend {guard.name} if {mine} {PASSES}"


# --- in the gateways' backend ----------------------------------------------------------------------------------------


def told_by_gateway(guard: Guard) -> Iterator[str]:
    """What a gateway's answer says of the room, and of an admission that it let through."""
    mine = _mine(guard)
    yield (
        f"    http-response set-var(proc.epoch_{guard.index},iflt) res.hdr(waitroom-epoch),add(0) if {mine} "
        "{ res.hdr(waitroom-epoch) -m found }"
    )
    # With a cookie it is another admission that was let through: a renewed one, or an entry made anew.
    let_in = f"{mine} {{ var(txn.due) -m bool }} {{ res.hdr(waitroom-lease) -m int gt 0 }} !{{ res.hdr(set-cookie) -m found }}"
    yield from _fresh_until("http-response", guard, let_in)
    yield from _remember("http-response", guard, let_in)


# --- backends of its own ---------------------------------------------------------------------------------------------


def backends(site: Site, guard: Guard) -> Iterator[str]:
    room, upstream = guard.room, guard.upstream
    yield from commented(f"Room {room.id}, admitted. Remembers the admissions that were verified until they expire.")
    yield f"backend {guard.name}"
    length = token_characters_max(site, room)
    kept = f"expire {room.session_s + IAT_LEEWAY_S}s store gpt(4)"
    yield f"    stick-table type string len {length} size {ADMISSIONS_MAX} {kept}"
    yield from heads_to_upstream(site, is_room=True)
    yield "    http-request set-header Waitroom-Subject %[var(txn.subject)]"
    yield f"    http-request set-header Waitroom-Room {room.id}"
    if upstream.signing_key:
        key = base64.b64encode(upstream.signing_key).decode()
        yield f"    http-request set-var(txn.signed) var(txn.now),concat(.{room.id}.,txn.subject)"
        value = f"t=%[var(txn.now)],v1=%[var(txn.signed),hmac(sha256,{key}),hex,lower]"
        yield f'    http-request set-header Waitroom-Signature "{value}"'
    yield from _answer(site, guard)
    yield from servers(upstream, room.max_in_flight)
    if guard.ways:
        yield ""
        yield from commented(f"Room {room.id}: what its bypass rules let past the queue.")
        yield from open_backend(site, f"{guard.name}_open", upstream, room.max_in_flight)


def _answer(site: Site, guard: Guard) -> Iterator[str]:
    """Waitroom-Release ends the admission at this edge at once; the upstream reports it to a gateway besides."""
    yield "    http-response set-var(txn.ends) bool(true) if { res.hdr(waitroom-release) -m str 1 }"
    yield f"    http-response {NO_FIELDS_OF_OURS}"
    yield "    http-response set-header Waitroom-Lease %[var(txn.until),sub(txn.now)]"
    yield "    http-response allow if !{ var(txn.ends) -m found }"
    yield "    http-response set-header Waitroom-Lease 0"
    yield "    http-response sc-set-gpt0(0) date"
    bears = "!{ status 206 304 }"
    secure = "; Secure" if site.config.server.https else ""
    cookie = f"{guard.admission_cookie}=; Max-Age=0; Path=/; HttpOnly; SameSite=Lax{secure}"
    yield f'    http-response add-header Set-Cookie "{cookie}" if {bears}'
    yield f'    http-response set-header Cache-Control "private, no-store" if {bears}'
