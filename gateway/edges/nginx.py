"""nginx (1.22): asks a gateway for each admitted request (`auth_request`), and keeps the verdict for a second.

Whatever the gateway does not allow is sent to it whole, so that it answers as if there were no edge: the waiting page in
place, an instant entry, a renewal. Only requests with a good verdict go to the upstream past it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.edges.page import STATIC_PAGE
from gateway.edges.site import (
    AUTH,
    FIELDS,
    PLAIN_TARGET,
    PROBLEM,
    RETRY_S,
    Guard,
    Path,
    Site,
    addresses,
    commented,
    host_text,
    is_tls,
    quoted,
    trust,
)
from gateway.model import Upstream

CACHE: Final = "/var/cache/waitroom-edge"
GATEWAYS: Final = "waitroom_gateways"
VERDICT_S: Final = 1
SYSTEM_CA: Final = "/etc/ssl/certs/ca-certificates.crt"
COOKIES_MAX: Final = 6  # of ours in one request; more are the upstream's to ignore


def nginx(site: Site) -> str:
    """What belongs into nginx's `http` block, as a file of conf.d does."""
    parts = [*_opening(site), "", *_maps(site), "", *_cache(), "", *_upstreams(site), *_servers(site)]
    return "\n".join(parts) + "\n"


def _opening(site: Site) -> Iterator[str]:
    yield "# nginx before waitroom, printed by `waitroom edge nginx`; docs/edges.md explains every part."
    yield "#"
    yield from commented(
        "Save it as /etc/nginx/conf.d/waitroom.conf (it belongs into the http block), and print it again whenever "
        "waitroom.toml changes. It holds no secret: gateways sign."
    )
    yield from trust(site)


def _maps(site: Site) -> Iterator[str]:
    yield from commented(
        "A target is judged here only if it can be read in one way: lower case, no percent-encoding, backslash, "
        "parameters, empty or dotted segments. All others are the gateway's to judge."
    )
    yield "map $request_uri $waitroom_odd {"
    yield "    default 1;"
    yield f'    "~{PLAIN_TARGET}" 0;'
    yield "}"
    yield from commented("Our cookies, taken out one by one: no upstream sees them.")
    for number in range(COOKIES_MAX):
        before = f"$waitroom_cookie_{number}" if number else "$http_cookie"
        yield f"map {before} $waitroom_cookie_{number + 1} {{"
        yield f"    default {before};"
        yield (
            '    "~*^(?<waitroom_a>(?:.*;[ ]*)?)(?:__host-)?waitroom-[^;]*(?:;[ ]*(?<waitroom_b>.*))?$" '
            '"$waitroom_a$waitroom_b";'
        )
        yield "}"
    yield f"map $waitroom_cookie_{COOKIES_MAX} $waitroom_cookie {{"
    yield '    "~^(?<waitroom_c>.*?)[; ]*$" "$waitroom_c";'
    yield "}"
    yield "map $http_upgrade $waitroom_connection {"
    yield "    default upgrade;"
    yield '    "" "";'
    yield "}"
    yield "map $http_accept $waitroom_sorry {"
    yield "    default @waitroom_sorry_json;"
    yield "    ~text/html @waitroom_sorry;"
    yield "}"


def _cache() -> Iterator[str]:
    yield from commented(
        f"Verdicts, boards and waiting pages. A verdict counts for {VERDICT_S} s after a gateway gave it: by so much later a "
        "release or a reset is noticed here. Its key is all that it was given for. Nothing with Set-Cookie is stored."
    )
    yield f"proxy_cache_path {CACHE} levels=1:2 keys_zone=waitroom:16m inactive=10s max_size=256m use_temp_path=off;"


def _upstreams(site: Site) -> Iterator[str]:
    yield f"upstream {GATEWAYS} {{"
    yield from (f"    server {gateway} max_fails=1 fail_timeout=2s;" for gateway in site.gateways)
    yield "    keepalive 64;"
    yield "}"
    for upstream in site.config.upstreams.values():
        if any(guard.upstream is upstream for guard in site.guards) or upstream is site.default:
            yield f"upstream {_name(upstream)} {{"
            yield from (f"    server {address};" for address in addresses(upstream))
            yield "    keepalive 64;"
            yield "}"


def _name(upstream: Upstream) -> str:
    return f"waitroom_to_{upstream.name}"


# --- servers ---------------------------------------------------------------------------------------------------------


