"""Fixtures of the web tests: a bank of raw bytes, and a proxy before it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from gateway.model import Upstream
from gateway.web.listener import Limits
from tests.web.wire import Bank, Proxy

OpenProxy = Callable[..., Awaitable[Proxy]]


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
