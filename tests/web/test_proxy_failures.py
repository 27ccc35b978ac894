"""What a client is told when an upstream fails, and what is sent again."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable

import pytest

from gateway.rules.headers import Header
from gateway.web.upstream import FAILURES, PHRASES, Plan
from tests.web.conftest import OpenProxy
from tests.web.wire import GET, HOST, OK, Bank, Peer, Proxy, dead_port, is_reset, until

HEAD = b"HTTP/1.1 200 OK\r\n"


def plays(answer: bytes) -> Callable[[Peer], Awaitable[None]]:
    """A bank that answers the first request with these bytes and hangs up."""

    async def part(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    return part


def test_every_failure_has_a_phrase() -> None:
    """Promise 10: the table is whole."""
    assert all(status in PHRASES and text for status, text in FAILURES.values())


@pytest.mark.parametrize(
    ("answer", "kind", "status"),
    [
        (b"", "broken", 502),
        (b"HTTP/1.1 200", "broken", 502),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "malformed", 502),
        (b"HTTP/2.0 200 OK\r\n\r\n", "malformed", 502),
        (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "malformed", 502),
        (HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n", "malformed", 502),
        (b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "malformed", 502),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", "malformed", 502),
        (HEAD + b"Content-Length: -3\r\n\r\n", "malformed", 502),
        (HEAD + b"X-Fold: a\r\n b\r\n\r\n", "malformed", 502),
        (HEAD + b"X-Cr: a\rSet-Cookie: b\r\n\r\n", "malformed", 502),
        (HEAD + b"X-Lf: a\nSet-Cookie: b\r\n\r\n", "malformed", 502),
        (HEAD + b"X-Nul: a\x00b\r\n\r\n", "malformed", 502),
        (HEAD + b"No colon\r\n\r\n", "malformed", 502),
        (HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n", "malformed", 502),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "malformed", 502),
        (b"HTTP/1.1 102 Processing\r\n\r\n" * 20 + OK, "malformed", 502),
    ],
)  # fmt: skip
async def test_answers_that_are_none_become_502(
    bank: Bank, proxy: Proxy, answer: bytes, kind: str, status: int
) -> None:
    """Promise 10: what two readers could frame differently is not passed on."""
    bank.part = plays(answer)
    got = await proxy.exchange(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    assert b"HTTP/1.1 %d " % status in got
    assert proxy.seen.kinds == [kind]
    assert b"bank" not in got.replace(b"bank.example", b""), "names from configuration stay inside"


async def test_unreachable_upstream_is_502_as_problem_or_page(open_proxy: OpenProxy) -> None:
    """Promise 10: RFC 9457 for programs, a small page for people; both are told apart by the gate."""
    proxy = await open_proxy(urls=(f"http://127.0.0.1:{dead_port()}",))
    client = await proxy.client()
    await client.send(GET)
    head, _, body = (await client.answer()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert b"Content-Type: application/problem+json" in head
    assert b"Cache-Control: no-store" in head
    assert json.loads(body) == {
        "type": "about:blank", "title": "Bad Gateway", "status": 502, "detail": FAILURES["refused"][1]
    }  # fmt: skip

    def on_head(status: int, to_client: list[Header], known: object) -> None:
        to_client.append((b"Set-Cookie", b"status=%d" % status))
        assert not known

    proxy.plan = lambda _: Plan("bank", on_head=on_head)
    await client.send(GET[:-2] + b"Accept: text/html\r\n\r\n")
    page = await client.answer()
    assert b"Content-Type: text/html; charset=utf-8" in page
    assert b"Set-Cookie: status=502" in page
    assert b"<!doctype html>" in page
    assert proxy.seen.kinds == ["refused", "refused"]


async def test_silent_upstream_is_504_after_its_time(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 12: a stalled upstream holds a request no longer than `read_timeout`; half a head is no answer."""
    proxy = await open_proxy(read_timeout_s=0.15)

    async def part(peer: Peer) -> None:
        await peer.send(HEAD)
        await peer.rest()

    bank.part = part
    client = await proxy.client()
    await client.send(GET)
    assert (await client.answer()).startswith(b"HTTP/1.1 504 ")
    assert proxy.seen.kinds == ["read_timeout"]
    await until(lambda: bank.ended == 1)


