"""What an intermediary may and must do to heads, as tables and as properties; no I/O."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.rules import framing, headers
from gateway.rules.body import LINE_MAX, TRAILERS_MAX, Body
from gateway.rules.headers import CHUNKED, UNTIL_CLOSE, Header, Hop

HOP = Hop("192.0.2.9", "https", "bank.example")
TRUSTED = (ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("2001:db8::/32"))

names = st.from_regex(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,20}", fullmatch=True)
values = st.binary(max_size=40).map(lambda raw: bytes(b for b in raw if b >= 0x20 and b != 0x7F).strip(b" \t"))
fields = st.lists(st.tuples(names, values), max_size=12)


def is_end_to_end(field: Header) -> bool:
    key = field[0].lower()
    ours = key.startswith((b"waitroom-", b"waitroom_", b"x-forwarded-"))
    return not (ours or key in headers.HOP_BY_HOP or key in {b"host", b"cookie", b"content-length", b"connection"})


@given(fields)
def test_fields_survive_the_way_there_byte_for_byte(given_fields: list[Header]) -> None:
    """Promise 10: whatever is not hop-by-hop or ours arrives, in order, repeated ones repeated."""
    kept = [field for field in given_fields if is_end_to_end(field)]
    sent = headers.to_upstream(kept, HOP)
    assert sent[: len(kept)] == kept
    assert headers.encode(headers.decode(kept)) == kept


@given(fields, st.integers(200, 599), st.binary(max_size=20).filter(lambda raw: not headers._CONTROL.search(raw)))
def test_fields_survive_the_way_back_byte_for_byte(given_fields: list[Header], status: int, reason: bytes) -> None:
    """Promise 10: serialized and parsed again they are the same, and so is the reason."""
    kept = [field for field in given_fields if is_end_to_end(field)]
    block = headers.serialize(b"HTTP/1.1 %d %b" % (status, reason), kept)
    head = headers.parse_head(block[:-4], "GET")
    assert isinstance(head, headers.Head), head
    assert (head.status, head.reason, head.headers) == (status, reason, kept)
    assert headers.to_client(head.headers) == kept


@pytest.mark.parametrize("line", [b"X: a b", b"X:a b", b"X:\t a b", b"X: a b \t", b"X: a b "])
@pytest.mark.parametrize("behind", [b"", b"\r\nX-Empty: \r\nDate: x"])
def test_whitespace_around_a_value_is_none_of_it(line: bytes, behind: bytes) -> None:
    """Promise 10: RFC 9112, 5.1; whitespace inside stays, and so does a field without a value."""
    head = headers.parse_head(b"HTTP/1.1 200 OK\r\n" + line + behind, "GET")
    assert isinstance(head, headers.Head)
    assert head.headers == [(b"X", b"a b"), *([(b"X-Empty", b""), (b"Date", b"x")] if behind else [])]


@given(st.binary(max_size=200))
def test_parser_of_answers_never_raises_and_is_no_looser_than_h11(raw: bytes) -> None:
    """Promise 10: any bytes are a head or a fault; what h11 refuses is refused."""
    block = b"HTTP/1.1 200 OK\r\n" + raw
    head = headers.parse_head(block, "GET")
    if isinstance(head, str) or raw == b"" or b"\r\n\r\n" in block:
        return
    peer = h11.Connection(h11.CLIENT)
    peer.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    peer.receive_data(block + b"\r\n\r\n")
    event = peer.next_event()
    assert isinstance(event, h11.Response)
    assert [(name.lower(), value) for name, value in head.headers] == list(event.headers)


@pytest.mark.parametrize(
    ("version", "lines", "fault"),
    [
        ((1, 1), b"Host: a", None),
        ((1, 1), b"Host: a.b-c_d:8080", None),
        ((1, 1), b"Host: [::1]:80", None),
        ((1, 0), b"", None),
        ((1, 1), b"Host: a\nTransfer-Encoding: chunked", None),
        ((1, 1), b"Host: a\nTransfer-Encoding: Chunked", None),
        ((1, 1), b"Host: a\nContent-Length: 10", None),
        ((1, 1), b"", "Host is not there once"),
        ((1, 1), b"Host: a\nhOST: a", "Host is not there once"),
        ((1, 1), b"Host: ", "Host is not a name with an optional port"),
        ((1, 1), b"Host: a/b", "Host is not a name with an optional port"),
        ((1, 1), b"Host: a,b", "Host is not a name with an optional port"),
        ((1, 1), b"Host: u@a", "Host is not a name with an optional port"),
        ((1, 1), b"Host: a:b", "Host is not a name with an optional port"),
        ((1, 1), b"Host: \xc3\xa9", "Host is not a name with an optional port"),
        ((1, 1), b"Host: a\nTransfer-Encoding: gzip, chunked", "Transfer-Encoding is not exactly: chunked"),
        ((1, 1), b"Host: a\nTransfer-Encoding: identity, chunked", "Transfer-Encoding is not exactly: chunked"),
        ((1, 1), b"Host: a\nTransfer-Encoding: identity", "Transfer-Encoding is not exactly: chunked"),
        ((1, 1), b"Host: a\nTransfer-Encoding: ", "Transfer-Encoding is not exactly: chunked"),
        ((1, 1), b"Host: a\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked",
         "Transfer-Encoding is not exactly: chunked"),
        ((1, 0), b"Host: a\nTransfer-Encoding: chunked", "Transfer-Encoding in HTTP/1.0"),
        ((1, 1), b"Host: a\nTransfer-Encoding: chunked\nContent-Length: 1", "Transfer-Encoding with Content-Length"),
        ((1, 1), b"Host: a\nContent-Length: 1\nContent-Length: 1", "Content-Length is not one number"),
        ((1, 1), b"Host: a\nContent-Length: 1,1", "Content-Length is not one number"),
        ((1, 1), b"Host: a\nContent-Length: -1", "Content-Length is not one number"),
        ((2, 0), b"Host: a", "HTTP version is not 1.0 or 1.1"),
    ],
)  # fmt: skip
def test_framing_faults(version: tuple[int, int], lines: bytes, fault: str | None) -> None:
    """Promise 9: requests that two readers could understand differently are refused."""
    raw = [(name, value) for name, _, value in (line.partition(b": ") for line in lines.split(b"\n") if line)]
    assert framing.framing_fault(version, raw) == fault


@pytest.mark.parametrize("name", [*sorted(headers.END_TO_END), b"waitroom-subject"])
def test_connection_cannot_name_away_what_must_arrive(name: bytes) -> None:
    """Promise 9: `Connection: Cookie` does not make a request anonymous, nor hide where it comes from."""
    sent = headers.to_upstream(
        [(b"Host", b"bank.example"), (b"Connection", b"close, " + name), (name, b"1")],
        HOP,
        [(b"Waitroom-Subject", b"x")],
    )
    if name == b"waitroom-subject":
        assert [value for key, value in sent if key.lower() == name] == [b"x"]
    else:
        assert name in {key.lower() for key, _ in sent}


def test_connection_names_are_removed_wherever_they_stand() -> None:
    """Promise 10: RFC 9110, 7.6.1, with several Connection fields and any case."""
    sent = headers.to_client(
        [(b"x-a", b"1"), (b"Connection", b"X-A,"), (b"CONNECTION", b" x-B "), (b"X-b", b"2"), (b"X-C", b"3")]
    )
    assert sent == [(b"X-C", b"3")]


@pytest.mark.parametrize("spelling", [b"Waitroom-Subject", b"WAITROOM-x", b"waitroom_subject", b"Waitroom-"])
def test_our_fields_come_from_us_only(spelling: bytes) -> None:
    """Promise 9: removed from requests in every spelling a CGI-like server would fold, and from answers."""
    assert spelling not in dict(headers.to_upstream([(b"Host", b"a"), (spelling, b"forged")], HOP))
    assert headers.to_client([(spelling, b"1"), (b"X-Waitroom-Like", b"2")]) == [(b"X-Waitroom-Like", b"2")]


@pytest.mark.parametrize("name", [b"waitroom-" + b"x" * 60, b"X-" + b"x" * 60, b"Connection" + b"-" * 60])
def test_long_names_are_judged_by_all_they_are(name: bytes) -> None:
    """Promise 10: names are remembered cut short; none is taken for another one by that."""
    passes = not name.startswith(b"waitroom-")
    assert ((name, b"1") in headers.to_upstream([(b"Host", b"a"), (name, b"1")], HOP)) is passes
    assert headers.to_client([(name, b"1"), (b"Connection", name[:-1])]) == ([(name, b"1")] if passes else [])
    assert headers.to_client([(name, b"1"), (b"Connection", name)]) == []


def test_forwarded_fields_of_strangers_are_replaced_and_of_trusted_peers_kept() -> None:
    """Promise 10: X-Forwarded-For grows; scheme and host are believed only from a trusted proxy."""
    told = [(b"X-Forwarded-Proto", b"ftp"), (b"X-Forwarded-Host", b"evil"), (b"X-Forwarded-For", b"1.1.1.1")]
    more = [(b"x-forwarded-for", b"2.2.2.2")]
    stranger = dict(headers.to_upstream(told + more, HOP))
    assert stranger[b"X-Forwarded-Proto"] == b"https"
    assert stranger[b"X-Forwarded-Host"] == b"bank.example"
    assert stranger[b"X-Forwarded-For"] == b"1.1.1.1, 2.2.2.2, 192.0.2.9"
    trusted = headers.to_upstream(told, HOP._replace(is_peer_trusted=True))
    assert trusted[:2] == told[:2]
    assert [key for key, _ in trusted].count(b"X-Forwarded-Proto") == 1


@pytest.mark.parametrize(
    ("via", "is_looped"),
    [([], False), (["1.1 edge"], False), (["1.0 a, 1.1 waitroom"], True), (["HTTP/1.1 WAITROOM (x)"], True),
     (["1.1 waitroom-2", "1.1 b"], False), (["waitroom"], False), (["1.1 b", "1.1 waitroom"], True)],
)  # fmt: skip
def test_loops_are_seen(via: list[str], is_looped: bool) -> None:
    """Promise 10: by whole names, in any of several fields."""
    assert headers.is_looped(via, "waitroom") is is_looped


@pytest.mark.parametrize(
    ("cookie", "left"),
    [
        (b"a=1", b"a=1"),
        (b"a=1; waitroom-ticket-r=t; b=2", b"a=1; b=2"),
        (b"__Host-waitroom-admission-r=t;a=1", b"a=1"),
        (b"__Host-waitroom-ticket-r=t; a=1;b=2", b"a=1;b=2"),
        (b"a=1;  waitroom-ticket-r=t", b"a=1"),
        (b"waitroom-ticket-r=t", None),
        (b"waitroom-ticket-r=t; __Host-waitroom-admission-r=u;", None),
        (b"WAITROOM-ticket-r=t; a=1", b"a=1"),
        (b"waitroom-ticket-r; a=1", b"a=1"),
        (b"my-waitroom-ticket=1; a=waitroom-x", b"my-waitroom-ticket=1; a=waitroom-x"),
        (b'a="\xb0\xa1" ;; b ; waitroom-ticket-r=t;c==', b'a="\xb0\xa1" ;; b ;c=='),
    ],
)  # fmt: skip
def test_our_cookies_are_cut_out_and_other_bytes_kept(cookie: bytes, left: bytes | None) -> None:
    """Promise 10: the bank's cookies keep their spelling, spaces and order."""
    assert headers.without_our_cookies(cookie) == left


