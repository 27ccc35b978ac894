"""HAProxy (2.6.8 or later): verifies admissions itself, and keeps serving those who have one when every gateway is gone.

Theory. A request passes without a gateway only if everything about it is proven here: a host of ours, a target in plain
spelling, one admission whose header names a key of ours (so key and algorithm are ours to choose), whose claims have the
form that `rules/tokens.py` writes, whose times lie within a session, whose epoch is in force and whose subject was not
released. Whatever is not proven is no refusal: it goes to a gateway, which judges it as if there were no edge.

A verified admission is remembered by its whole text in the room's table, with what its claims say, so that a signature
costs once and not for every request. Epochs come with the health checks, which ask each room's board every second.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.edges import haproxyroom
from gateway.edges.haproxyserver import REST_OF_COOKIE, SUBJECTS, forwarded, open_backend, quoted
from gateway.edges.page import STATIC_PAGE
from gateway.edges.site import AUTH, PLAIN_TARGET, PROBLEM, RETRY_S, Site, commented, host_text, trust
from gateway.rules.tokens import header_of

GATEWAYS: Final = "waitroom_gateways"
CHECK_S: Final = 1
BOARD_END: Final = '"opens_at":[^{}]*\\}$'  # a board that has come whole
BUFFER_BYTES, REWRITE_BYTES = 16_384, 1_024  # HAProxy's own figures
SUBJECTS_MAX: Final = 1_000_000
IN_FLIGHT_MAX: Final = 16  # of one admission, as at a gateway
KEPT_COOKIE_BYTES_MAX: Final = 4096  # of each connection


def haproxy(site: Site, key_files: dict[str, Path]) -> str:
    """The whole configuration. `key_files`: by kid, where HAProxy finds the public half of each ES256 key."""
    parts = [
        *_opening(site),
        "",
        *_global(site),
        "",
        *_defaults(site),
        "",
        *_cache(),
        "",
        *_frontend(site, key_files),
        "",
        *_gateways(site),
        "",
        *_subjects(site),
    ]
    for guard in site.guards:
        parts += ["", *haproxyroom.backends(site, guard)]
    if site.default is not None:
        parts += [
            "",
            *commented("What no room protects, past the gateways."),
            *open_backend(site, "open", site.default, site.default.max_in_flight),
        ]
    return "\n".join(parts) + "\n"


def holds_secrets(site: Site) -> bool:
    """Whether a key that must stay secret is printed: whoever reads it can sign as the edge does."""
    return any(isinstance(key.private, bytes) for key in site.keys) or any(
        guard.upstream.signing_key for guard in site.guards
    )


def _opening(site: Site) -> Iterator[str]:
    yield "# HAProxy before waitroom, printed by `waitroom edge haproxy`; docs/edges.md explains every part."
    yield "#"
    yield from commented(
        "Print it again and reload HAProxy whenever waitroom.toml or a key changes. To rotate a key, let both be named in "
        "waitroom.toml (signing_key_file, verify_key_files) and here before the new one signs."
    )
    if holds_secrets(site):
        yield "#"
        yield from commented(
            "THIS FILE HOLDS SECRET KEYS (of upstreams, or HS256 keys of admissions). Whoever reads it can let anybody in: "
            "keep it root:root 0600, out of version control and backups that others read. HAProxy reads it as root, "
            "before it changes its user."
        )
    yield from trust(site)


def _global(site: Site) -> Iterator[str]:
    yield "global"
    yield "    log /dev/log local0 notice"
    yield "    # Connections: as many as `ulimit -n` allows, halved. As root, change the user once the ports and keys are open:"
    yield "    # user haproxy"
    yield "    # group haproxy"
    yield f"    tune.bufsize {max(BUFFER_BYTES, site.config.server.header_bytes_max + REWRITE_BYTES)}  # heads must fit"
    yield "    # The lowest epoch whose admissions count, by room, raised by what gateways say (Waitroom-Epoch)."
    for guard in site.guards:
        yield f"    set-var proc.epoch_{guard.index} int(0)"


def _defaults(site: Site) -> Iterator[str]:
    yield "defaults"
    yield "    mode http"
    yield "    option forwardfor"
    yield "    timeout http-request 10s"
    yield "    timeout http-keep-alive 60s"
    yield "    timeout client 60s"
    yield "    timeout connect 2s"
    yield "    timeout queue 5s"
    yield "    timeout server 60s"
    tunnel_s = max(upstream.idle_timeout_s for upstream in site.config.upstreams.values())
    yield f"    timeout tunnel {tunnel_s:.0f}s"


def _cache() -> Iterator[str]:
    yield from commented("Boards and waiting pages for a second, whoever asks; nothing that bears a cookie.")
    yield "cache waitroom"
    yield "    total-max-size 8"
    yield "    max-object-size 262144"
    yield "    max-age 1"
    yield "    process-vary on"


# --- the frontend ----------------------------------------------------------------------------------------------------


def _frontend(site: Site, key_files: dict[str, Path]) -> Iterator[str]:
    yield "frontend waitroom"
    if site.certificate is None:
        yield "    # TLS ends before this; or print with --certificate FILE, and it ends here:"
        yield "    # bind :443 ssl crt /etc/ssl/private/site.pem alpn h2,http/1.1"
        yield f"    bind {_bind(site.listen)}"
    else:
        yield f"    bind {_bind(site.listen)} ssl crt {quoted(site.certificate)} alpn h2,http/1.1"
    yield from _public(site)
    yield from _asked(site)
    for guard in site.guards:
        yield from haproxyroom.asked(site, guard)
    yield from _short_way()
    yield from _verified(site, key_files)
    for guard in site.guards:
        yield from haproxyroom.judgement(guard)
    yield from _passing()
    yield from _answered(site)
    for guard in site.guards:
        yield from haproxyroom.ways(guard)
    if site.default is not None:
        yield "    use_backend open if { var(txn.plain) -m bool } !{ var(txn.room) -m found }"
    yield f"    default_backend {GATEWAYS}"


def _bind(listen: str) -> str:
    return listen if ":" in listen else f":{listen}"


def _public(site: Site) -> Iterator[str]:
    boards = " ".join(f"/_waitroom/{guard.room.id}/board" for guard in site.guards)
    pages = " ".join(f"/_waitroom/{guard.room.id}/" for guard in site.guards)
    yield ""
    yield "    # The crowd's two public questions. Boards come with the health checks, every second, so nobody has to be asked;"
    yield "    # before the first, and for rooms that other origins read, they are cached like the waiting page, which is the"
    yield "    # same for every return_to: that stays in the browser."
    yield "    acl is_ours path -m beg /_waitroom"
    own_host = ""
    if site.hosts:
        names = (name for host in site.hosts for name in haproxyroom.spellings(site, host))
        yield f"    acl own_host req.fhdr(host) -m str {' '.join(names)}"
        own_host = " own_host"
    yield f"    acl has_gateway nbsrv({GATEWAYS}) gt 0"
    for guard in site.guards:
        if not guard.room.origins:  # with origins its head depends on who asks
            board = f"var(proc.board_{guard.index})"
            asked = f"is_ours {{ method GET }}{own_host} {{ pathq /_waitroom/{guard.room.id}/board }}"
            yield (
                f"    http-request return status 200 content-type application/json lf-string %[{board}] "
                f'hdr Cache-Control "public, max-age=1" if {asked} has_gateway {{ {board} -m found }}'
            )
    yield f"    http-request set-pathq %[path] if is_ours {{ method GET }} {{ path {pages} }} {{ query -m found }}"
    asked = f"is_ours {{ method GET }}{own_host} {{ pathq -m str {boards} {pages} }}"
    yield f"    http-request set-var(txn.public) bool(true) if {asked}"
    yield "    http-request cache-use waitroom if { var(txn.public) -m bool }"
    yield "    http-response cache-store waitroom if { var(txn.public) -m bool } !{ res.hdr(set-cookie) -m found }"
    yield f"    http-request return status 404 if is_ours {{ path {AUTH} }} || is_ours {{ path -m beg {AUTH}/ }}"


def _asked(site: Site) -> Iterator[str]:
    yield ""
    yield "    # What is asked. A target is judged here only if it can be read in one way: a host of ours, lower case, no"
    yield "    # percent-encoding, backslash, parameters, empty or dotted segments. All others are the gateway's to judge."
    yield "    http-request set-var(txn.now) date"
    own_host = "own_host " if site.hosts else ""
    yield "    acl origin_form url -m beg /"
    yield "    acl origin_form fc_http_major 2"
    yield "    acl told_twice req.fhdr_cnt(host) gt 1"
    yield "    acl told_twice req.fhdr_cnt(cookie) gt 1"
    yield (
        f"    http-request set-var(txn.plain) bool(true) if {own_host}origin_form !is_ours "
        f"{{ pathq -m reg {quoted(PLAIN_TARGET)} }} !told_twice"
    )


def _short_way() -> Iterator[str]:
    passes = "{ var(txn.pass) -m bool }"
    yield ""
    yield "    # The same Cookie as before on this connection: nothing is parsed, looked up or verified again."
    yield f"    http-request track-sc0 var(sess.subject) table {SUBJECTS} if {passes}"
    for name, value in (("subject", "var(sess.subject)"), ("until", "var(sess.until)"), ("is_kept", "bool(true)")):
        yield f"    http-request set-var(txn.{name}) {value} if {passes}"
    is_fine = f"{{ sc_get_gpt0(0) eq 0 }} {{ sc0_conn_cur le {IN_FLIGHT_MAX} }} !{{ req.hdr(upgrade) -m found }}"
    yield f"    http-request allow if {passes} {is_fine}"
    yield f"    http-request set-var(txn.is_kept) bool(false) if {passes}"
    yield f"    http-request set-var(txn.pass) bool(false) if {passes}"


def _verified(site: Site, key_files: dict[str, Path]) -> Iterator[str]:
    ours = "{ var(txn.form) -m bool }"
    yield ""
    yield "    # The token. Of two cookies of one name none counts; an app's header counts where no cookie of ours came. One that"
    yield "    # is not remembered must have claims in the form of ours, and a header that is, to the byte, what a key of ours"
    yield "    # writes: that settles key and algorithm, and a token's own idea of either is nothing."
    for guard in site.guards:
        yield from haproxyroom.token(site, guard)
    yield f"    http-request set-var(txn.signature) var(txn.token),field(3,.) if {ours}"
    for key in site.keys:
        header = f"{{ var(txn.token),field(1,.) -m str {header_of(key.algorithm, key.kid).decode()} }}"
        yield f"    # kid {key.kid}"
        if isinstance(key.private, bytes):
            secret = base64.b64encode(key.private).decode()
            proof = f"{{ var(txn.token),field(1,.,2),hmac(sha256,{secret}),ub64enc,secure_memcmp(txn.signature) }}"
        else:
            # Compared with 1: what goes wrong is a negative number, which would count as true.
            proof = f'{{ var(txn.token),jwt_verify("ES256",{_word(key_files[key.kid])}) -m int 1 }}'
        yield f"    http-request set-var(txn.new) bool(true) if {ours} {header} {proof}"
    for name, claim in (("until", "exp"), ("epoch", "epoch"), ("entered", "ent")):
        read = f"var(txn.claims),json_query('$.{claim}','int')"
        yield f"    http-request set-var(txn.{name}) {read} if {{ var(txn.new) -m bool }}"
    for place, name in enumerate(haproxyroom.KEPT):
        yield f"    http-request set-var(txn.{name}) sc_get_gpt({place},1) if {{ sc1_tracked }}"
    yield "    http-request set-var(txn.left) var(txn.until),sub(txn.now)"
    yield f"    http-request track-sc0 var(txn.subject) table {SUBJECTS} if {{ var(txn.until) -m found }}"
    yield "    http-request set-var(txn.released) sc_get_gpt0(0)"
    yield "    acl is_released var(txn.entered),sub(txn.released) le 0"


def _passing() -> Iterator[str]:
    passes = "{ var(txn.pass) -m bool }"
    yield ""
    yield "    # One admission is no battering ram, at an edge no more than at a gateway."
    yield (
        "    http-request return status 429 content-type text/plain string 'too many requests under way' hdr Retry-After 1 "
        f"if {passes} {{ sc0_conn_cur gt {IN_FLIGHT_MAX} }}"
    )
    yield "    # What this connection may be spared the next time."
    kept = f"{passes} {{ var(txn.by_cookie) -m bool }} {{ req.fhdr(cookie) -m len 1:{KEPT_COOKIE_BYTES_MAX} }}"
    yield f"    http-request set-var(txn.is_kept) bool(true) if {kept}"
    kept = "{ var(txn.is_kept) -m bool }"
    yield f"    http-request set-var(sess.cookie) req.fhdr(cookie) if {kept}"
    for name in ("room", "fresh", "epoch", "subject", "until"):
        yield f"    http-request set-var(sess.{name}) var(txn.{name}) if {kept}"
    yield f"    http-request set-var(sess.rest) {REST_OF_COOKIE} if {kept}"


def _answered(site: Site) -> Iterator[str]:
    yield ""
    yield "    # While no gateway lives: a page that tries again, for all who cannot be let through by the edge alone."
    passing = "!{ var(txn.pass) -m bool } !{ var(txn.way) -m bool }"
    if site.default is not None:
        yield "    acl is_open var(txn.plain) -m bool"
        yield "    http-request set-var(txn.way) bool(true) if is_open !{ var(txn.room) -m found }"
    again = f"hdr Retry-After {RETRY_S} hdr Cache-Control no-store"
    yield (
        '    http-request return status 503 content-type "text/html; charset=utf-8" '
        f"string {quoted(STATIC_PAGE)} {again} if !has_gateway {passing} {{ req.hdr(accept) -m sub text/html }}"
    )
    yield (
        "    http-request return status 503 content-type application/problem+json "
        f"string {quoted(PROBLEM)} {again} if !has_gateway {passing}"
    )


# --- gateways, releases, open routes ---------------------------------------------------------------------------------


def _gateways(site: Site) -> Iterator[str]:
    host = site.hosts[0] if site.hosts else "localhost"
    yield from commented(
        "Newcomers, /_waitroom/, renewals, and every target that is not plain. Each check asks whether the gateway serves, "
        "then every room's board for its epoch: so a reset is known here within a second or two, whoever asks for what."
    )
    yield f"backend {GATEWAYS}"
    yield "    log global"
    yield "    balance roundrobin"
    yield "    option redispatch 1"
    yield "    retries 2"
    yield "    option httpchk"
    yield "    http-check connect"
    yield f"    http-check send meth GET uri /_waitroom/health ver HTTP/1.1 hdr Host {host_text(host)}"
    yield "    http-check expect status 200"
    for guard in site.guards:
        yield "    http-check connect"
        yield f"    http-check send meth GET uri /_waitroom/{guard.room.id}/board ver HTTP/1.1 hdr Host {host_text(host)}"
        yield "    http-check expect status 200"
        yield f"    http-check set-var(proc.epoch_{guard.index},iflt) res.hdr(waitroom-epoch),add(0)"
        yield f"    http-check expect rstring {quoted(BOARD_END)}"
        yield f"    http-check set-var(proc.board_{guard.index}) res.body"
    yield from forwarded(site)
    for guard in site.guards:
        yield from haproxyroom.told_by_gateway(guard)
    yield "    http-response sc-set-gpt0(0) date if { sc0_tracked } { res.hdr(waitroom-lease) -m str 0 }"
    yield "    http-response del-header waitroom-epoch"
    page = f'content-type "text/html; charset=utf-8" string {quoted(STATIC_PAGE)} hdr Retry-After {RETRY_S}'
    yield from (f"    http-error status {status} {page}" for status in (502, 503, 504))
    # A connection that fails takes the gateway out at once, before its next check; another gets the request.
    yield f"    default-server check inter {CHECK_S}s fall 2 rise 1 observe layer4 error-limit 1 on-error mark-down"
    for index, gateway in enumerate(site.gateways):
        yield f"    server gateway{index} {gateway}"


def _subjects(site: Site) -> Iterator[str]:
    session_s = max(guard.room.session_s for guard in site.guards) if site.guards else 600
    yield from commented(
        "Subjects that are inside: how many requests each has under way, and when it was released, for as long as what was "
        "issued to it before may live. Several edges tell each other of releases through `peers`: name them in a `peers` "
        "section of HAProxy's own, and add `peers NAME` to the stick-table."
    )
    yield f"backend {SUBJECTS}"
    yield f"    stick-table type string len 36 size {SUBJECTS_MAX} expire {session_s + 120}s store gpt0,conn_cur"


def _word(path: Path) -> str:
    """An argument of a converter, which HAProxy takes apart a second time."""
    return json.dumps(str(path))
