"""The demo bank: it never pays twice, knows who was sent by the gateway, and falls over as honestly as a real one."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.demo.books import Books
from gateway.demo.entrylog import SIGNATURE_AGE_MAX_S, is_signed, read_entries
from gateway.demo.ledger import SCHEMA, Ledger, Paid, Refusal
from tests.demo.conftest import KEY, StartBank

SUBJECT = "0f6a54c4-9a43-4c66-8d0e-0f3d3a6f3c55"
PAY = "/points/cashout/pay"


def signed(subject: str = SUBJECT, *, room: str = "point-cashout", at_s: float | None = None) -> dict[str, str]:
    stamp = int(time.time() if at_s is None else at_s)
    mac = hmac.new(KEY, f"{stamp}.{room}.{subject}".encode(), hashlib.sha256).hexdigest()
    return {"Waitroom-Subject": subject, "Waitroom-Room": room, "Waitroom-Signature": f"t={stamp},v1={mac}"}


async def pay(session: aiohttp.ClientSession, url: str, account: str, points: int, key: str) -> tuple[int, Any]:
    headers = {"Cookie": f"bank_account={account}", "Idempotency-Key": key, "Accept": "application/json"}
    async with session.post(url + PAY, json={"points": points}, headers=headers) as response:
        return response.status, await response.json()


async def stats(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(url + "/stats") as response:
        counted: dict[str, Any] = await response.json()
        return counted


# --- the books ---------------------------------------------------------------------------------------------------------


async def test_concurrent_retries_of_one_key_pay_once(start_bank: StartBank, session: aiohttp.ClientSession) -> None:
    """Promise 4: "every call can be retried safely" goes for the bank's payout, too; the ledger proves it."""
    url = await start_bank()
    tries = [pay(session, url, f"v{n}", 10 + n, f"key-{n}") for n in range(10) for _ in range(8)]
    answers = await asyncio.gather(*tries)
    assert [status for status, _ in answers] == [200] * 80
    assert sum(not body["replay"] for _, body in answers) == 10
    ledger = (await stats(session, url))["ledger"]
    assert ledger == {
        "accounts": 10,
        "payouts": 10,
        "points_paid": sum(range(10, 20)),
        "paid_twice": 0,
        "adds_up": True,
    }


@pytest.mark.parametrize(
    ("account", "points", "key", "expected"),
    [
        ("v1", "50", "k", 200),  # a replay
        ("v1", "51", "k", 422),  # the key stands for another amount
        ("v2", "50", "k", 422),  # or for another customer
        ("v1", "99999999", "other", 409),
        ("v1", "0", "other", 400),
        ("v1", "-5", "other", 400),
        ("v1", "1e3", "other", 400),
        ("v1", "٣", "other", 400),
        ("v1", "50", "", 400),
        ("v1", "50", "x" * 65, 400),
    ],
)
async def test_payout_is_judged_before_it_is_paid(
    start_bank: StartBank, session: aiohttp.ClientSession, account: str, points: str, key: str, expected: int
) -> None:
    """A payout that cannot be meant is refused with a sentence and leaves the books as they were."""
    url = await start_bank()
    await pay(session, url, "v1", 50, "k")
    before = (await stats(session, url))["ledger"]
    headers = {"Cookie": f"bank_account={account}", "Accept": "application/json"}
    async with session.post(url + PAY, data={"payout": key, "points": points}, headers=headers) as response:
        assert response.status == expected
        assert expected == 200 or (await response.json())["error"]
    assert (await stats(session, url))["ledger"] == before


async def test_payout_releases_the_admission_and_refusals_do_not(
    start_bank: StartBank, session: aiohttp.ClientSession
) -> None:
    """`Waitroom-Release: 1` ends the lease of who is done; who was refused may try again."""
    url = await start_bank()
    for points, release in (("7", "1"), ("99999999", None)):
        form = {"payout": f"key-{points}", "points": points}
        headers = {"Cookie": "bank_account=v1", "Accept": "text/html"}
        async with session.post(url + PAY, data=form, headers=headers) as response:
            assert response.headers.get("Waitroom-Release") == release
            assert "<h1>" in await response.text()


def test_books_show_a_double_payment_if_there_was_one(tmp_path: Path) -> None:
    """ "Paid twice: 0" is a finding: the audit counts a second debit of one key, and sees that nothing adds up."""
    books = Books(tmp_path / "books", SCHEMA)
    ledger = Ledger(books, lambda: 0.0)
    assert ledger.pay("v1", 5, "k") == Paid("v1", 5, is_replay=False)
    assert ledger.pay("v1", 5, "k") == Paid("v1", 5, is_replay=True)
    assert ledger.pay("v1", 10**9, "k2") is Refusal.TOO_FEW_POINTS
    assert ledger.audit().adds_up
    book = books.connection()
    book.execute("insert into entries (payout_key, account, points) values ('k', 'v1', -5), ('k', 'cash', 5)")
    audit = ledger.audit()
    books.close()
    assert (audit.paid_twice, audit.adds_up) == (1, False)


# --- who came in -------------------------------------------------------------------------------------------------------


