"""Owns the demo bank's ledger: accounts, payouts and a double entry of each, shared by all workers."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from typing import Final
from zlib import crc32

from gateway.demo.books import Books

CASH: Final = "cash"  # the other side of every payout, so that the ledger adds up to nothing

SCHEMA: Final = """
create table if not exists accounts (name text primary key, opening integer not null,
                                     points integer not null check (points >= 0)) without rowid;
create table if not exists payouts  (key text primary key, account text not null, points integer not null,
                                     paid_at real not null, due text not null) without rowid;
create table if not exists entries  (id integer primary key, payout_key text not null, account text not null,
                                     points integer not null);
"""
# A payout key debited twice is what must never be. The ledger has no unique index on the key on purpose: the books
# must be able to show the mistake that the payouts table is there to prevent.
PAID_TWICE: Final = """
select count(*) from (select 1 from entries where points < 0 group by payout_key having count(*) > 1)
"""
UNEXPLAINED: Final = """
select count(*) from accounts left join (select account, sum(points) as moved from entries group by account)
on account = name where points != opening + coalesce(moved, 0)
"""


@dataclass(frozen=True, slots=True)
class Paid:
    """The payout stands in the books; `is_replay` when it already did. `due` is the day it is paid on, '' is at once."""

    account: str
    points: int
    is_replay: bool
    due: str = ""


class Refusal(StrEnum):
    TOO_FEW_POINTS = "too-few-points"
    KEY_REUSED = "key-reused"  # the same key for another account or amount: a client's mistake, never a second payout


@dataclass(frozen=True, slots=True)
class Audit:
    """What the books say about themselves."""

    accounts: int
    payouts: int
    points_paid: int
    paid_twice: int
    adds_up: bool


class Ledger:
    """What is written of points and payouts. Every method may be called from any thread."""

    def __init__(self, books: Books, wall_s: Callable[[], float]) -> None:
        self._books = books
        self._wall_s = wall_s

    def points_of(self, account: str) -> int:
        """The account's points; a customer never seen before has some, as the card companies report them."""
        book = self._books.connection()
        _open_account(book, account)
        return int(book.execute("select points from accounts where name = ?", (account,)).fetchone()[0])

    def pay(self, account: str, points: int, key: str, due: str = "") -> Paid | Refusal:
        """Turn points into cash, `due` then. The same key pays once, however often and concurrently it is sent."""
        book = self._books.connection()
        # IMMEDIATE takes the write lock before the key is looked up: two tries of one key can never both miss it.
        book.execute("begin immediate")
        try:
            outcome = self._pay_locked(book, account, points, key, due)
        except BaseException:
            book.execute("rollback")
            raise
        book.execute("commit")
        return outcome

    def audit(self) -> Audit:
        book = self._books.connection()
        book.execute("begin")  # one snapshot for all sums, while payouts go on
        try:
            accounts = book.execute("select count(*) from accounts").fetchone()[0]
            payouts, promised = book.execute("select count(*), coalesce(sum(points), 0) from payouts").fetchone()
            paid = book.execute("select coalesce(sum(points), 0) from entries where account = ?", (CASH,)).fetchone()[0]
            total = book.execute("select coalesce(sum(points), 0) from entries").fetchone()[0]
            unexplained = book.execute(UNEXPLAINED).fetchone()[0]
            twice = book.execute(PAID_TWICE).fetchone()[0]
        finally:
            book.execute("commit")
        return Audit(accounts, payouts, paid, twice, adds_up=total == 0 and unexplained == 0 and paid == promised)

    def _pay_locked(self, book: sqlite3.Connection, account: str, points: int, key: str, due: str) -> Paid | Refusal:
        known = book.execute("select account, points, due from payouts where key = ?", (key,)).fetchone()
        if known is not None:
            is_same = known[:2] == (account, points)
            return Paid(account, points, is_replay=True, due=known[2]) if is_same else Refusal.KEY_REUSED
        _open_account(book, account)
        debit = "update accounts set points = points - ? where name = ? and points >= ?"
        with closing(book.execute(debit, (points, account, points))) as cursor:
            if cursor.rowcount == 0:
                return Refusal.TOO_FEW_POINTS
        book.execute("insert into payouts values (?, ?, ?, ?, ?)", (key, account, points, self._wall_s(), due))
        book.executemany(
            "insert into entries (payout_key, account, points) values (?, ?, ?)",
            [(key, account, -points), (key, CASH, points)],
        )
        return Paid(account, points, is_replay=False, due=due)


def _open_account(book: sqlite3.Connection, account: str) -> None:
    opening = 1_000 + crc32(account.encode()) % 50_000  # the same customer has the same points in every run
    book.execute("insert or ignore into accounts values (?, ?, ?)", (account, opening, opening))