def _servers(site: Site) -> Iterator[str]:
    """A server for each group of hosts that the same rooms guard: nginx finds a location within one host's server."""
    groups: dict[tuple[int, ...], list[str]] = {}
    for host in site.hosts:
        rooms = tuple(guard.index for guard in site.guards if _paths(guard, host))
        groups.setdefault(rooms, []).append(host)
    if not groups:
        groups = {tuple(guard.index for guard in site.guards): []}
    for rooms, hosts in groups.items():
        yield ""
        yield from _server(site, [site.guards[index] for index in rooms], hosts)


def _paths(guard: Guard, host: str | None) -> list[Path]:
    return [path for on_host, paths in guard.paths if on_host in (None, host) for path in paths]


def _server(site: Site, guards: list[Guard], hosts: list[str]) -> Iterator[str]:
    yield "server {"
    if site.certificate is None:
        yield "    # TLS ends before this; or print with --certificate FILE, and it ends here."
        yield f"    listen {site.listen};"
    else:
        yield f"    listen {site.listen} ssl http2;"
        yield f"    ssl_certificate {site.certificate};"
        yield f"    ssl_certificate_key {site.certificate};"
    if hosts:
        yield f"    server_name {' '.join(map(host_text, hosts))};"
    yield f"    large_client_header_buffers 4 {max(8, site.config.server.header_bytes_max // 1024)}k;"
    yield "    client_max_body_size 0;  # bodies are the upstream's to judge"
    yield "    merge_slashes off;"
    yield "    proxy_http_version 1.1;"
    yield "    proxy_request_buffering off;"
    yield "    proxy_connect_timeout 2s;"
    yield from _fields({"Host": "$http_host", **_forwarded(site)})
    yield from (f"    proxy_hide_header {name};" for name in FIELDS)
    yield "    recursive_error_pages on;"
    yield "    error_page 418 = @waitroom;  # 418 never leaves this file: it means that a gateway shall judge"
    yield from _ours(site)
    for guard in guards:
        yield from _room(site, guard, _paths(guard, hosts[0] if hosts else None), hosts)
    yield from _rest(site, hosts)
    yield "}"


def _ours(site: Site) -> Iterator[str]:
    yield ""
    yield "    # The gateway's own. The verdict is for this file alone: it bears a signature that upstreams trust."
    yield f"    location = {AUTH} {{"
    yield "        return 404;"
    yield "    }"
    yield f"    location ^~ {AUTH}/ {{"
    yield "        return 404;"
    yield "    }"
    for guard in site.guards:
        yield from _public(guard)
    for place in ("~ ^/_waitroom", "@waitroom"):
        yield f"    location {place} {{"
        yield from _to_gateway("$request_uri")
        yield "    }"
    for name, kind, text in (
        ("@waitroom_sorry", "text/html", STATIC_PAGE),
        ("@waitroom_sorry_json", "application/problem+json", PROBLEM),
    ):
        yield f"    location {name} {{"
        yield f"        default_type {kind};"
        yield "        charset utf-8;"
        yield f"        add_header Retry-After {RETRY_S} always;"
        yield "        add_header Cache-Control no-store always;"
        yield f"        return 503 '{text}';"
        yield "    }"


def _public(guard: Guard) -> Iterator[str]:
    """Board and page, found by their very names: before patterns are tried, and whatever return_to they carry."""
    for name in ("", "board"):
        yield f"    location = /_waitroom/{guard.room.id}/{name} {{"
        yield "        proxy_cache waitroom;"
        yield '        proxy_cache_key "public $http_host $uri";'
        yield "        proxy_cache_valid 200 1s;"
        yield "        proxy_cache_lock on;"
        yield "        proxy_cache_use_stale updating error timeout;"
        yield "        proxy_cache_bypass $http_origin;"
        yield "        proxy_no_cache $http_origin;"
        yield from _to_gateway("$uri")
        yield "    }"


def _judge_here(hosts: list[str]) -> Iterator[str]:
    """First in every location that may lead past the gateways."""
    yield "        if ($waitroom_odd) {"
    yield "            return 418;"
    yield "        }"
    if hosts:
        names = "|".join(re.escape(host_text(host)) for host in hosts)
        yield f'        if ($http_host !~* "^({names})(:[0-9]+)?$") {{'
        yield "            return 418;"
        yield "        }"


