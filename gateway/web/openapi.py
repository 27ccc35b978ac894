"""Owns the description of the public port as an OpenAPI 3.1 document; tests hold real answers to its schemas."""

from __future__ import annotations

from typing import Any, Final

from gateway.model import RoomState, VisitorState
from gateway.web.answers import TITLES
from gateway.web.examples import with_examples

Json = dict[str, Any]

CONTRACT_VERSION: Final = "1.0.0"
METHODS: Final = ("get", "head", "post", "put", "patch", "delete", "options")
ROOM_PATTERN: Final = r"^[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?$"


def document() -> Json:
    """The whole document, made anew: the caller may change it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "waitroom",
            "version": CONTRACT_VERSION,
            "summary": "A virtual waiting room: the crowd is held in a fair line before the service.",
            "description": (
                "Browsers need nothing of this: the waiting page does it. Apps send `Waitroom-Transport: header`, join "
                "when a protected route answers 429, ask *status* when `poll_after_ms` says so, claim when `state` is "
                "`called`, and repeat the request with `Waitroom-Admission`. Every call can be retried safely."
            ),
        },
        "tags": [{"name": name} for name in ("line", "room", "edge", "gateway")],
        "paths": _paths(),
        "components": {
            "parameters": _parameters(),
            "headers": _headers(),
            "schemas": with_examples(Status=status_schema(), Board=board_schema(), Problem=problem_schema()),
            "securitySchemes": _security_schemes(),
        },
    }


# --- what is said: schemas --------------------------------------------------------------------------------------------


def status_schema() -> Json:
    """JSON Schema of *status*: every field always there, null where it does not apply."""
    eta = _closed({"p50_s": _count("Half of all enter by then."), "p90_s": _count("Nine of ten enter by then.")})
    cause = _closed({"code": {"type": "string"}, "at": _time("Since when.")})
    fields: Json = {
        "room": {"type": "string", "pattern": ROOM_PATTERN},
        "state": {"enum": [state.value for state in VisitorState]},
        "number": _nullable(_count("The place's number; null while none is given yet.", minimum=1)),
        "position": _nullable(_count("1 is next, 0 is called.")),
        "ahead": _nullable(_count("Places before this one.")),
        "waiting": _nullable(_count("Places in the whole line.")),
        "eta": _nullable(eta | {"description": "Expected time until entry; null where nobody can tell."}),
        "progress": _nullable({"type": "number", "minimum": 0, "maximum": 1}),
        "poll_after_ms": _nullable(_count("When to ask again; null: stop.")),
        "room_state": {"enum": [state.value for state in RoomState]},
        "message": _message(),
        "now": _time("The room's clock."),
        "as_of": _time("When the figures were true."),
        "stale": {"type": "boolean", "description": "The figures are the last known ones: Redis cannot be asked."},
        "provisional": {"type": "boolean", "description": "The place has no number yet, only its arrival time."},
        "claim_in_ms": _nullable(_count("What is left of the claim window; null while nobody can enter.")),
        "lease_until": _nullable(_time("When the admission lapses unless it is used.")),
        "cause": _nullable(cause | {"description": "Why a position or state changed against expectation."}),
    }
    tokens: Json = {
        "ticket": {"type": "string", "maxLength": 800, "description": "With Waitroom-Transport: header only."},
        "admission": {"type": "string", "maxLength": 800, "description": "With Waitroom-Transport: header only."},
    }
    return _closed(fields, tokens)


def board_schema() -> Json:
    """JSON Schema of the board. Before the first one was read, figures are null."""
    pair = {"type": "array", "items": _count("The rank, then the number."), "minItems": 2, "maxItems": 2}
    return _closed(
        {
            "room": {"type": "string", "pattern": ROOM_PATTERN},
            "epoch": _nullable(_count("Raised by a reset, which voids older tickets.")),
            "version": _count("Grows with every board."),
            "room_state": {"enum": [state.value for state in RoomState]},
            "as_of": _time("When the figures were true."),
            "waiting": _nullable(_count("Places above the cursor.")),
            "active": _nullable(_count("Slots held by admissions.")),
            "called": _nullable(_count("Places whose claim window is open.")),
            "next_number": _nullable(_count("What the next to join gets.")),
            "passed": _nullable(_count("The cursor.")),
            "drain_rate": _nullable({"type": "string", "pattern": r"^[1-9][0-9]*/(s|min|h)$"}),
            "throughput": _nullable({"type": "number", "minimum": 0, "description": "Entries a second, measured."}),
            "ranks": {"type": "array", "maxItems": 64, "items": pair, "description": "Numbers at ascending ranks."},
            "message": _message(),
            "opens_at": _nullable(_time("When a scheduled room opens.")),
        }
    )


def problem_schema() -> Json:
    """RFC 9457; further members go with some types."""
    return {
        "type": "object",
        "required": ["type", "title", "status", "detail"],
        "properties": {
            "type": {"enum": list(TITLES)},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "room": {"type": "string"},
            "room_state": {"enum": [state.value for state in RoomState]},
        },
    }


def _closed(required: Json, optional: Json | None = None) -> Json:
    return {
        "type": "object",
        "required": list(required),
        "properties": required | (optional or {}),
        "additionalProperties": False,
    }


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


def _count(about: str, minimum: int = 0) -> Json:
    return {"type": "integer", "minimum": minimum, "description": about}


def _time(about: str) -> Json:
    return {"type": "string", "format": "date-time", "description": f"{about} RFC 3339, UTC."}


def _message() -> Json:
    texts = {"type": "object", "additionalProperties": {"type": "string"}, "description": "By language tag."}
    return _nullable(_closed({"texts": texts, "at": _time("Since when it is shown.")}))


# --- what is asked: parameters, headers, credentials ------------------------------------------------------------------


def _parameters() -> Json:
    def one(name: str, where: str, about: str, schema: Json) -> Json:
        return {"name": name, "in": where, "description": about, "required": where == "path", "schema": schema}

    back = {"type": "string", "maxLength": 1024, "pattern": r"^/(?![/\\])"}
    return {
        "Room": one("room", "path", "The room's id.", {"type": "string", "pattern": ROOM_PATTERN}),
        "ReturnTo": one("return_to", "query", "Path and query to go back to, on this host.", back),
        "Transport": one(
            "Waitroom-Transport", "header", "For apps without cookies: tokens come in the body.", {"const": "header"}
        ),
        "AuthRoom": one("room", "query", "The room asked about; else by X-Forwarded-* or X-Original-URI of a trusted "
                        "proxy.", {"type": "string"}),
        "AuthMode": one("mode", "query", "What a denial looks like: a redirect, or the page itself.",
                        {"enum": ["redirect", "page"]}),
        "AuthPath": one("path", "path", "The protected path, for edges that put it there.", {"type": "string"}),
        "Protected": one("protected", "path", "Any path of a room's routes.", {"type": "string"}),
    }  # fmt: skip


def _headers() -> Json:
    def one(about: str, schema: Json | None = None) -> Json:
        return {"description": about, "schema": schema or {"type": "string"}}

    seconds: Json = {"type": "integer", "minimum": 0}
    return {
        "Retry-After": one("Seconds until it is worth trying again.", seconds),
        "Set-Cookie": one("The ticket or admission: HttpOnly, Secure, SameSite=Lax, Path=/, Max-Age to its expiry."),
        "Cache-Control": one("`no-store` except where said."),
        "Location": one("Where to go.", {"type": "string", "format": "uri-reference"}),
        "Link": one('The join URL, rel="waitroom-join" (RFC 8288).'),
        "Allow": one("The methods that are answered."),
        "Waitroom-Room": one("The room's id; `-` where no admission is needed."),
        "Waitroom-State": one("`waiting` on the page that stands in place of a protected URL.", {"const": "waiting"}),
        "Waitroom-Lease": one("Seconds until the admission lapses unless it is used.", seconds),
        "Waitroom-Epoch": one("For edges: admissions of a lower epoch count no more.", {"type": "string"}),
        "Waitroom-Subject": one("The visitor's id, a UUID; `-` where no admission is needed."),
        "Waitroom-Signature": one(
            't=<unix>,v1=<hex HMAC-SHA256(key, "t.room.subject")>; `-` where requests are not signed.',
            {"type": "string", "pattern": r"^(t=\d+,v1=[0-9a-f]{64}|-)$"},
        ),
    }


def _security_schemes() -> Json:
    def one(name: str, where: str, about: str) -> Json:
        return {"type": "apiKey", "in": where, "name": name, "description": about}

    return {
        "TicketCookie": one("__Host-waitroom-ticket-{room}", "cookie", "The place, in browsers."),
        "TicketHeader": one("Waitroom-Ticket", "header", "The place, in apps."),
        "AdmissionCookie": one("__Host-waitroom-admission-{room}", "cookie", "The right to pass, in browsers."),
        "AdmissionHeader": one("Waitroom-Admission", "header", "The right to pass, in apps."),
    }


_TICKET: Final[list[Json]] = [{"TicketCookie": []}, {"TicketHeader": []}]
_ADMISSION: Final[list[Json]] = [{"AdmissionCookie": []}, {"AdmissionHeader": []}]
_ANYONE: Final[list[Json]] = [{}]


# --- the calls --------------------------------------------------------------------------------------------------------


def _paths() -> Json:
    at = "/_waitroom/{room}/"
    return {
        f"{at}ticket": {"parameters": [_at("Room"), _at("Transport")], "post": _join(), "delete": _leave("giveUp")},
        f"{at}status": {"parameters": [_at("Room"), _at("Transport")], "get": _status()},
        f"{at}admission": {"parameters": [_at("Room"), _at("Transport")], "post": _claim()},
        f"{at}leave": {"parameters": [_at("Room")], "post": _leave("leave")},
        f"{at}board": {"parameters": [_at("Room")], "get": _board()},
        at: {"parameters": [_at("Room"), _at("ReturnTo")], "get": _page()},
        f"{at}renew": {"parameters": [_at("Room"), _at("ReturnTo")], "get": _renew()},
        "/_waitroom/auth": _auth("auth", []),
        "/_waitroom/auth/{path}": _auth("authPath", [_at("AuthPath")]),
        "/_waitroom/health": {"get": _health()},
        "/_waitroom/jwks.json": {"get": _published("publicKeys", "What admissions are verified with (RFC 7517).")},
        "/_waitroom/openapi.json": {"get": _published("contract", "This document.")},
        "/{protected}": {"parameters": [_at("Protected")], "get": _protected("get"), "post": _protected("post")},
    }  # fmt: skip


def _join() -> Json:
    key = {"type": "string", "minLength": 16, "maxLength": 256, "description": "Random, made once, kept secret."}
    schema = {"type": "object", "properties": {"key": key}}
    return {
        **_call("join", "line", "Join, or find one's place again: one key, one place.", _ANYONE + _TICKET),
        "requestBody": {"required": False, "content": {"application/json": {"schema": schema}}},
        "responses": {
            "201": _status_answer("A new place.", "Set-Cookie"),
            "200": _status_answer("The place is known.", "Set-Cookie"),
            "400": _problem("The key cannot be used."),
            "403": _problem("Asked for by another site (`cross-site`), or a verified customer is wanted."),
            "404": _problem("There is no such room."),
            "409": _problem("`sold-out` or `closed`."),
            "413": _problem("The body is too long."),
            "503": _problem("`room-full`, or a ticket of ours that cannot be verified just now.", "Retry-After"),
        },
    }


def _status() -> Json:
    return {
        **_call("status", "line", "The place, which stays present by being asked for.", _TICKET + _ADMISSION),
        "responses": {
            "200": _status_answer("Where one stands; also `admitted` and `ended`.", "Set-Cookie"),
            "404": _problem("`no-ticket`: no valid token came with it; or no such room."),
            "503": _problem("A ticket of ours that cannot be verified just now.", "Retry-After"),
        },
    }


def _claim() -> Json:
    return {
        **_call("claim", "line", "Enter, when called. May be held up to 10 s.", _TICKET),
        "responses": {
            "200": _status_answer("`admitted`; the ticket is spent.", "Set-Cookie"),
            "202": _status_answer("Not yet; the turn is kept.", "Retry-After"),
            "403": _problem("Asked for by another site."),
            "404": _problem("`no-ticket`, or no such room."),
            "410": _status_answer("`ended`: used or given up."),
            "503": _problem("A ticket of ours that cannot be verified just now.", "Retry-After"),
        },
    }


def _leave(name: str) -> Json:
    return {
        **_call(name, "line", "Give the place up.", _TICKET),
        "responses": {
            "204": {"description": "Given up, or there was none.", "headers": _head("Set-Cookie")},
            "200": _html("The same, for a form."),
            "403": _problem("Asked for by another site."),
            "404": _problem("There is no such room."),
            "503": _problem("It could not be given up just now.", "Retry-After"),
        },
    }


def _board() -> Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Board"}}}
    return {
        **_call("board", "room", "What the room publishes about itself.", _ANYONE),
        "responses": {
            "200": {"description": "Public.", "headers": _head("Cache-Control", "Waitroom-Epoch"), "content": content},
            "404": _problem("There is no such room."),
        },
    }


def _page() -> Json:
    return {
        **_call("page", "room", "The waiting page, the same for all.", _ANYONE),
        "responses": {"200": _html("Cacheable.", "Cache-Control"), "404": _problem("There is no such room.")},
    }


def _renew() -> Json:
    return {
        **_call("renew", "line", "A fresh admission cookie, and back.", _ADMISSION),
        "responses": {
            "303": {"description": "Back to `return_to`, or the entry.", "headers": _head("Location", "Set-Cookie")},
            "404": _problem("There is no such room."),
        },
    }  # fmt: skip


def _auth(name: str, parameters: list[Json]) -> Json:
    """Any method: edges send the method of the request they ask about, and never get a cookie."""
    promised = _head("Waitroom-Subject", "Waitroom-Room", "Waitroom-Signature")
    denied = _head("Location", "Waitroom-Room", "Waitroom-State")
    answers: Json = {
        "200": {"description": "Let it pass.", "headers": promised},
        "302": {"description": "With `mode=redirect`: to the page, or to renew.", "headers": _head("Location")},
        "401": _problem("Not admitted: `Location` is the page, or renew; or it cannot be told who asks for what: `/`.")
        | {"headers": denied},
        "429": _html("With `mode=page`: the waiting page.", "Retry-After", "Waitroom-State"),
    }
    calls = {
        method: {
            **_call(f"{name}{method.capitalize()}", "edge", "Whether a request may pass.", _ANYONE + _ADMISSION),
            "responses": answers,
        }
        for method in METHODS
    }
    return {"parameters": [*parameters, _at("AuthRoom"), _at("AuthMode")], **calls}


def _health() -> Json:
    schema = _closed({"status": {"enum": ["ok", "stopping"]}})
    content = {"application/json": {"schema": schema}}
    return {
        **_call("health", "gateway", "Whether this process can serve; Redis is no part of it.", _ANYONE),
        "responses": {
            "200": {"description": "It can.", "content": content},
            "503": {"description": "It is stopping.", "content": content},
        },
    }


def _published(name: str, about: str) -> Json:
    content = {"application/json": {"schema": {"type": "object"}}}
    return {
        **_call(name, "gateway", about, _ANYONE),
        "responses": {"200": {"description": about, "headers": _head("Cache-Control"), "content": content}},
    }


def _protected(method: str) -> Json:
    held = _problem("`admission-required`, or the waiting page for a navigation (with the status configured).")
    held["content"]["text/html"] = {"schema": {"type": "string"}}
    held["headers"] = _head("Retry-After", "Waitroom-Room", "Waitroom-State", "Link", "Waitroom-Epoch")
    return {
        **_call(f"{method}Protected", "line", "Any protected route, with any method.", _ANYONE + _ADMISSION),
        "responses": {
            "429": held,
            "400": _problem("The target has more than one meaning."),
            "421": _problem("The host is not one of ours."),
            "default": {"description": "Admitted: the upstream's answer.", "headers": _head("Waitroom-Lease")},
        },
    }


# --- small parts of the above -----------------------------------------------------------------------------------------


def _call(name: str, tag: str, summary: str, security: list[Json]) -> Json:
    return {"operationId": name, "tags": [tag], "summary": summary, "security": security}


def _at(parameter: str) -> Json:
    return {"$ref": f"#/components/parameters/{parameter}"}


def _head(*names: str) -> Json:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _status_answer(about: str, *headers: str) -> Json:
    """JSON for programs; a small page for browsers without script, which name text/html in Accept."""
    content: Json = {
        "application/json": {"schema": {"$ref": "#/components/schemas/Status"}},
        "text/html": {"schema": {"type": "string"}},
    }
    return {"description": about, "headers": _head(*headers), "content": content}


def _html(about: str, *headers: str) -> Json:
    return {"description": about, "headers": _head(*headers), "content": {"text/html": {"schema": {"type": "string"}}}}


def _problem(about: str, *headers: str) -> Json:
    content: Json = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {"description": about, "headers": _head(*headers), "content": content}
