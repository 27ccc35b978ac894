"""Owns how one visitor speaks HTTP through Locust's fast client: its headers, its tokens, and which answers are failures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final, assert_never
from urllib.parse import parse_qsl

import gevent
from locust.contrib.fasthttp import FastHttpSession, ResponseContextManager

from locustfiles.waiting import Answer, Claim, Join, Load, Poll, Request, is_expected

AGENT: Final = "Mozilla/5.0 (locust crowd)"
TOKEN_HEADERS: Final = {"ticket": "Waitroom-Ticket", "admission": "Waitroom-Admission"}


@dataclass(frozen=True, slots=True)
class Route:
    """What the crowd came for: a room's entry page, and what is sent from it."""

    room: str
    entry: str
    pay_path: str  # '' = nothing is sent, seeing the page is all
    pay_form: str  # `{key}` stands for the payout's key


class Wire:
    """One visitor's requests. Its client keeps its cookies, bank's and gateway's, as a browser does."""

    def __init__(
        self, client: FastHttpSession, route: Route, *, is_app: bool, hosts: Sequence[str], patience_s: float
    ) -> None:
        """Several `hosts` are asked in turn, as behind a balancer that knows no rooms.

        `patience_s` is how long a person looks at a page that does not come before reloading it. What the waiting page
        asks for by itself waits as long as the client's own deadline.
        """
        self._client = client
        self._route = route
        self._is_app = is_app
        self._hosts = cycle(hosts)
        self._patience_s = patience_s
        self._tokens: dict[str, str] = {}
        self._key = ""

    def begin(self, key: str) -> None:
        """A new wait, with a new key: what an app still holds of the one before is of no use."""
        self._key = key
        self._tokens.clear()

    def ask(self, step: Request) -> Answer:
        """Make the step's request, whatever `after_s` says; the answer counts as failed where it is no answer to it."""
        ours = f"/_waitroom/{self._route.room}"
        match step:
            case Load():
                answered = self._open_impatiently("page", "GET", self._route.entry, self._navigation("none"))
            case Join():
                body = json.dumps({"key": self._key})
                answered = self._open("join", "POST", f"{ours}/ticket", self._fetch() | JSON_BODY, body)
            case Poll():
                answered = self._open("status", "GET", f"{ours}/status", self._fetch())
            case Claim():
                answered = self._open("claim", "POST", f"{ours}/admission", self._fetch())
            case _:
                assert_never(step)
        with answered as response:
            answer = self._read(response)
            if is_expected(step, answer):
                response.success()
            elif answer.status:  # 0 carries its own reason
                response.failure(f"status {answer.status}")
        return answer

    def pay(self, payout_key: str) -> Answer:
        """Send the form; an app sends its fields as JSON, with the key as Idempotency-Key too."""
        form = self._route.pay_form.replace("{key}", payout_key)
        if self._is_app:
            headers = self._navigation("none") | JSON_BODY | {"Idempotency-Key": payout_key}
            form = json.dumps(dict(parse_qsl(form)))
        else:
            headers = self._navigation("same-origin") | FORM_BODY
        with self._open_impatiently("pay", "POST", self._route.pay_path, headers, form) as response:
            answer = self._read(response)
            if answer.is_page or answer.is_held or answer.is_over:
                response.success()
            elif answer.status:
                response.failure(f"status {answer.status}")
        return answer

    def hang_up(self) -> None:
        """Close the connections; cookies and tokens stay."""
        self._client.client.close()

    def _open_impatiently(
        self, name: str, method: str, path: str, headers: Mapping[str, str], body: str | None = None
    ) -> ResponseContextManager:
        # Locust's client takes it for a timeout of the network: counts it, and closes the connection.
        with gevent.Timeout(self._patience_s, TimeoutError("nobody waits that long")):
            return self._open(name, method, path, headers, body)

    def _open(
        self, name: str, method: str, path: str, headers: Mapping[str, str], body: str | None = None
    ) -> ResponseContextManager:
        host = next(self._hosts)
        sent = {**headers, **self._credentials(method, host), "User-Agent": AGENT}
        return self._client.request(method, host + path, name=name, headers=sent, data=body, catch_response=True)

    def _navigation(self, site: str) -> dict[str, str]:
        if self._is_app:
            return {"Accept": "application/json"}
        return {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": site}

    def _fetch(self) -> dict[str, str]:
        if self._is_app:
            return {"Accept": "application/json"}
        return {"Accept": "application/json", "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}

    def _credentials(self, method: str, host: str) -> dict[str, str]:
        if self._is_app:
            tokens = {TOKEN_HEADERS[name]: token for name, token in self._tokens.items()}
            return {"Waitroom-Transport": "header"} | tokens
        return {} if method == "GET" else {"Origin": host}

    def _read(self, response: ResponseContextManager) -> Answer:
        headers = {str(name).lower(): str(value) for name, value in (response.headers or {}).items()}
        answer = Answer(response.status_code, headers, _json_object(response, headers))
        if self._is_app:
            for name, header in TOKEN_HEADERS.items():
                if token := headers.get(header.lower()) or answer.body.get(name):
                    self._tokens[name] = str(token)
        return answer


def _json_object(response: ResponseContextManager, headers: Mapping[str, str]) -> Mapping[str, Any]:
    if "json" not in headers.get("content-type", ""):
        return {}
    try:
        body = json.loads(response.content or b"")
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


JSON_BODY: Final = {"Content-Type": "application/json"}
FORM_BODY: Final = {"Content-Type": "application/x-www-form-urlencoded"}
