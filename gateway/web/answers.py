"""Builds the answers that are the gateway's own: JSON, problem documents (RFC 9457), pages and redirects."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import quote

from aiohttp import web
from multidict import CIMultiDict

import waitroom_ui
from gateway.web.ready import Ready

NO_STORE: Final = "no-store"
NOSNIFF: Final = ("X-Content-Type-Options", "nosniff")  # on every answer of ours: what it is called is what it is
URI_CHARS: Final = "%-._~:/?#[]@!$&'()*+,;="  # all that a URI may hold besides letters and digits (RFC 3986, 2)
CACHEABLE: Final = {"Cache-Control": "public, max-age=1"}
TITLES: Final = {
    "admission-required": "This route has a line: join it to be let in",
    "admission-ended": "This place was used or given up",
    "room-full": "The line is full",
    "sold-out": "Sold out",
    "closed": "Closed",
    "no-such-room": "There is no such room",
    "no-ticket": "No valid ticket",
    "cross-site": "Refused: asked for by another site",
    "bad-request": "The request cannot be used",
    "method-not-allowed": "Method not allowed",
    "unreachable": "The line cannot be reached just now",
    "misdirected": "This host is not served here",
    "not-found": "Nothing is served here",
    "overloaded": "Too many requests just now",
}


def answer(
    status: int, body: bytes, content_type: str, headers: Mapping[str, str] | CIMultiDict[str] | None = None
) -> web.Response:
    """A whole answer, not to be stored unless its headers say so."""
    merged = CIMultiDict(headers or {})
    merged.setdefault("Cache-Control", NO_STORE)
    merged.setdefault(*NOSNIFF)
    merged["Content-Type"] = content_type
    return web.Response(status=status, body=body, headers=merged)


def json_text(document: object) -> str:
    """Without a byte that says nothing."""
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False)


def json_answer(
    document: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | CIMultiDict[str] | None = None
) -> web.Response:
    return answer(status, json_text(document).encode(), "application/json", headers)


def problem(
    status: int, kind: str, detail: str, headers: Mapping[str, str] | None = None, **members: Any
) -> web.Response:
    """RFC 9457; `detail` is one sentence that says what to do."""
    document = {"type": kind, "title": TITLES[kind], "status": status, "detail": detail, **members}
    text = json.dumps(document, ensure_ascii=False)
    return answer(status, text.encode(), "application/problem+json", headers)


def page(
    shown: waitroom_ui.Page, status: int = 200, headers: Mapping[str, str] | CIMultiDict[str] | None = None
) -> web.Response:
    merged: CIMultiDict[str] = CIMultiDict(shown.headers)
    merged.extend(headers or {})
    content_type = merged.pop("Content-Type", "text/html; charset=utf-8")
    return answer(status, shown.body, content_type, merged)


def redirect(status: int, location: str, headers: Mapping[str, str] | CIMultiDict[str] | None = None) -> web.Response:
    merged: CIMultiDict[str] = CIMultiDict(headers or {})
    merged["Location"] = quote(location, safe=URI_CHARS)
    return answer(status, b"", "text/plain; charset=utf-8", merged)


def empty(status: int = 204, headers: Mapping[str, str] | CIMultiDict[str] | None = None) -> web.Response:
    merged: CIMultiDict[str] = CIMultiDict(headers or {})
    merged.setdefault("Cache-Control", NO_STORE)
    merged.setdefault(*NOSNIFF)
    return web.Response(status=status, headers=merged)


def refusal(status: int) -> web.Response:
    """A short answer to what is no proper request; it quotes nothing and ends the connection."""
    headers = {"Server": "waitroom", "Cache-Control": NO_STORE} | dict((NOSNIFF,))
    response = web.Response(status=status, text=f"{status} {HTTPStatus(status).phrase}\n", headers=headers)
    response.force_close()
    return response


def unheard_of() -> Ready:
    """The same in HTTP/1.1: aiohttp would answer HTTP/2.0 or 0.9 in a version that it does not speak."""
    fields = {"Content-Type": "text/plain; charset=utf-8", "Cache-Control": NO_STORE} | dict((NOSNIFF,))
    lines = ["HTTP/1.1 400 Bad Request", "Server: waitroom", *(f"{name}: {value}" for name, value in fields.items())]
    answer = Ready("\r\n".join([*lines, "Content-Length: 16", ""]).encode(), b"400 Bad Request\n")
    answer.close_after()
    return answer
