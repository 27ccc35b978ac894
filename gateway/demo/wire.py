"""Owns how one visitor of the crowd speaks HTTP: its headers, its tokens, and the count of what failed."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from gateway.demo.forms import ACCOUNT_COOKIE
from gateway.demo.plan import Kind, Plan

PAGE: Final = "/points/cashout/"
PAY: Final = "/points/cashout/pay"
# The gateway holds a claim for up to 10 s at the door, and a browser's fetch has no deadline of its own.
CLAIM_PATIENCE_S: Final = 20.0
POLL_PATIENCE_S: Final = 10.0
CEIL_NEVER_S: Final = 3600.0  # aiohttp would round deadlines of 5 s and more up to whole seconds of its clock
TOKEN_HEADERS: Final = {"ticket": "Waitroom-Ticket", "admission": "Waitroom-Admission"}
JOIN_LINK: Final = re.compile(r'<(?:https?://[^/>]+)?(/[^>]+)>\s*;\s*rel="?waitroom-join"?')
AGENT: Final = "Mozilla/5.0 (demo crowd)"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `failure` says how it failed ('' = it did not), and then the rest is empty or of no use."""

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str = ""
    failure: str = ""

    @property
    def is_held(self) -> bool:
        """The gateway answered in place of the bank: not yet."""
        return not self.failure and (self.status == 429 or self.headers.get("Waitroom-State") == "waiting")

    def fields(self) -> dict[str, Any]:
        """The body as a JSON object; {} if it is none."""
        try:
            body = json.loads(self.text)
        except ValueError:
            return {}
        return body if isinstance(body, dict) else {}


class Wire:
    """One visitor's client. Each request may go to another gateway, as behind a balancer that knows no rooms."""

    def __init__(
        self, session: aiohttp.ClientSession, urls: tuple[str, ...], plan: Plan, failures: Counter[str]
    ) -> None:
        self._session = session
        self._urls = urls
        self._plan = plan
        self._failures = failures
        self._turn = int(plan.key[:8], 16)
        self._cookies = {ACCOUNT_COOKIE: plan.name}
        self._tokens: dict[str, str] = {}
        self.requests = 0

    async def load_page(self) -> Answer:
        if self._plan.kind is Kind.APP:
            headers = {"Accept": "application/json"}
        else:
            headers = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "none"}
        return await self._ask("page", "GET", PAGE, headers, None, self._plan.patience_s)

    async def pay(self) -> Answer:
        """An app sends JSON with an Idempotency-Key, a browser the form with the payout's key in a field."""
        plan = self._plan
        if plan.kind is Kind.APP:
            headers = {"Accept": "application/json", "Idempotency-Key": plan.payout_key}
            body = json.dumps({"points": plan.points})
            return await self._ask("pay", "POST", PAY, headers | JSON_BODY, body, plan.patience_s)
        headers = {"Accept": "text/html,*/*;q=0.8", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": "same-origin"}
        form = f"payout={plan.payout_key}&points={plan.points}"
        return await self._ask("pay", "POST", PAY, headers | FORM_BODY, form, plan.patience_s)

    async def join(self, path: str) -> Answer:
        body = json.dumps({"key": self._plan.key})
        return await self._ask("join", "POST", path, self._fetch_headers() | JSON_BODY, body, POLL_PATIENCE_S)

    async def read_status(self, path: str) -> Answer:
        return await self._ask("status", "GET", path, self._fetch_headers(), None, POLL_PATIENCE_S)

    async def claim(self, path: str) -> Answer:
        return await self._ask("claim", "POST", path, self._fetch_headers(), None, CLAIM_PATIENCE_S)

    def _fetch_headers(self) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if self._plan.kind is not Kind.APP:
            headers |= {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}
        return headers

    async def _ask(
        self, what: str, method: str, path: str, headers: dict[str, str], body: str | None, patience_s: float
    ) -> Answer:
        answer = await self._exchange(method, path, headers, body, patience_s)
        if answer.failure:
            self._failures[f"{what} {answer.failure}"] += 1
        return answer

    async def _exchange(
        self, method: str, path: str, headers: dict[str, str], body: str | None, patience_s: float
    ) -> Answer:
        self._turn += 1
        self.requests += 1
        url = self._urls[self._turn % len(self._urls)]
        headers = headers | self._credentials(url, method) | {"User-Agent": AGENT}
        timeout = aiohttp.ClientTimeout(total=patience_s, ceil_threshold=CEIL_NEVER_S)
        try:
            async with self._session.request(
                method, url + path, headers=headers, data=body, timeout=timeout, allow_redirects=False
            ) as response:
                text = await response.text()
        except TimeoutError:
            return Answer(failure="timeout")
        except (aiohttp.ClientError, OSError):
            return Answer(failure="reset")
        self._remember(response, text)
        failure = str(response.status) if response.status >= 500 else ""
        return Answer(response.status, response.headers, text, failure)

    def _credentials(self, url: str, method: str) -> dict[str, str]:
        if self._plan.kind is Kind.APP:
            own = {"Cookie": f"{ACCOUNT_COOKIE}={self._plan.name}", "Waitroom-Transport": "header"}
            return own | {TOKEN_HEADERS[name]: token for name, token in self._tokens.items()}
        cookies = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        return cookies if method == "GET" else cookies | {"Origin": url}

    def _remember(self, response: aiohttp.ClientResponse, text: str) -> None:
        """Keep the tokens of an answer, by cookie or, for an app, from the body or the headers."""
        if self._plan.kind is not Kind.APP:
            for name, cookie in response.cookies.items():
                if cookie["max-age"] == "0" or not cookie.value:
                    self._cookies.pop(name, None)
                else:
                    self._cookies[name] = cookie.value
            return
        body = Answer(text=text).fields()
        for name, header in TOKEN_HEADERS.items():
            if token := response.headers.get(header) or body.get(name):
                self._tokens[name] = str(token)


JSON_BODY: Final = {"Content-Type": "application/json"}
FORM_BODY: Final = {"Content-Type": "application/x-www-form-urlencoded"}
