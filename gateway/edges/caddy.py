"""Caddy (2.6): asks a gateway for each admitted request (`forward_auth`), and sends it whatever is not allowed.

The answer to what is not allowed is the gateway's own, in place, as if there were no edge. Caddy has no cache of its own:
boards and verdicts are asked of a gateway each time.
"""

from __future__ import annotations

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

SHOWN: Final = ("Waitroom-Subject", "Waitroom-Room", "Waitroom-Signature")
OUR_COOKIE: Final = "(?i)(^|; *)(__Host-)?waitroom-[^;]*"


def caddy(site: Site) -> str:
    """A whole Caddyfile."""
    return "\n".join([*_opening(site), "", *_options(), "", *_parts(site), "", *_site(site)]) + "\n"


def _opening(site: Site) -> Iterator[str]:
    yield "# Caddy before waitroom, printed by `waitroom edge caddy`; docs/edges.md explains every part."
    yield "#"
    yield from commented("Print it again whenever waitroom.toml changes. It holds no secret: gateways sign.")
    yield from trust(site)


def _options() -> Iterator[str]:
    yield "{"
    yield "\tadmin off"
    yield "\tauto_https off"
    yield "}"


def _parts(site: Site) -> Iterator[str]:
    yield "(waitroom_gateway) {"
    yield f"\treverse_proxy {_gateways(site)} {{"
    yield "\t\tlb_try_duration 1s"
    yield "\t\tfail_duration 2s"
    yield f"\t\theader_up X-Forwarded-Proto {site.scheme}"
    yield "\t\theader_down -Waitroom-Epoch"
    yield "\t}"
    yield "}"
    yield from commented(
        "The way past the gateways: a visitor's tokens stay here, and so does what an upstream says to us."
    )
    for upstream in site.config.upstreams.values():
        yield from _to_upstream(site, upstream)


def _to_upstream(site: Site, upstream: Upstream) -> Iterator[str]:
    yield f"({_name(upstream)}) {{"
    yield from (f"\trequest_header -{name}" for name in FIELDS if name not in SHOWN)
    if not upstream.signing_key:
        yield "\trequest_header -Waitroom-Signature"
    # $9 is no group, hence nothing: an empty replacement would be taken for a missing one.
    yield f'\trequest_header Cookie "{OUR_COOKIE}" $9'
    yield '\trequest_header Cookie "^[; ]+" $9'
    scheme = "https://" if is_tls(upstream) else ""
    yield f"\treverse_proxy {' '.join(f'{scheme}{address}' for address in addresses(upstream))} {{"
    yield f"\t\theader_up X-Forwarded-Proto {site.scheme}"
    yield from (f"\t\theader_down -{name}" for name in FIELDS)
    yield "\t\ttransport http {"
    yield f"\t\t\tdial_timeout {upstream.connect_timeout_s * 1000:.0f}ms"
    yield f"\t\t\tresponse_header_timeout {upstream.read_timeout_s * 1000:.0f}ms"
    if upstream.ca_file is not None:
        yield f"\t\t\ttls_trusted_ca_certs {quoted(upstream.ca_file)}"
    yield "\t\t}"
    yield "\t}"
    yield "}"


def _name(upstream: Upstream) -> str:
    return f"waitroom_to_{upstream.name}"


def _gateways(site: Site) -> str:
    return " ".join(map(str, site.gateways))


def _site(site: Site) -> Iterator[str]:
    host, _, port = site.listen.rpartition(":")
    yield f"{'http' if site.certificate is None else 'https'}://:{port} {{"
    if host:
        yield f"\tbind {host.strip('[]')}"
    if site.certificate is None:
        yield "\t# TLS ends before this; or print with --certificate FILE, and it ends here."
    else:
        yield f"\ttls {site.certificate} {site.certificate}"
    yield "\troute {"
    yield "\t\t# The verdict is for this file alone: it bears a signature that upstreams trust."
    yield f"\t\t@verdict path {AUTH} {AUTH}/*"
    yield "\t\trespond @verdict 404"
    yield "\t\t# What a gateway tells an upstream, no visitor tells it; some servers read an underscore as a hyphen."
    yield from (f"\t\trequest_header -{name}" for name in ("Waitroom_*", *SHOWN))
    yield "\t\t# A target is judged here only if it can be read in one way: a host of ours, lower case, no percent-encoding,"
    yield "\t\t# backslash, parameters, empty or dotted segments. All others are the gateway's to judge."
    target = "{http.request.orig_uri}"
    yield f"\t\t@odd expression `!{target}.matches('{PLAIN_TARGET}')`"
    yield from _handle("@odd", ["import waitroom_gateway"])
    if site.hosts:
        yield f"\t\t@foreign not host {' '.join(map(host_text, site.hosts))}"
        yield from _handle("@foreign", ["import waitroom_gateway"])
    yield from _handle("/_waitroom*", ["import waitroom_gateway"])
    for guard in site.guards:
        yield from _room(site, guard)
    yield "\t\t# What no room protects."
    rest = "waitroom_gateway" if site.default is None else _name(site.default)
    yield from _handle("", ["route {", f"\timport {rest}", "}"])
    yield "\t}"
    yield from _sorry()
    yield "}"


