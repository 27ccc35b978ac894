"""Owns the demo bank's books: accounts, payouts and a double-entry ledger in one SQLite file, shared by all workers."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final
from zlib import crc32

CASH: Final = "cash"  # the other side of every payout, so that the ledger adds up to nothing
BUSY_TIMEOUT_S: Final = 5.0  # SQLite has one writer; eight workers wait for it some milliseconds at most

SCHEMA: Final = """
create table if not exists accounts (name text primary key, opening integer not null,
                                     points integer not null check (points >= 0)) without rowid;
create table if not exists payouts  (key text primary key, account text not null, points integer not null,
                                     paid_at real not null) without rowid;
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
    """The payout stands in the books; `is_replay` when it already did."""

    account: str
    points: int
    is_replay: bool


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
    """The books. Every method may be called from any thread; each thread has a connection of its own."""

    def __init__(self, path: Path, wall_s: Callable[[], float]) -> None:
        self._path = path
        self._wall_s = wall_s
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._connection().executescript(SCHEMA)

    def points_of(self, account: str) -> int:
        """The account's points; a customer never seen before has some, as the card companies report them."""
        book = self._connection()
        _open_account(book, account)
        return int(book.execute("select points from accounts where name = ?", (account,)).fetchone()[0])

    def pay(self, account: str, points: int, key: str) -> Paid | Refusal:
        """Turn points into cash. The same key pays once, however often and however concurrently it is sent."""
        book = self._connection()
        # IMMEDIATE takes the write lock before the key is looked up: two tries of one key can never both miss it.
        book.execute("begin immediate")
        try:
            outcome = self._pay_locked(book, account, points, key)
        except BaseException:
            book.execute("rollback")
            raise
        book.execute("commit")
        return outcome

    def audit(self) -> Audit:
        book = self._connection()
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

    def close(self) -> None:
        """Close every thread's connection; no worker may be running any more."""
        for connection in self._connections:
            connection.close()
        self._connections.clear()

    def _pay_locked(self, book: sqlite3.Connection, account: str, points: int, key: str) -> Paid | Refusal:
        known = book.execute("select account, points from payouts where key = ?", (key,)).fetchone()
        if known is not None:
            return Paid(account, points, is_replay=True) if known == (account, points) else Refusal.KEY_REUSED
        _open_account(book, account)
        debit = "update accounts set points = points - ? where name = ? and points >= ?"
        with closing(book.execute(debit, (points, account, points))) as cursor:
            if cursor.rowcount == 0:
                return Refusal.TOO_FEW_POINTS
        book.execute("insert into payouts values (?, ?, ?, ?)", (key, account, points, self._wall_s()))
        book.executemany(
            "insert into entries (payout_key, account, points) values (?, ?, ?)",
            [(key, account, -points), (key, CASH, points)],
        )
        return Paid(account, points, is_replay=False)

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            # check_same_thread is off for `close` alone, which runs after the workers have ended.
            connection = sqlite3.connect(
                self._path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = normal")
            self._local.connection = connection
            self._connections.append(connection)
        return connection


def _open_account(book: sqlite3.Connection, account: str) -> None:
    opening = 1_000 + crc32(account.encode()) % 50_000  # the same customer has the same points in every run
    book.execute("insert or ignore into accounts values (?, ?, ?)", (account, opening, opening))
