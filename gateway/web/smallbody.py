"""Reads a request's small body whole, with a limit and a deadline."""

from __future__ import annotations

import asyncio

from aiohttp import web


async def read_body(request: web.BaseRequest, bytes_max: int, timeout_s: float = 10.0) -> bytes | None:
    """A small request body, whole; None if it is longer, malformed or too slow: answer that with `refusal`."""
    content = request.content
    if content.is_eof():  # it came with the head, as nearly all small bodies do
        whole = content.read_nowait()
        return whole if len(whole) <= bytes_max else None
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while piece := await content.readany():
                body += piece
                if len(body) > bytes_max:
                    return None
    except (TimeoutError, web.RequestPayloadError):
        return None
    return bytes(body)