def _handle(matcher: str, lines: list[str]) -> Iterator[str]:
    yield f"\t\thandle {matcher} {{" if matcher else "\t\thandle {"
    yield from (f"\t\t\t{line}" for line in lines)
    yield "\t\t}"


def _room(site: Site, guard: Guard) -> Iterator[str]:
    yield f"\t\t# Room {guard.room.id}"
    for number, (host, paths) in enumerate(guard.paths):
        place = f"{guard.index}_{number}"
        at = [f"host {host_text(host)}"] if host is not None else []
        if guard.ways:
            ways = " ".join(f"{way.path}{'*' if way.is_folder else ''}" for way in guard.ways)
            yield from _matcher(f"@open_{place}", [*at, "method GET HEAD", f"path {ways}"])
            yield from _handle(f"@open_{place}", ["route {", f"\timport {_name(guard.upstream)}", "}"])
        inside = f"path {' '.join(text for path in paths for text in _patterns(path))}"
        yield from _matcher(f"@upgrade_{place}", [*at, inside, "header Upgrade *"])
        yield "\t\t# A WebSocket's lease is touched by the gateway it goes through."
        yield from _handle(f"@upgrade_{place}", ["import waitroom_gateway"])
        yield from _matcher(f"@room_{place}", [*at, inside])
        yield from _handle(f"@room_{place}", ["route {", *(f"\t{line}" for line in _admitted(site, guard)), "}"])


def _matcher(name: str, lines: list[str]) -> Iterator[str]:
    yield f"\t\t{name} {{"
    yield from (f"\t\t\t{line}" for line in lines)
    yield "\t\t}"


def _patterns(path: Path) -> tuple[str, ...]:
    return path.exact if path.below is None else (*path.exact, f"{path.below}*")


def _admitted(site: Site, guard: Guard) -> Iterator[str]:
    """`forward_auth` written out, because what is not allowed shall be the gateway's to answer."""
    yield f"reverse_proxy {_gateways(site)} {{"
    yield "\tmethod GET"
    yield f"\trewrite {AUTH}?room={guard.room.id}"
    yield "\tlb_try_duration 1s"
    yield "\tfail_duration 2s"
    yield "\theader_up X-Forwarded-Method {http.request.method}"
    yield "\theader_up X-Forwarded-Uri {http.request.orig_uri}"
    yield "\theader_up -X-Original-Uri"
    yield "\theader_up -X-Original-Method"
    yield "\t@admitted status 200"
    yield "\thandle_response @admitted {"
    yield from (f"\t\trequest_header {name} {{http.reverse_proxy.header.{name}}}" for name in SHOWN)
    yield "\t}"
    yield "\thandle_response {"
    yield "\t\timport waitroom_gateway"
    yield "\t}"
    yield "}"
    yield f"import {_name(guard.upstream)}"


def _sorry() -> Iterator[str]:
    yield "\t# While no gateway lives: a page that tries again."
    yield "\thandle_errors {"
    yield f"\t\theader Retry-After {RETRY_S}"
    yield "\t\theader Cache-Control no-store"
    yield "\t\t@page header Accept *text/html*"
    yield "\t\thandle @page {"
    yield '\t\t\theader Content-Type "text/html; charset=utf-8"'
    yield f"\t\t\trespond `{STATIC_PAGE}` 503"
    yield "\t\t}"
    yield "\t\thandle {"
    yield "\t\t\theader Content-Type application/problem+json"
    yield f"\t\t\trespond `{PROBLEM}` 503"
    yield "\t\t}"
    yield "\t}"
