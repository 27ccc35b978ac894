"""A bank on a free port, in the test's own event loop, with its books in a temporary folder."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import pytest
from aiohttp import web

from gateway.demo.bank import BankSettings, build_bank

KEY = bytes(range(32))


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The application on a free port; its base URL."""
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, backlog=4096)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class StartBank(Protocol):
    async def __call__(self, **limits: Any) -> str: ...


@pytest.fixture
async def start_bank(tmp_path: Path) -> AsyncIterator[StartBank]:
    """Starts a bank with limits of the test's own; its base URL."""
    async with AsyncExitStack() as running:

        async def start(**limits: Any) -> str:
            limits = {"transaction_s": 0.002, **limits}
            return await running.enter_async_context(serving(build_bank(BankSettings(tmp_path, KEY, **limits))))

        yield start


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as opened:
        yield opened
