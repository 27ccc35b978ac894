"""Owns how the bank reads its requests and words its answers: a form and a page for people, JSON for apps."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from typing import Final

from aiohttp import web

from gateway.demo import pages

ACCOUNT_COOKIE: Final = "bank_account"
NAME_LENGTH_MAX: Final = 64
WHOLE_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}")  # ASCII digits, below a billion
# The visitor is done: the gateway may give the slot to the next one.
RELEASE: Final = {"Waitroom-Release": "1"}


def account_of(request: web.Request) -> str:
    """Who the customer is to the bank; a visitor that is not logged in becomes a guest."""
    name = request.cookies.get(ACCOUNT_COOKIE, "")
    return name if 0 < len(name) <= NAME_LENGTH_MAX else f"guest-{secrets.token_hex(6)}"


def remember(request: web.Request, answer: web.Response, account: str) -> web.Response:
    """A guest keeps its account from the first page on."""
    if ACCOUNT_COOKIE not in request.cookies:
        answer.set_cookie(ACCOUNT_COOKIE, account, httponly=True, samesite="Lax")
    return answer


async def fields_of(request: web.Request) -> Mapping[str, str]:
    if request.content_type != "application/json":
        return {name: str(value) for name, value in (await request.post()).items()}
    try:
        body = json.loads(await request.text())
    except ValueError:
        return {}
    return {str(name): str(value) for name, value in body.items()} if isinstance(body, dict) else {}


def wants_html(request: web.Request) -> bool:
    return "text/html" in request.headers.get("Accept", "")


def html(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def say(request: web.Request, status: int, sentence: str, headers: Mapping[str, str] | None = None) -> web.Response:
    if wants_html(request):
        return html(pages.sentence_page("데모 은행 · Demo bank", sentence), status, headers)
    return web.json_response({"error": sentence}, status=status, headers=headers)
