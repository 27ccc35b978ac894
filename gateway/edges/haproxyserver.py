"""The last step of HAProxy's way: what an upstream is told and what not, and its servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from gateway.edges.site import Site, addresses, share
from gateway.model import Upstream

SUBJECTS: Final = "waitroom_subjects"
NO_FIELDS_OF_OURS: Final = "del-header waitroom -m beg"  # HAProxy keeps names in lower case

REST_OF_COOKIE: Final = (
    """req.fhdr(cookie),'regsub("(^|; *)(__Host-)?waitroom-[^;]*","",g)','regsub("^[; ]+","")'"""  # without ours
)


def open_backend(site: Site, name: str, upstream: Upstream, whole: int) -> Iterator[str]:
    """Requests that need no admission, with the same care for what is ours in their heads."""
    yield f"backend {name}"
    yield from heads_to_upstream(site)
    yield f"    http-response {NO_FIELDS_OF_OURS}"
    yield from servers(upstream, whole)


def forwarded(site: Site) -> Iterator[str]:
    yield f"    http-request set-header X-Forwarded-Proto {site.scheme}"
    yield "    http-request set-header X-Forwarded-Host %[req.fhdr(host)]"


def heads_to_upstream(site: Site, *, is_room: bool = False) -> Iterator[str]:
    """What no upstream is told by a visitor: every spelling of Waitroom-*, our cookies, how the edge was reached."""
    yield f"    http-request {NO_FIELDS_OF_OURS}"
    yield from forwarded(site)
    has_ours = "{ req.fhdr(cookie) -m sub waitroom- }"
    if is_room:
        yield "    http-request set-header Cookie %[var(sess.rest)] if { var(txn.is_kept) -m bool }"
        has_ours = "!{ var(txn.is_kept) -m bool } " + has_ours
    yield f"    http-request set-header Cookie %[{REST_OF_COOKIE}] if {has_ours}"
    yield "    http-request del-header Cookie if { req.fhdr(cookie) -m len 0 }"


def servers(upstream: Upstream, whole: int) -> Iterator[str]:
    yield f"    timeout connect {upstream.connect_timeout_s * 1000:.0f}ms"
    yield f"    timeout server {upstream.read_timeout_s * 1000:.0f}ms"
    yield f"    timeout tunnel {upstream.idle_timeout_s * 1000:.0f}ms"
    yield f"    default-server check inter 2s maxconn {share(whole, upstream)} init-addr last,libc,none"
    ca = "@system-ca" if upstream.ca_file is None else quoted(upstream.ca_file)
    for index, address in enumerate(addresses(upstream)):
        tls = f" ssl verify required ca-file {ca} sni str({address.host})" if address.is_tls else ""
        yield f"    server s{index} {address}{tls}"


def quoted(text: str) -> str:
    """Strong quotes: nothing inside means anything to HAProxy. They end at an apostrophe, which stands between two of them."""
    return "'" + text.replace("'", "'\\''") + "'"
