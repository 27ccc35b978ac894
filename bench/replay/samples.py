"""Owns what bank and gateways say of themselves, asked once a second while a run goes on."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

EVERY_S: Final = 1.0
PATIENCE_S: Final = 0.9


@dataclass(frozen=True, slots=True)
class Sample:
    """One look. `bank` is its /stats, `board` the room's public board; {} where nothing was answered."""

    at_s: float
    bank: dict[str, Any] = field(default_factory=dict)
    board: dict[str, Any] = field(default_factory=dict)


async def keep_sampling(samples: list[Sample], bank_url: str, board_url: str | None) -> None:
    """Until it is cancelled. Times are of the monotonic clock."""
    due_s = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE_S)) as session:
        while True:
            at_s = time.monotonic()
            bank, board = await asyncio.gather(_read(session, f"{bank_url}/stats"), _read(session, board_url))
            samples.append(Sample(at_s, bank, board))
            due_s = max(due_s + EVERY_S, time.monotonic())
            await asyncio.sleep(due_s - time.monotonic())


async def _read(session: aiohttp.ClientSession, url: str | None) -> dict[str, Any]:
    if url is None:
        return {}
    try:
        async with session.get(url) as answer:
            body = await answer.json()
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
        return {}
    return body if isinstance(body, dict) else {}