def _room(site: Site, guard: Guard, paths: list[Path], hosts: list[str]) -> Iterator[str]:
    room, verdict = guard.room, f"/_waitroom_verdict_{guard.index}"
    yield ""
    yield f"    # Room {room.id}"
    for way in guard.ways:
        # By pattern: for a prefix nginx would answer the folder itself with a redirect of its own.
        yield f'    location ~ "^{re.escape(way.path)}{"" if way.is_folder else "$"}" {{'
        yield from _judge_here(hosts)
        yield '        if ($request_method !~ "^(GET|HEAD)$") {'
        yield "            return 418;"
        yield "        }"
        yield from _to_upstream(site, guard.upstream, {})
        yield "    }"
    yield f"    location = {verdict} {{"
    yield "        internal;"
    yield "        proxy_pass_request_body off;"
    asked = {"X-Original-URI": "$request_uri", "X-Original-Method": "$request_method"}
    nothing = {"Content-Length": '""', "X-Forwarded-Uri": '""', "X-Forwarded-Method": '""'}
    yield from _fields(
        {"Host": "$http_host", **_forwarded(site), "Upgrade": '""', "Connection": '""', **asked, **nothing}, 8
    )
    yield "        proxy_cache waitroom;"
    yield f'        proxy_cache_key "verdict {room.id} $http_cookie $http_waitroom_ticket $http_waitroom_admission";'
    yield "        proxy_ignore_headers Cache-Control Expires;"
    yield f"        proxy_cache_valid 200 {VERDICT_S}s;"
    yield f"        proxy_pass http://{GATEWAYS}{AUTH}?room={room.id};"
    yield "    }"
    if not paths:
        return
    yield f'    location ~ "^({"|".join(map(_pattern, paths))})$" {{'
    yield f"        auth_request {verdict};"
    for name in ("subject", "signature"):
        yield f"        auth_request_set $waitroom_{name} $upstream_http_waitroom_{name};"
    yield "        # What is not allowed, and WebSockets, whose lease a gateway touches, are the gateway's to answer."
    yield "        error_page 401 403 418 500 = @waitroom;"
    yield from _judge_here(hosts)
    yield "        if ($http_upgrade) {"
    yield "            return 418;"
    yield "        }"
    shown = {"Waitroom-Subject": "$waitroom_subject", "Waitroom-Room": room.id}
    if guard.upstream.signing_key:
        shown["Waitroom-Signature"] = "$waitroom_signature"
    yield from _to_upstream(site, guard.upstream, shown)
    yield "    }"


def _pattern(path: Path) -> str:
    return re.escape(path.text) + ("(/.*)?" if path.is_folder else "/?")


def _rest(site: Site, hosts: list[str]) -> Iterator[str]:
    yield ""
    yield "    # What no room protects."
    yield "    location / {"
    if site.default is None:
        yield from _to_gateway("$request_uri")
    else:
        yield from _judge_here(hosts)
        yield from _to_upstream(site, site.default, {})
    yield "    }"


def _to_gateway(target: str) -> Iterator[str]:
    yield "        proxy_hide_header Waitroom-Epoch;  # what else it says of the room is the visitor's to know"
    yield "        error_page 502 504 = $waitroom_sorry;"
    yield f"        proxy_pass http://{GATEWAYS}{target};"


def _to_upstream(site: Site, upstream: Upstream, shown: dict[str, str]) -> Iterator[str]:
    """The way past the gateways: nothing of ours in either direction but what `shown` says of the visitor."""
    hidden = dict.fromkeys(FIELDS, '""')
    cookie = {"Cookie": "$waitroom_cookie"}
    yield from _fields({"Host": "$http_host", **_forwarded(site), **cookie, **hidden, **shown}, 8)
    yield f"        proxy_connect_timeout {upstream.connect_timeout_s * 1000:.0f}ms;"
    yield f"        proxy_read_timeout {upstream.read_timeout_s * 1000:.0f}ms;"
    yield f"        proxy_send_timeout {upstream.write_timeout_s * 1000:.0f}ms;"
    tls = is_tls(upstream)
    if tls:
        name = addresses(upstream)[0].host
        yield "        proxy_ssl_server_name on;"
        yield f"        proxy_ssl_name {name};  # one name for all its servers"
        yield "        proxy_ssl_verify on;"
        yield "        proxy_ssl_verify_depth 5;"
        yield f"        proxy_ssl_trusted_certificate {quoted(upstream.ca_file or SYSTEM_CA)};"
    yield f"        proxy_pass {'https' if tls else 'http'}://{_name(upstream)}$request_uri;"


def _forwarded(site: Site) -> dict[str, str]:
    return {
        "X-Forwarded-For": "$proxy_add_x_forwarded_for",
        "X-Forwarded-Proto": site.scheme,
        "X-Forwarded-Host": "$http_host",
        "Upgrade": "$http_upgrade",
        "Connection": "$waitroom_connection",
    }


def _fields(fields: dict[str, str], indent: int = 4) -> Iterator[str]:
    yield from (f"{' ' * indent}proxy_set_header {name} {value};" for name, value in fields.items())