async def test_upstream_that_does_not_accept_is_504(open_proxy: OpenProxy) -> None:
    """Promise 12: connecting has a deadline of its own."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    sock.listen(0)
    fillers = []
    for _ in range(4):  # the accept queue of one is soon full, and SYNs are dropped from then on
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex(sock.getsockname())
        fillers.append(filler)
    proxy = await open_proxy(urls=(f"http://127.0.0.1:{sock.getsockname()[1]}",), connect_timeout_s=0.2)
    client = await proxy.client()
    await client.send(GET)
    assert (await client.answer()).startswith(b"HTTP/1.1 504 ")
    assert proxy.seen.kinds == ["connect_timeout"]
    for filler in (*fillers, sock):
        filler.close()


@pytest.mark.parametrize(
    "answer",
    [
        HEAD + b"Content-Length: 10\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_truncated_answer_never_looks_whole(bank: Bank, proxy: Proxy, answer: bytes, version: bytes) -> None:
    """Promise 10: the client's connection is reset, so that half a statement is not taken for all of it."""
    bank.part = plays(answer)
    client = await proxy.client()
    await client.send(GET.replace(b"1.1", version))
    assert await is_reset(client)
    await until(lambda: proxy.seen.kinds == ["truncated"])


async def test_malformed_chunk_inside_an_answer_cuts_it(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: nothing of ours lands inside a body that has begun."""

    async def part(peer: Peer) -> None:
        await peer.request()
        await peer.send(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await part_two.wait()
        await peer.send(b"nonsense\r\n")

    part_two = asyncio.Event()
    bank.part = part
    client = await proxy.client()
    await client.send(GET)
    await client.until(b"3\r\nabc\r\n")
    part_two.set()
    assert await client.rest() == b""
    assert proxy.seen.kinds == ["malformed"]


# --- sending again ---------------------------------------------------------------------------------------------------


async def after_a_rest(proxy: Proxy, bank: Bank, request: bytes) -> bytes:
    """One exchange, then another whose pooled connection dies as soon as the request has come."""
    deaths = 1

    async def part(peer: Peer) -> None:
        nonlocal deaths
        while True:
            bank.requests.append(await peer.request())
            if len(bank.requests) > 1 and deaths:
                deaths -= 1
                return
            await peer.send(OK)

    bank.part = part
    client = await proxy.client()
    await client.send(GET)
    await client.answer()
    await client.send(request)
    return await client.answer()


@pytest.mark.parametrize("method", [b"GET", b"OPTIONS"])
async def test_safe_request_is_sent_again_once(bank: Bank, proxy: Proxy, method: bytes) -> None:
    """Promise 10: a keep-alive connection that died under a safe request is nobody's failure."""
    got = await after_a_rest(proxy, bank, method + b" /x HTTP/1.1\r\n" + HOST + b"\r\n")
    assert got == OK
    assert len(bank.requests) == 3
    assert [pool.in_flight for pool in proxy.upstreams._backends["bank"]._pools] == [0]
    assert proxy.seen.kinds == []


@pytest.mark.parametrize("method", [b"DELETE", b"PUT", b"POST", b"PATCH"])
@pytest.mark.parametrize("body", [b"\r\n", b"Content-Length: 3\r\n\r\nabc"])
async def test_other_requests_are_never_sent_again(bank: Bank, proxy: Proxy, method: bytes, body: bytes) -> None:
    """Promise 10: aiohttp's client would repeat a DELETE."""
    got = await after_a_rest(proxy, bank, method + b" /x HTTP/1.1\r\n" + HOST + body)
    assert got.startswith(b"HTTP/1.1 502 ")
    assert len(bank.requests) == 2
    assert proxy.seen.kinds == ["broken"]


async def test_get_with_a_body_is_never_sent_again(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a body makes it more than a question."""
    got = await after_a_rest(proxy, bank, b"GET /x HTTP/1.1\r\n" + HOST + b"Content-Length: 3\r\n\r\nabc")
    assert got.startswith(b"HTTP/1.1 502 ")
    assert len(bank.requests) == 2


async def test_fresh_connection_that_dies_is_not_tried_again(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a request that kills its upstream does not kill it twice."""
    bank.part = plays(b"")
    client = await proxy.client()
    await client.send(GET)
    assert (await client.answer()).startswith(b"HTTP/1.1 502 ")
    assert len(bank.connections) == 1


async def test_resting_connection_that_ended_is_not_used(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a POST after the upstream closed its idle connection takes a new one and succeeds."""

    async def part(peer: Peer) -> None:
        bank.requests.append(await peer.request())
        await peer.send(OK)

    bank.part = part
    client = await proxy.client()
    for count in (1, 2, 3):
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\na")
        assert await client.answer() == OK
        await until(lambda count=count: bank.ended == count)  # type: ignore[misc]
        await asyncio.sleep(0.01)  # for the end to arrive: it has been sent
    assert len(bank.connections) == 3


async def test_bytes_nobody_asked_for_are_not_the_next_answer(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: an upstream that answers twice cannot give the second answer to someone else."""
    bank.answer = OK + OK.replace(b"ok", b"no")
    client = await proxy.client()
    await client.send(GET)
    assert await client.answer() == OK
    await client.send(GET)
    assert await client.answer() == OK
    assert len(bank.connections) == 2
