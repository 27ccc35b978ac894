"""The gateway's own URLs that belong to no room: health, public keys, and the description of the contract."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from gateway.rules.tokens import Keyring
from gateway.web import answers
from gateway.web.openapi import document

CACHED_S = 300  # a new key is published long before it signs


class Site:
    """`serve(request, rest)` answers what follows `/_waitroom/`."""

    def __init__(self, keyring: Keyring, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        cached = {"Cache-Control": f"public, max-age={CACHED_S}"}
        self._documents = {
            "jwks.json": (keyring.jwks(), cached),
            "openapi.json": (document(), cached),
        }

    def serve(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        if rest == "health" or rest in self._documents:
            if request.method not in {"GET", "HEAD"}:
                return answers.problem(405, "method-not-allowed", "allowed here: GET, HEAD", {"Allow": "GET, HEAD"})
            if rest == "health":
                ready = self._is_ready()
                return answers.json_answer({"status": "ok" if ready else "stopping"}, 200 if ready else 503)
            found, headers = self._documents[rest]
            return answers.json_answer(found, headers=headers)
        return answers.problem(404, "no-such-room", "nothing is served here: rooms are at /_waitroom/{room}/")
