"""The same bytes, both ways: each test is a transcript of what went over two sockets."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

import pytest
from aiohttp import web

from gateway.rules.headers import Header
from gateway.web.upstream import Plan
from tests.web.wire import OK, Bank, Peer, Proxy

OpenProxy = Callable[..., Awaitable[Proxy]]
EUC_KR = "예금.pdf".encode("euc-kr")
FORWARDED = (
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: bank.example\r\nVia: 1.1 waitroom\r\n"
)
DATE = b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\n"


def get(target: bytes = b"/", *lines: bytes) -> bytes:
    return b"\r\n".join(
        (b"GET " + target + b" HTTP/1.1", b"Host: bank.example", *lines, b"Connection: close", b"", b"")
    )


def fields(message: bytes) -> list[bytes]:
    return message.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]


async def test_request_gains_only_what_an_intermediary_adds(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: no Accept, User-Agent or Content-Type of a client library, fields in their order and spelling."""
    await proxy.exchange(get(b"/a", b"X-oDD: 1", b"accept: */*", b"X-Odd: 2"))
    assert bank.requests == [
        b"GET /a HTTP/1.1\r\nHost: bank.example\r\nX-oDD: 1\r\naccept: */*\r\nX-Odd: 2\r\n" + FORWARDED + b"\r\n"
    ]


