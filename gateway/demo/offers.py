"""Owns what the bank gives once to each customer: a deposit of limited stock, and a cash-back; and ordinary payments.

The deposit is sold as a back office that was built for calm days sells it: it looks how many are left, does its slow
part (who is this, may it have one), and writes the sale. Nobody else is kept from selling meanwhile. With eight workers
up to seven more than there are can be sold, whenever eight applications are at work as the last one goes; it takes a
crowd to get there. No answer is made up: who was sold one has it in the books, oversold or not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from gateway.demo.books import Books

SCHEMA: Final = """
create table if not exists grants   (offer text not null, account text not null, at real not null,
                                     primary key (offer, account)) without rowid;
create table if not exists payments (id integer primary key, account text not null, won integer not null);
"""


@dataclass(frozen=True, slots=True)
class Granted:
    """The customer has it; `is_replay` when it already did."""

    is_replay: bool


@dataclass(frozen=True, slots=True)
class SoldOut:
    """Nothing was left when it was looked."""


class Offer:
    """One offer in the books. Every method may be called from any thread; `stock` None is as many as come."""

    def __init__(self, books: Books, name: str, stock: int | None, wall_s: Callable[[], float]) -> None:
        self._books = books
        self._name = name
        self._wall_s = wall_s
        self.stock = stock

    @property
    def sold(self) -> int:
        query = "select count(*) from grants where offer = ?"
        return int(self._books.connection().execute(query, (self._name,)).fetchone()[0])

    @property
    def remaining(self) -> int | None:
        return None if self.stock is None else max(0, self.stock - self.sold)

    @property
    def oversold(self) -> int:
        return 0 if self.stock is None else max(0, self.sold - self.stock)

    def look(self, account: str) -> Granted | SoldOut | None:
        """The first half of an application: an answer that needs no slow part, or None."""
        query = "select 1 from grants where offer = ? and account = ?"
        if self._books.connection().execute(query, (self._name, account)).fetchone() is not None:
            return Granted(is_replay=True)
        return SoldOut() if self.remaining == 0 else None

    def grant(self, account: str) -> Granted:
        """The second half, after the slow part: it is written, whatever others wrote meanwhile."""
        written = "insert or ignore into grants values (?, ?, ?)"
        cursor = self._books.connection().execute(written, (self._name, account, self._wall_s()))
        return Granted(is_replay=cursor.rowcount == 0)


def book_payment(books: Books, account: str, won: int) -> int:
    """An ordinary card payment; its number."""
    cursor = books.connection().execute("insert into payments (account, won) values (?, ?)", (account, won))
    return int(cursor.lastrowid or 0)
