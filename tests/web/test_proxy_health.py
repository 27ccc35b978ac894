"""Which upstreams are well, and what keeps one room's crowd from the others."""

from __future__ import annotations

import asyncio

import pytest

from gateway.web.backend import Share
from gateway.web.pool import Tally
from gateway.web.upstream import Plan
from tests.web.conftest import OpenProxy
from tests.web.wire import GET, HOST, OK, Bank, Proxy, dead_port, hangs, until

# --- several URLs, health --------------------------------------------------------------------------------------------


async def test_url_that_cannot_be_reached_is_passed_over_and_comes_back(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 12: with two URLs, one of them dead, no request fails, not even one with a body."""
    port = dead_port()
    proxy = await open_proxy(urls=(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{bank.port}"))
    client = await proxy.client()
    for _ in range(4):
        await client.send(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\n\r\na")
        assert await client.answer() == OK
    assert proxy.upstreams.is_healthy("bank")
    assert [pool.url for pool in proxy.upstreams._backends["bank"].order()] == [f"http://127.0.0.1:{bank.port}"]
    second = Bank()
    await second.open(port)
    try:
        await until(lambda: not any(pool.is_out for pool in proxy.upstreams._backends["bank"]._pools))
        for _ in range(4):
            await client.send(GET)
            assert await client.answer() == OK
        assert second.requests
    finally:
        await second.close()


async def test_health_follows_the_only_url(open_proxy: OpenProxy) -> None:
    """Promise 6: the door shuts while nothing can be reached, and opens when the upstream is back, without traffic."""
    port = dead_port()
    proxy = await open_proxy(urls=(f"http://127.0.0.1:{port}",))
    assert proxy.upstreams.is_healthy("bank")
    client = await proxy.client()
    await client.send(GET)
    await client.answer()
    assert not proxy.upstreams.is_healthy("bank")
    bank = Bank()
    await bank.open(port)
    try:
        await client.send(GET)  # tried all the same: an answer beats a guess
        assert await client.answer() == OK
        await until(lambda: proxy.upstreams.is_healthy("bank"))
    finally:
        await bank.close()


async def test_answers_of_5xx_make_an_upstream_ill_but_pass(bank: Bank, proxy: Proxy) -> None:
    """Promise 10 and 6: the bank's own error pages reach the client, and the door shuts."""
    bank.answer = b"HTTP/1.1 503 Mine\r\nDate: x\r\nContent-Length: 0\r\n\r\n"
    client = await proxy.client()
    for _ in range(5):
        assert proxy.upstreams.is_healthy("bank")
        await client.send(GET)
        assert await client.answer() == bank.answer
    assert not proxy.upstreams.is_healthy("bank")
    assert proxy.seen.kinds == []


def test_tally_forgets_after_its_window() -> None:
    """Promise 6: ten seconds, not for ever; and a handful is chance."""
    tally = Tally()
    for _ in range(4):
        tally.add(False, 100.0)
    assert not tally.is_ill(100.0)
    tally.add(False, 100.5)
    assert tally.is_ill(100.5)
    assert tally.is_ill(109.9)
    assert not tally.is_ill(110.0)
    for _ in range(6):
        tally.add(True, 101.0)
    assert not tally.is_ill(101.0)


# --- shares ----------------------------------------------------------------------------------------------------------


async def test_room_over_its_share_waits_and_leaves_the_rest_alone(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 12: a room that stands still has 503 for itself; another route of the same upstream is served."""
    proxy = await open_proxy(max_in_flight=4, connect_timeout_s=0.3)
    bank.part = hangs
    proxy.plan = lambda request: Plan("bank", "flooded", 2) if request.raw_path == "/flooded" else Plan("bank")
    crowd = [await proxy.client() for _ in range(5)]
    for client in crowd:
        await client.send(b"GET /flooded HTTP/1.1\r\n" + HOST + b"\r\n")
    await until(lambda: len(bank.connections) == 2)
    assert proxy.upstreams.in_flight("bank") == 2
    bank.part = bank.serve
    other = await proxy.client()
    await other.send(GET)
    assert await other.answer() == OK
    refused = await crowd[4].answer()
    assert refused.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: " in refused
    await until(lambda: proxy.seen.kinds == ["room_busy"] * 3)  # one had no place to wait in, two waited in vain
    assert len(bank.connections) == 3


async def test_places_are_handed_on_and_never_leak(open_proxy: OpenProxy, bank: Bank) -> None:
    """Promise 12: whoever waits gets the place of whoever leaves, also of one who hangs up; in the end none is held."""
    proxy = await open_proxy(max_in_flight=1)
    bank.part = hangs
    first, second, third = await proxy.client(), await proxy.client(), await proxy.client()
    await first.send(GET)
    await until(lambda: len(bank.connections) == 1)
    await second.send(GET)
    await asyncio.sleep(0.05)
    await third.send(GET)  # no place to wait in: the line is as long as the share
    assert (await third.answer()).startswith(b"HTTP/1.1 503 ")
    assert proxy.upstreams.in_flight("bank") == len(bank.connections) == 1
    bank.part = bank.serve
    first.close()
    assert await second.answer() == OK
    await until(lambda: proxy.upstreams.in_flight("bank") == 0)


async def test_place_granted_to_one_who_leaves_at_that_moment_is_not_lost() -> None:
    """Promise 12: a cancelled wait that had just been granted gives the place back."""
    share = Share(1)
    assert await share.take(1)
    waiting = asyncio.create_task(share.take(1))
    await asyncio.sleep(0)
    share.give()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert share.used == 0
    assert await share.take(0.1)
