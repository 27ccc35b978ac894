"""Owns the bank's other business: the deposit offer and the cash-back, which crowds come for, and ordinary card payments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

from aiohttp import web

from gateway.demo import forms, pages
from gateway.demo.books import Books
from gateway.demo.core import Core
from gateway.demo.entrylog import EntryLog
from gateway.demo.offers import Granted, Offer, SoldOut, book_payment

DEPOSIT: Final = "deposit"
CASHBACK: Final = "cashback"
CASHBACK_WON: Final = 5_000


class Desk:
    """One offer at its counter: a page that shows it, and a form that asks for it. Each is a transaction of the core."""

    def __init__(
        self, offer: Offer, core: Core, log: EntryLog, counts: Counter[str], page: Callable[[int], str]
    ) -> None:
        self._offer = offer
        self._core = core
        self._log = log
        self._counts = counts
        self._page = page

    async def show(self, request: web.Request) -> web.Response:
        account = forms.account_of(request)
        self._log.note(request.headers, account)
        left = await self._core.run(lambda: self._offer.remaining)
        if left == 0:
            return forms.say(request, 409, "sold out", {**forms.RELEASE, **_told(left)})
        if forms.wants_html(request):
            answer = forms.html(self._page(-1 if left is None else left), headers=_told(left))
        else:
            answer = web.json_response({"account": account, "remaining": left}, headers=_told(left))
        return forms.remember(request, answer, account)

    async def take(self, request: web.Request) -> web.Response:
        """Asked again, the same customer is told the same: one for each."""
        account, offer = forms.account_of(request), self._offer
        self._log.note(request.headers, account)
        outcome: Granted | SoldOut = await self._core.run(lambda: offer.grant(account), lambda: offer.look(account))
        # Told with the same answer, the gateway never believes that more are left than there are.
        headers = {**forms.RELEASE, **_told(offer.remaining)}
        match outcome:
            case Granted():
                self._counts["granted"] += not outcome.is_replay
                answer = web.json_response({"granted": True, "replay": outcome.is_replay}, headers=headers)
                if forms.wants_html(request):
                    answer = forms.html(pages.granted_page(outcome.is_replay), headers=headers)
                return forms.remember(request, answer, account)
            case SoldOut():
                return forms.say(request, 409, "sold out", headers)


class Till:
    """Card payments in the shops, which have nothing to do with any offer, but the core banking system is the same."""

    def __init__(self, books: Books, core: Core) -> None:
        self._books = books
        self._core = core

    async def pay(self, request: web.Request) -> web.Response:
        account = forms.account_of(request)
        amount = (await forms.fields_of(request)).get("won", "")
        if not forms.WHOLE_NUMBER.fullmatch(amount):
            return forms.say(request, 400, "won must be a whole number from 1 up")
        number = await self._core.run(lambda: book_payment(self._books, account, int(amount)))
        return web.json_response({"payment": number})


def _told(left: int | None) -> Mapping[str, str]:
    return {} if left is None else {"Waitroom-Remaining": str(left)}