def test_cookie_values_finds_every_one() -> None:
    """Promise 13: two cookies of our name can be told from one."""
    name = "__Host-waitroom-ticket-a"
    assert headers.cookie_values(["a=1; b"], name) == []
    assert headers.cookie_values([f"a=1;{name}=x.y-z_; b=2"], name) == ["x.y-z_"]
    assert headers.cookie_values([f"{name}=1; {name}=2", f" {name} = 3 "], name) == ["1", "2", "3"]
    assert headers.cookie_values([f"{name}2=1; x{name}=2; x={name}=3"], name) == []
    assert headers.cookie_values([f"{name}=a=b"], name) == ["a=b"]


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["198.51.100.7"], "192.0.2.1"),
        ("10.0.0.1", [], None),
        ("10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.7"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.7, 10.2.3.4"], "198.51.100.7"),
        ("10.0.0.1", ["6.6.6.6, unknown"], None),
        ("10.0.0.1", ["6.6.6.6, "], None),
        ("10.0.0.1", ["10.0.0.7, 10.0.0.8"], "10.0.0.7"),
        ("10.0.0.1", ["198.51.100.7:4711"], "198.51.100.7"),
        ("10.0.0.1", ["[2001:db9::1]:80"], "2001:db9::1"),
        ("2001:db8::1", ["::ffff:198.51.100.7"], "198.51.100.7"),
        ("::ffff:10.0.0.1", ["198.51.100.7"], "198.51.100.7"),
        ("", ["198.51.100.7"], None),
    ],
)
def test_client_address_counts_from_the_right(peer: str, forwarded_for: list[str], client: str | None) -> None:
    """Promise 9: what a client wrote itself never becomes its address."""
    assert headers.client_address(peer, forwarded_for, TRUSTED) == client