async def test_answer_gains_only_connection_management(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: no Server, no Content-Type of the gateway's in an answer of the bank's."""
    bank.answer = b"HTTP/1.1 299 Quite fine\r\n" + DATE + b"X-a: 1\r\nContent-Length: 2\r\n\r\nok"
    got = await proxy.exchange(get())
    assert got == (
        b"HTTP/1.1 299 Quite fine\r\n" + DATE + b"X-a: 1\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
    )


@pytest.mark.parametrize(
    "target",
    [b"/", b"/?", b"/a?b", b"/a%2Fb%2e%2E/%00?%3F=%zz", b"//a//../b/./", b"/a;b=c?d=e&&f",
     b'/a|b{c}"<>^`\\d', b"/a?b?c=/../%", b"/a+b%20c"],
)  # fmt: skip
async def test_target_bytes_survive(bank: Bank, proxy: Proxy, target: bytes) -> None:
    """Promise 10: nothing is decoded, normalised or quoted; a bare question mark stays."""
    await proxy.exchange(get(target))
    assert bank.requests[0].split(b"\r\n")[0] == b"GET " + target + b" HTTP/1.1"


async def test_absolute_form_goes_on_as_origin_form_with_its_own_host(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: RFC 9112, 3.2.2: the target's authority overrules Host, at every hop."""
    await proxy.exchange(b"GET http://other.example/x?y HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    assert bank.requests[0].startswith(b"GET /x?y HTTP/1.1\r\nHost: other.example\r\n")


async def test_options_asterisk_reaches_the_upstream(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a catch-all route would have missed it."""
    await proxy.exchange(b"OPTIONS * HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    assert bank.requests[0].startswith(b"OPTIONS * HTTP/1.1\r\n")


async def test_connect_is_not_supported(bank: Bank, proxy: Proxy) -> None:
    """Promise 9: no tunnel through a reverse proxy."""
    client = await proxy.client()
    await client.send(b"CONNECT bank.example:443 HTTP/1.1\r\nHost: bank.example:443\r\n\r\n")
    got = await client.head()
    assert got.startswith(b"HTTP/1.1 501 ")
    assert bank.requests == []


async def test_trace_is_not_passed_on(bank: Bank, proxy: Proxy) -> None:
    """Promise 9: its answer would show a client what the gateway adds for the upstream alone, subject and signature among it."""
    got = await proxy.exchange(b"TRACE /x HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    assert got.startswith(b"HTTP/1.1 501 ")
    assert bank.requests == []


async def test_options_ends_where_no_hop_is_left(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: RFC 9110, 7.6.2: Max-Forwards is counted down, and at 0 the gateway answers in the upstream's place."""
    ask = b"OPTIONS /x HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\nMax-Forwards: %d\r\n\r\n"
    assert (await proxy.exchange(ask % 1)).startswith(b"HTTP/1.1 200 ")
    assert b"Max-Forwards: 0" in fields(bank.requests[0])
    got = await proxy.exchange(ask % 0)
    assert got.startswith(b"HTTP/1.1 204 ")
    assert b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS" in fields(got)
    assert len(bank.requests) == 1


async def test_a_get_keeps_its_max_forwards(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: RFC 9110, 7.6.2 speaks of OPTIONS and TRACE alone."""
    await proxy.exchange(b"GET /x HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\nMax-Forwards: 0\r\n\r\n")
    assert b"Max-Forwards: 0" in fields(bank.requests[0])


@pytest.mark.parametrize("framing", [b"Content-Length: 52", b"Transfer-Encoding: chunked"])
async def test_what_follows_a_connect_is_not_read_as_a_request(bank: Bank, proxy: Proxy, framing: bytes) -> None:
    """Promise 9: aiohttp's parser knows no body of a CONNECT; read as a request, it would answer the next one behind an edge."""
    smuggled = b"GET /smuggled HTTP/1.1\r\nHost: bank.example\r\nX: 12\r\n\r\n"
    got = await proxy.exchange(b"CONNECT / HTTP/1.1\r\nHost: bank.example\r\n" + framing + b"\r\n\r\n" + smuggled)
    assert got.count(b"HTTP/1.") == 1
    assert b"\r\nConnection: close\r\n" in got
    assert bank.requests == []


async def test_header_bytes_that_are_not_utf8_survive_both_ways(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: an EUC-KR file name is not dropped."""
    line = b'Content-Disposition: attachment; filename="' + EUC_KR + b'"'
    bank.answer = b"HTTP/1.1 200 OK\r\n" + DATE + line + b"\r\nContent-Length: 0\r\n\r\n"
    got = await proxy.exchange(get(b"/", line))
    assert line in fields(bank.requests[0])
    assert line in fields(got)


async def test_header_bytes_survive_the_gates_hook(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a hook sees what the bank says to us, and what it leaves alone is still the same bytes."""
    line = b"X-Name: " + EUC_KR
    bank.answer = b"HTTP/1.1 200 OK\r\n" + DATE + line + b"\r\nWaitroom-Release: 1\r\nContent-Length: 0\r\n\r\n"
    seen: list[tuple[int, list[bytes] | None]] = []

    def on_head(status: int, to_client: list[Header], known: Mapping[bytes, list[bytes]]) -> None:
        seen.append((status, known.get(b"waitroom-release")))
        assert b"Waitroom-Release" not in dict(to_client)
        to_client.append((b"Set-Cookie", b"a=1"))

    proxy.plan = lambda _: Plan("bank", on_head=on_head)
    got = await proxy.exchange(get())
    assert seen == [(200, [b"1"])]
    assert fields(got) == [DATE.strip(), line, b"Content-Length: 0", b"Set-Cookie: a=1", b"Connection: close"]


async def test_repeated_set_cookie_stays_repeated(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a dictionary would keep the last one only."""
    bank.answer = b"HTTP/1.1 200 OK\r\n" + DATE + b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    got = await proxy.exchange(get())
    assert [line for line in fields(got) if line.startswith(b"Set-Cookie")] == [b"Set-Cookie: a=1", b"Set-Cookie: b=2"]


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"deflate", b"zstd"])
async def test_bodies_that_claim_a_coding_are_not_touched(bank: Bank, proxy: Proxy, coding: bytes) -> None:
    """Promise 10: neither leg decompresses, not even what is no gzip at all."""
    line = b"Content-Encoding: " + coding
    bank.answer = b"HTTP/1.1 200 OK\r\n" + DATE + line + b"\r\nContent-Length: 6\r\n\r\nnogzip"
    got = await proxy.exchange(
        b"POST / HTTP/1.1\r\nHost: bank.example\r\n" + line + b"\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody"
    )
    assert bank.requests[0].endswith(b"\r\n\r\nbody")
    assert line in fields(bank.requests[0])
    assert got.endswith(b"\r\n\r\nnogzip")


async def test_chunked_stays_chunked_and_counted_stays_counted(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: the framing of a request's body is kept, though not the cuts between chunks."""
    start = b"POST / HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n"
    await proxy.exchange(
        start + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer-Of: mine\r\n\r\n"
    )
    await proxy.exchange(start + b"Content-Length: 5\r\n\r\nabcde")
    chunked, counted = bank.requests
    assert b"Transfer-Encoding: chunked" in fields(chunked)
    assert not any(line.lower().startswith(b"content-length") for line in fields(chunked))
    assert b"".join(re.findall(rb"\r\n[0-9a-f]+\r\n([a-e]+)", chunked)) == b"abcde"
    assert b"Content-Length: 5" in fields(counted)
    assert counted.endswith(b"\r\n\r\nabcde")


async def test_head_answer_keeps_its_length_and_has_no_body(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: Content-Length of an answer to HEAD speaks of the body that GET would have had."""
    bank.answer = b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 12345\r\n\r\n"
    got = await proxy.exchange(b"HEAD / HTTP/1.1\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    assert got == b"HTTP/1.1 200 OK\r\n" + DATE + b"Content-Length: 12345\r\nConnection: close\r\n\r\n"


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 204 No Content\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nETag: a\r\nContent-Length: 9\r\n", b"ETag: a\r\nContent-Length: 9\r\n"),
    ],
)  # fmt: skip
async def test_answers_without_body_keep_the_connection_in_step(
    bank: Bank, proxy: Proxy, head: bytes, kept: bytes
) -> None:
    """Promise 10: after a 204 or 304 the next answer on the same two connections is the right one."""
    answers = [head + DATE + b"\r\n", OK]

    async def part(peer: Peer) -> None:
        for answer in answers:
            bank.requests.append(await peer.request())
            await peer.send(answer)
        await peer.rest()

    bank.part = part
    client = await proxy.client()
    await client.send(b"GET /1 HTTP/1.1\r\nHost: bank.example\r\n\r\nGET /2 HTTP/1.1\r\nHost: bank.example\r\n\r\n")
    assert await client.head() == head.partition(b"\r\n")[0] + b"\r\n" + kept + DATE + b"\r\n"
    assert await client.answer() == OK
    assert len(bank.connections) == 1


async def test_partial_content_passes_unchanged(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a 206 keeps its range."""
    bank.answer = (
        b"HTTP/1.1 206 Partial Content\r\n" + DATE + b"Content-Range: bytes 1-2/9\r\nContent-Length: 2\r\n\r\nbc"
    )
    got = await proxy.exchange(get(b"/", b"Range: bytes=1-2"))
    assert b"Range: bytes=1-2" in fields(bank.requests[0])
    assert got == bank.answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize(
    "framed",
    [
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3;ext=1\r\ndef\r\n0\r\nX-Trailer: dropped\r\n\r\n",
        b"Connection: close\r\n\r\nabcdef",
    ],
)
async def test_body_of_unknown_length_arrives_whole(bank: Bank, proxy: Proxy, framed: bytes, version: bytes) -> None:
    """Promise 10: chunked for HTTP/1.1, up to the end of the connection for HTTP/1.0; trailers are dropped."""

    async def part(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n" + DATE + framed)

    bank.part = part
    got = await proxy.exchange(b"GET / HTTP/" + version + b"\r\nHost: bank.example\r\nConnection: close\r\n\r\n")
    head, _, body = got.partition(b"\r\n\r\n")
    if version == b"1.1":
        assert b"Transfer-Encoding: chunked" in fields(head)
        assert body.endswith(b"0\r\n\r\n")
        body = b"".join(re.findall(rb"[0-9a-f]+\r\n([a-f]+)\r\n", body))
    assert b"X-Trailer" not in got
    assert body == b"abcdef"


async def test_early_hints_reach_the_client(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: 103 is passed on before the answer, but not to HTTP/1.0."""
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
    bank.answer = hints + OK
    modern = await proxy.exchange(get())
    old = await proxy.exchange(b"GET / HTTP/1.0\r\nHost: bank.example\r\n\r\n")
    assert modern == hints + OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert old == OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


async def test_answer_without_date_gets_one(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: RFC 9110, 6.6.1 asks that of an intermediary."""
    bank.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    assert re.search(rb"\r\nDate: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n", await proxy.exchange(get()))


async def test_redirects_and_cookies_are_the_clients_business(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a 302 is passed on, and no visitor's cookie is kept for the next one."""
    bank.answer = b"HTTP/1.1 302 Found\r\n" + DATE + b"Location: /next\r\nSet-Cookie: a=1\r\nContent-Length: 0\r\n\r\n"
    assert (await proxy.exchange(get())).startswith(b"HTTP/1.1 302 Found\r\n")
    await proxy.exchange(get())
    assert len(bank.requests) == 2
    assert not any(line.lower().startswith(b"cookie") for line in fields(bank.requests[1]))


async def test_upstream_sees_the_plans_fields_and_never_the_clients(bank: Bank, proxy: Proxy) -> None:
    """Promise 9: Waitroom-* from outside, in any spelling, is removed; so are our cookies; others keep their bytes."""
    proxy.plan = lambda _: Plan("bank", headers=((b"Waitroom-Subject", b"id-1"),), scheme="https")
    await proxy.exchange(
        get(
            b"/",
            b"waitroom-subject: forged",
            b"Waitroom_Subject: forged",
            b"Connection: Waitroom-Subject, Host, Cookie",
            b'Cookie: __Host-waitroom-ticket-a=t; x="1" ;waitroom-admission-a=z;  y=2',
        )
    )
    assert [line for line in fields(bank.requests[0]) if b"aitroom" in line] == [
        b"Via: 1.1 waitroom",
        b"Waitroom-Subject: id-1",
    ]
    assert b'Cookie: x="1" ;  y=2' in fields(bank.requests[0])
    assert b"X-Forwarded-Proto: https" in fields(bank.requests[0])


async def test_request_that_comes_round_again_is_refused(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a loop ends at its second pass."""
    got = await proxy.exchange(get(b"/", b"Via: 1.1 edge, 1.1 Waitroom"))
    assert got.startswith(b"HTTP/1.1 508 Loop Detected\r\n")
    assert proxy.seen.kinds == ["loop"]
    assert bank.requests == []


async def test_hop_by_hop_fields_end_here(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: Connection and what it names go no further, both ways."""
    bank.answer = (
        b"HTTP/1.1 200 OK\r\n" + DATE + b"Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Waitroom-Remaining: 5\r\nContent-Length: 0\r\n\r\n"
    )
    got = await proxy.exchange(
        b"GET / HTTP/1.1\r\nHost: bank.example\r\nConnection: close, X-Yours\r\nX-Yours: 1\r\nTE: trailers\r\n"
        b"Proxy-Connection: x\r\nUpgrade: h2c\r\nProxy-Authorization: Basic eA==\r\n\r\n"
    )
    assert [line.partition(b":")[0] for line in fields(bank.requests[0])] == [
        b"Host", b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"Via"
    ]  # fmt: skip
    assert fields(got) == [DATE.strip(), b"Content-Length: 0", b"Connection: close"]


async def test_keep_alive_works_on_both_legs_and_for_http_1_0(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: one connection carries many exchanges; HTTP/1.0 is told so."""
    client = await proxy.client()
    for _ in range(3):
        await client.send(b"GET / HTTP/1.1\r\nHost: bank.example\r\n\r\n")
        assert await client.answer() == OK
    await client.send(b"GET / HTTP/1.0\r\nHost: bank.example\r\nConnection: keep-alive\r\n\r\n")
    assert await client.answer() == OK.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n")
    assert len(bank.connections) == 1


async def test_lame_duck_asks_every_client_to_leave(bank: Bank, proxy: Proxy) -> None:
    """Promise 11: answers say `Connection: close` from then on, relayed and own ones."""
    client = await proxy.client()
    proxy.listener.begin_lame_duck()
    proxy.upstreams.begin_lame_duck()
    await client.send(b"GET / HTTP/1.1\r\nHost: bank.example\r\n\r\n")
    assert await client.rest() == OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")

    async def own(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="mine")

    proxy.listener._handler = own
    got = await proxy.exchange(b"GET / HTTP/1.1\r\nHost: bank.example\r\n\r\n")
    assert b"Connection: close" in fields(got)
    assert b"Server: waitroom" in fields(got)
