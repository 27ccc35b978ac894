"""Bodies of any size, both ways at once, as they come, and what happens when a side goes or stalls."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable

import pytest

from gateway.web import exchange
from tests.web.wire import OK, Bank, Peer, Proxy, until

OpenProxy = Callable[..., Awaitable[Proxy]]
HOST = b"Host: bank.example\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n"


async def test_events_arrive_one_by_one(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a server-sent event is with the client before the next one exists."""
    go = asyncio.Queue[bytes]()

    async def part(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        while event := await go.get():
            await peer.send(b"%x\r\n%b\r\n" % (len(event), event))
        await peer.send(b"0\r\n\r\n")

    bank.part = part
    client = await proxy.client()
    await client.send(GET)
    await client.head()
    for event in (b"data: 1\n\n", b"data: 2\n\n"):
        go.put_nowait(event)
        assert await client.until(b"\n\n\r\n") == b"9\r\n" + event + b"\r\n"
    go.put_nowait(b"")
    assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


async def test_event_stream_outlives_the_read_timeout(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 10: silence is what event streams mostly send; other answers may not stall in the middle."""
    proxy = await open_proxy(read_timeout_s=0.1, idle_timeout_s=5.0)

    async def part(peer: Peer) -> None:
        request = await peer.request()
        kind = b"text/event-stream" if b"/events" in request else b"text/plain"
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: " + kind + b"\r\nContent-Length: 6\r\n\r\nabc")
        await asyncio.sleep(0.3)
        await peer.send(b"def")

    bank.part = part
    events, plain = await proxy.client(), await proxy.client()
    await events.send(GET.replace(b"/ ", b"/events "))
    await plain.send(GET)
    await plain.until(b"\r\n\r\nabc")
    assert await plain.rest() == b""
    assert (await events.answer()).endswith(b"abcdef")
    assert proxy.seen.kinds == ["read_timeout"]


async def test_patience_with_events_is_not_left_to_the_next_request(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 12: a connection that has carried an event stream carries the next request under that one's deadline."""
    proxy = await open_proxy(read_timeout_s=0.1, idle_timeout_s=60.0)
    go = asyncio.Event()

    async def part(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 6\r\n\r\nabc")
        await go.wait()
        await peer.send(b"def")
        await peer.rest()

    bank.part = part
    client = await proxy.client()
    await client.send(GET)
    await client.until(b"abc")
    await asyncio.sleep(0.3)  # past the first deadline
    go.set()
    await client.until(b"def")
    await client.send(GET)
    assert (await client.answer()).startswith(b"HTTP/1.1 504 ")
    assert len(bank.connections) == 1


async def test_client_that_leaves_closes_the_upstream_at_once(bank: Bank, proxy: Proxy) -> None:
    """Promise 12: within 0.1 s, before the head and inside the body."""
    for answer in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"):
        ended = bank.ended

        async def part(peer: Peer, answer: bytes = answer) -> None:
            await peer.request()
            await peer.send(answer)
            await peer.rest()

        bank.part = part
        client = await proxy.client()
        await client.send(GET)
        if answer:
            await client.until(b"abc")
        await until(lambda: proxy.upstreams.in_flight("bank") == 1)
        client.close()
        await until(lambda ended=ended: bank.ended > ended, 0.1)  # type: ignore[misc]
        await until(lambda: proxy.upstreams.in_flight("bank") == 0)
    assert proxy.seen.kinds == []


async def test_early_answer_arrives_while_the_upload_runs(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 10: a 413 reaches a client that is still sending, and the connection ends after it."""
    proxy = await open_proxy()
    answer = b"HTTP/1.1 413 Too Much\r\nDate: x\r\nContent-Length: 4\r\n\r\nstop"

    async def part(peer: Peer) -> None:
        await peer.head()
        await peer.send(answer)
        await peer.rest()

    bank.part = part
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 50000000\r\n\r\n" + b"x" * 1000)
    assert await client.answer() == answer.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


async def test_both_directions_flow_at_once(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: an upstream that answers as it reads gets the rest of the body."""

    async def part(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(3):
            size = await peer.until(b"\r\n")
            data = await peer.until(b"\r\n")
            await peer.send(size + data.upper())
        await peer.until(b"0\r\n\r\n")
        await peer.send(b"0\r\n\r\n")

    bank.part = part
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n")
    await client.head()
    for word in (b"one", b"two", b"six"):
        await client.send(b"3\r\n" + word + b"\r\n")
        assert await client.until(word.upper() + b"\r\n") == b"3\r\n" + word.upper() + b"\r\n"
    await client.send(b"0\r\n\r\n")
    assert await client.until(b"0\r\n\r\n") == b"0\r\n\r\n"


# --- Expect: 100-continue --------------------------------------------------------------------------------------------

EXPECTING = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"


async def test_upstream_is_asked_before_the_client_is_told_to_go_on(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: the 100 is the upstream's."""
    asked = asyncio.Event()

    async def part(peer: Peer) -> None:
        assert b"Expect: 100-continue" in await peer.head()
        asked.set()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert await peer.exactly(3) == b"abc"
        await peer.send(OK)

    bank.part = part
    client = await proxy.client()
    await client.send(EXPECTING)
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert asked.is_set()
    await client.send(b"abc")
    assert await client.answer() == OK


async def test_refusal_arrives_without_a_100(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a client that is refused never sends its body, and is never asked to."""
    bank.part = _refuse
    client = await proxy.client()
    await client.send(EXPECTING)
    assert await client.answer() == (b"HTTP/1.1 401 No\r\nDate: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


async def _refuse(peer: Peer) -> None:
    await peer.head()
    await peer.send(b"HTTP/1.1 401 No\r\nDate: x\r\nContent-Length: 0\r\n\r\n")
    await peer.rest()


async def test_upstream_that_ignores_expect_gets_the_body(
    bank: Bank, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Promise 10: after a second of silence the gateway says go, so that two sides do not wait for each other."""
    monkeypatch.setattr(exchange, "CONTINUE_WAIT_S", 0.05)
    client = await proxy.client()
    await client.send(EXPECTING)
    assert await client.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(b"abc")
    assert await client.answer() == OK
    assert bank.requests[0].endswith(b"abc")


async def test_refusal_right_behind_a_100_stays_the_last_word(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: nothing is written behind a final head but its body."""

    async def part(peer: Peer) -> None:
        await peer.head()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 401 No\r\nDate: x\r\nContent-Length: 4\r\n\r\n")
        await asyncio.sleep(0.05)
        await peer.send(b"stop")
        await peer.rest()

    bank.part = part
    client = await proxy.client()
    await client.send(EXPECTING)
    assert (await client.answer()).endswith(b"Connection: close\r\n\r\nstop")


async def test_unasked_100_is_not_passed_on(bank: Bank, proxy: Proxy) -> None:
    """Promise 10: a client that did not ask could take it for the answer."""
    bank.answer = b"HTTP/1.1 100 Continue\r\n\r\n" + OK
    client = await proxy.client()
    await client.send(GET)
    assert await client.answer() == OK


async def test_stalled_upload_ends(bank: Bank, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Promise 12: a client that stops in the middle of its body gets 408, and the upstream is let go."""
    monkeypatch.setattr(exchange, "BODY_TIMEOUT_S", 0.1)
    bank.part = _listen
    client = await proxy.client()
    await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\nabc")
    assert (await client.answer()).startswith(b"HTTP/1.1 408 ")
    await until(lambda: bank.ended == 1)
    assert proxy.seen.kinds == ["client_timeout"]
    assert proxy.upstreams.is_healthy("bank")


async def _listen(peer: Peer) -> None:
    await peer.rest()


async def test_upstream_that_stops_reading_is_given_up(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 12: every write has a deadline."""
    proxy = await open_proxy(write_timeout_s=0.2)
    over = asyncio.Event()

    async def part(peer: Peer) -> None:
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await over.wait()

    bank.part = part
    client = await proxy.client()
    client.writer.write(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999\r\n\r\n" + b"x" * 30_000_000)
    assert (await client.head()).startswith(b"HTTP/1.1 504 ")
    assert proxy.seen.kinds == ["write_timeout"]
    over.set()


# --- memory ----------------------------------------------------------------------------------------------------------

MEASURE = """
import asyncio, json, resource, sys
from tests.web.wire import Bank, Proxy, Peer
from gateway.model import Upstream

SIZE, PIECE = 200_000_000, b"x" * 65536
assert sys.argv[1] in {"download", "upload"}

def rss_kb():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize() // 1024

async def main():
    proxy = Proxy(Upstream("bank", ("http://127.0.0.1:" + sys.argv[2],)))
    await proxy.open()
    print(proxy.listener.port, flush=True)
    before, most = rss_kb(), 0
    while proxy.seen.answers == 0 or proxy.upstreams.in_flight("bank"):
        most = max(most, rss_kb())
        await asyncio.sleep(0.005)
    print(json.dumps({"grown_kb": most - before}), flush=True)
    await proxy.close()

asyncio.run(main())
"""
SIZE = 200_000_000
PIECE = b"x" * 65536


@pytest.mark.parametrize("way", ["download", "upload"])
async def test_200_mb_pass_in_constant_memory(bank: Bank, way: str) -> None:
    """Promise 12: a body that is larger than the reader is fast costs buffers, not itself: under 40 MB, here 10."""

    async def part(peer: Peer) -> None:
        await peer.head()
        if way == "upload":
            await _drink(peer, SIZE)
            await peer.send(OK)
        else:
            await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
            await _pour(peer, SIZE)

    bank.part = part
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MEASURE, way, str(bank.port), stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        port = int(await process.stdout.readline())
        client = Peer(*await asyncio.open_connection("127.0.0.1", port))
        if way == "upload":
            await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % SIZE)
            await _pour(client, SIZE)
            assert await client.answer()
        else:
            await client.send(GET)
            await client.head()
            await asyncio.sleep(0.3)  # a reader slower than the bank, so that what is not held back would pile up
            await _drink(client, SIZE)
        client.close()
        grown_kb = json.loads(await process.stdout.readline())["grown_kb"]
        assert grown_kb < 10_000
    finally:
        process.kill()
        await process.wait()


async def test_client_that_asks_on_and_reads_nothing_is_not_answered_into_memory(bank: Bank, proxy: Proxy) -> None:
    """Promise 12: small answers wait for their reader, too; they come once it reads."""
    count = 600
    bank.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"x" * 60_000
    client = await proxy.client()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await client.send(GET * count)
    asked = -1
    while asked != len(bank.requests):
        asked = len(bank.requests)
        await asyncio.sleep(0.2)
    assert 0 < asked < count // 2, "what the kernel holds, and no more"
    client.writer.transport.resume_reading()  # type: ignore[attr-defined]
    for _ in range(count):
        await client.head()
        await client.exactly(60_000)


async def _pour(peer: Peer, count: int) -> None:
    for _ in range(count // len(PIECE)):
        await peer.send(PIECE)
    await peer.send(b"x" * (count % len(PIECE)))


async def _drink(peer: Peer, count: int) -> None:
    while count:
        data = await asyncio.wait_for(peer.reader.read(2**18), 5)
        assert data
        count -= len(data)