@pytest.mark.parametrize(
    ("target", "host", "split"),
    [
        ("/a?b", "h", ("h", "/a?b")),
        ("/a#b?c", "h", ("h", "/a")),
        ("/?", "h", ("h", "/?")),
        ("*", "h", ("h", "*")),
        ("http://x.y:1/a?b", "h", ("x.y:1", "/a?b")),
        ("HTTPS://u:p@x", "h", ("x", "/")),
        ("http://x?a/b", "h", ("x", "/?a/b")),
        ("//x/y", "h", ("h", "//x/y")),
    ],
)
def test_targets_are_split_without_touching_a_byte(target: str, host: str, split: tuple[str, str]) -> None:
    """Promise 10: and an absolute-form target overrules Host (RFC 9112, 3.2.2)."""
    assert headers.split_target(target, host) == split


def test_signature_is_what_the_contract_says() -> None:
    """Section 8: t=<unix>,v1=<hex HMAC-SHA256(key, "t.room.subject")>."""
    expected = hmac.new(b"k", b"1700000000.r.s", hashlib.sha256).hexdigest()
    assert headers.signature(b"k", "r", "s", 1700000000) == f"t=1700000000,v1={expected}"


@pytest.mark.parametrize("value", ["a\r\nSet-Cookie: x", "a\nb", "a\x00", "\x7f"])
def test_no_field_of_ours_can_smuggle_in_a_line(value: str) -> None:
    """Promise 9: a control byte in what the gate adds is a fault of ours, never a second field."""
    with pytest.raises(ValueError, match="control byte"):
        headers.encode([("X", value)])


