"""Fixtures of the web tests: a bank of raw bytes, and a proxy before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

import pytest
import uvloop

from gateway.model import Upstream
from gateway.web.listener import Limits
from tests.web.wire import Bank, Proxy

OpenProxy = Callable[..., Awaitable[Proxy]]
# Gateways run on uvloop, which gives a new connection its first bytes before aiohttp's task waits for them: what depends on that
# is tested on both loops.
ON_BOTH_LOOPS = ("test_express", "test_arrivals", "test_proxy_endings")


def pytest_asyncio_loop_factories(
    config: pytest.Config,
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    both = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
    return both if item.path.stem in ON_BOTH_LOOPS else {"asyncio": asyncio.new_event_loop}


@pytest.fixture
async def bank() -> AsyncIterator[Bank]:
    raw = Bank()
    await raw.open()
    yield raw
    await raw.close()


@pytest.fixture
async def open_proxy(bank: Bank) -> AsyncIterator[OpenProxy]:
    """Opens proxies before the bank: keyword arguments are `Upstream`'s, but for `limits`."""
    opened: list[Proxy] = []

    async def open_one(*, limits: Limits | None = None, urls: tuple[str, ...] = (), **upstream: float) -> Proxy:
        addresses = urls or (f"http://127.0.0.1:{bank.port}",)
        one = Proxy(Upstream("bank", addresses, **upstream), limits)  # type: ignore[arg-type]
        await one.open()
        opened.append(one)
        return one

    yield open_one
    for one in opened:
        await one.close()


@pytest.fixture
async def proxy(open_proxy: OpenProxy) -> Proxy:
    return await open_proxy()
