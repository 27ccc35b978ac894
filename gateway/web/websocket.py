"""Owns the bytes of an upgraded connection: copied both ways as they are, so frames and extensions stay theirs."""

from __future__ import annotations

import asyncio
import contextlib
from typing import cast

from aiohttp import web
from aiohttp.http import WebSocketReader

from gateway.web.pool import Link


class Tap:
    """What aiohttp feeds with a client's bytes once the connection is no longer HTTP; it writes them to the link."""

    def __init__(self, link: Link, loop: asyncio.AbstractEventLoop) -> None:
        self._link = link
        self._loop = loop
        self.heard_at = loop.time()

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:
        self.heard_at = self._loop.time()
        self._link.write(data)
        return False, b""

    def feed_eof(self) -> None:
        """The client has gone; aiohttp cancels the exchange, which closes the link after what was written."""


async def tunnel(request: web.BaseRequest, link: Link, idle_timeout_s: float) -> None:
    """Copy until a side closes or nothing has come from either for `idle_timeout_s`.

    Back-pressure: writing to the client waits for it here; the client is not read while the link is full.
    """
    loop = asyncio.get_running_loop()
    tap = Tap(link, loop)
    transport = request.transport
    if transport is None:
        return

    def hold(is_full: bool) -> None:
        with contextlib.suppress(RuntimeError):  # the transport may be closing
            transport.pause_reading() if is_full else transport.resume_reading()

    link.on_full = hold
    request.protocol.set_parser(cast(WebSocketReader, tap))  # a reader of frames is what aiohttp feeds otherwise
    try:
        while not link.has_ended:
            if data := link.raw():
                tap.heard_at = loop.time()
                await request.writer.write(data)
                continue
            try:
                await link.more(tap.heard_at + idle_timeout_s)
            except TimeoutError:
                if loop.time() >= tap.heard_at + idle_timeout_s:
                    break
    finally:
        link.on_full = None
        link.close()