def test_signature_vector() -> None:
    """The signature of section 8, as one fixed example that other checkers can be held to."""
    headers = {
        "Waitroom-Subject": SUBJECT,
        "Waitroom-Room": "point-cashout",
        "Waitroom-Signature": "t=1795312800,v1=b1bb26a419d90a39b3823b7280f6604ac47f292891a7cf940bb5450d13d78571",
    }
    assert is_signed(KEY, headers, 1795312800 + SIGNATURE_AGE_MAX_S)
    assert not is_signed(KEY, headers, 1795312800 + SIGNATURE_AGE_MAX_S + 1)
    assert not is_signed(KEY, headers, 1795312800 - SIGNATURE_AGE_MAX_S - 1)
    assert not is_signed(bytes(32), headers, 1795312800)
    assert not is_signed(b"", headers, 1795312800)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda headers: headers | {"Waitroom-Subject": SUBJECT.replace("0", "1")},
        lambda headers: headers | {"Waitroom-Room": "special-deposit"},
        lambda headers: headers | {"Waitroom-Signature": headers["Waitroom-Signature"][:-1]},
        lambda headers: headers | {"Waitroom-Signature": "t=,v1="},
        lambda headers: headers | {"Waitroom-Signature": "t=\u0663,v1=\xe9"},
        lambda headers: headers | {"Waitroom-Signature": "nonsense"},
        lambda headers: {name: value for name, value in headers.items() if name != "Waitroom-Signature"},
    ],
)
def test_spoiled_signature_vouches_for_nobody(spoil: Callable[[dict[str, str]], dict[str, str]]) -> None:
    """Promise 9: what reaches a protected page without the gateway's word is seen, however it is dressed up."""
    assert not is_signed(KEY, spoil(signed()), time.time())


async def test_entries_are_first_signed_requests_and_the_rest_is_unsigned(
    start_bank: StartBank, session: aiohttp.ClientSession, tmp_path: Path
) -> None:
    """Promises 1 and 9 are judged by this log: one line a visitor, with the time of its first protected request."""
    url = await start_bank()
    others = "5d1d3b3c-0e0d-4a2e-9b43-3a1f7f0e6a10"
    stale = signed(others, at_s=time.time() - 2 * SIGNATURE_AGE_MAX_S)
    began_s = time.monotonic()
    for headers in (signed(), signed(), signed(others), stale):
        async with session.get(f"{url}/points/cashout/", headers={"Cookie": "bank_account=v1", **headers}) as response:
            assert response.status == 200
    for path in ("/", "/balance", "/points/cashout/static/bank.css"):  # nobody has to vouch for these
        async with session.get(url + path) as response:
            assert response.status == 200
    entries = read_entries(tmp_path / "entries.jsonl")
    assert [(entry.subject, entry.account) for entry in entries] == [(SUBJECT, "v1"), (others, "v1"), ("", "v1")]
    assert began_s <= entries[0].monotonic_s <= entries[1].monotonic_s <= time.monotonic()
    counted = await stats(session, url)
    assert (counted["entries"], counted["unsigned"]) == (3, 1)


# --- falling over ------------------------------------------------------------------------------------------------------

CAPACITY_PER_S = 200  # 4 workers at 20 ms


@dataclass
class Load:
    """Clients that never stop asking: what they got, second by second, and what they gave up on."""

    began_s: float = field(default_factory=time.monotonic)
    served: Counter[int] = field(default_factory=Counter)
    failed: int = 0

    async def client(self, session: aiohttp.ClientSession, url: str, until_s: float) -> None:
        timeout = aiohttp.ClientTimeout(total=0.5)
        while time.monotonic() < until_s:
            try:
                async with session.get(f"{url}/balance", timeout=timeout) as response:
                    status = response.status
            except (TimeoutError, aiohttp.ClientError):
                status = 0
            if status == 200:
                self.served[int(time.monotonic() - self.began_s)] += 1
            else:
                self.failed += 1
                await asyncio.sleep(0.2)


async def test_bank_serves_all_of_a_crowd_it_can_take(start_bank: StartBank, session: aiohttp.ClientSession) -> None:
    """Below its capacity nobody fails: what happens above it is the crowd's doing, not a staged fault."""
    url = await start_bank(workers=4, transaction_s=0.02, queue_max=400)
    load = Load()
    await asyncio.gather(*(load.client(session, url, load.began_s + 1.5) for _ in range(20)))
    assert load.failed == 0
    assert load.served[0] > 0.5 * CAPACITY_PER_S


async def test_bank_falls_over_under_direct_load(start_bank: StartBank, session: aiohttp.ClientSession) -> None:
    """point_cashout: above its capacity the bank works at full speed for people who have gone, and serves nobody."""
    url = await start_bank(workers=4, transaction_s=0.02, queue_max=400)
    load = Load()
    clients = [load.client(session, url, load.began_s + 4.0) for _ in range(600)]
    before: dict[str, Any] = {}

    async def look() -> None:
        await asyncio.sleep(2.0)  # the queue has outgrown everybody's patience by now
        before.update(await stats(session, url))

    await asyncio.gather(look(), *clients)
    after = await stats(session, url)
    worked_for_nobody = after["abandoned"] - before["abandoned"]
    assert worked_for_nobody > 0.5 * CAPACITY_PER_S * 2
    assert load.served[2] + load.served[3] < 0.1 * CAPACITY_PER_S * 2
    assert after["refused"] > 0
    assert load.failed > 5 * sum(load.served.values())


async def test_page_is_for_browsers_and_data_for_apps(start_bank: StartBank, session: aiohttp.ClientSession) -> None:
    """The same route is a form to a person and a document to an app; a stranger becomes a guest with a cookie."""
    url = await start_bank()
    async with session.get(f"{url}/points/cashout/", headers={"Accept": "text/html"}) as response:
        assert 'name="payout"' in await response.text()
        assert "bank_account=guest-" in response.headers["Set-Cookie"]
    headers = {"Accept": "application/json", "Cookie": "bank_account=v1"}
    async with session.get(f"{url}/points/cashout/", headers=headers) as response:
        assert json.loads(await response.text())["account"] == "v1"
        assert "Set-Cookie" not in response.headers
