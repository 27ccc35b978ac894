"""What the gateway is compared with: an aiohttp handler that does nothing, and one that reads a body and does nothing.

    python -m bench.references --role empty|reads PORT

The bare pass-through and the bank behind it are in `bench/proxy.py`.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from typing import Final

import uvloop
from aiohttp import web

BODY: Final = "ok"


async def empty(_request: web.BaseRequest) -> web.StreamResponse:
    return web.Response(text=BODY)


async def reads(request: web.BaseRequest) -> web.StreamResponse:
    await request.read()
    return web.Response(text=BODY)


async def serve(role: str, port: int) -> None:
    server = web.Server({"empty": empty, "reads": reads}[role], access_log=None)
    await asyncio.get_running_loop().create_server(server, "127.0.0.1", port)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--role", choices=("empty", "reads"), required=True)
    parser.add_argument("port", type=int)
    asked = parser.parse_args()
    logging.disable()  # the load hangs up in the middle of answers, and aiohttp complains about each
    uvloop.run(serve(asked.role, asked.port))


if __name__ == "__main__":
    main()