# --- bodies ----------------------------------------------------------------------------------------------------------


@given(st.lists(st.binary(min_size=1, max_size=30), max_size=6), st.data())
def test_chunks_are_found_wherever_they_are_cut(pieces: list[bytes], data: st.DataObject) -> None:
    """Promise 10: any cut of the stream gives the same body, and what follows it stays."""
    wire = b"".join(b'%X;q="1"\r\n%b\r\n' % (len(piece), piece) for piece in pieces) + b"0\r\nA: b\r\n\r\nNEXT"
    body, buffer, got = Body(CHUNKED), bytearray(), b""
    while wire:
        cut = data.draw(st.integers(1, len(wire)))
        buffer += wire[:cut]
        wire = wire[cut:]
        got += body.take(buffer)
    assert got == b"".join(pieces)
    assert body.is_done
    assert buffer == b"NEXT"


@pytest.mark.parametrize(
    "wire",
    [b"g\r\n", b"\r\n", b" 1\r\na\r\n", b"-1\r\n", b"0x1\r\na\r\n", b"1\r\nab\r\n", b"1 \r\na\r\n", b"1\na\r\n\r\n",
     b"1111111111111111\r\n", b"1" * (LINE_MAX + 1), b"0\r\n" + b"A: b\r\n" * (TRAILERS_MAX // 4)],
)  # fmt: skip
def test_chunks_out_of_order_are_refused(wire: bytes) -> None:
    """Promise 10: sizes are hexadecimal and bounded, lines end in CRLF, data is as long as it says."""
    with pytest.raises(ValueError, match=r"chunk|trailers"):
        Body(CHUNKED).take(bytearray(wire))


def test_counted_body_leaves_what_follows() -> None:
    """Promise 10: never a byte more or less than Content-Length."""
    body, buffer = Body(5), bytearray(b"abc")
    assert body.take(buffer) == b"abc"
    assert not body.is_whole_at_close()
    buffer += b"deNEXT"
    assert body.take(buffer) == b"de"
    assert body.is_done
    assert buffer == b"NEXT"


def test_only_a_body_without_length_is_whole_at_the_close() -> None:
    """Promise 10: a truncated body is told from a finished one."""
    assert Body(UNTIL_CLOSE).is_whole_at_close()
    assert Body(0).is_whole_at_close()
    assert not Body(1).is_whole_at_close()
    assert not Body(CHUNKED).is_whole_at_close()


@pytest.mark.parametrize(
    ("given", "sent"),
    [(b"1", b"0"), (b"255", b"254"), (b"256", b"254"), (b"9" * 5000, b"254"), (b"a", b"a"), (b"-1", b"-1"), (b"", b"")],
)  # fmt: skip
def test_hops_are_counted_down(given: bytes, sent: bytes) -> None:
    """RFC 9110, 7.6.2: one less, or the most we know; in its place and spelling. What is no number is not ours to mend."""
    assert not headers.is_last_hop([(b"Host", b"a"), (b"max-Forwards", given)])
    assert headers.one_hop_less([(b"max-Forwards", given), (b"X", b"3")]) == [(b"max-Forwards", sent), (b"X", b"3")]


@pytest.mark.parametrize("value", [b"0", b"00"])
def test_the_last_hop_is_known(value: bytes) -> None:
    """RFC 9110, 7.6.2: a request with none left must not be passed on."""
    assert headers.is_last_hop([(b"Max-Forwards", value)])
