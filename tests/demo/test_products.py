"""What else the demo bank sells: a deposit of limited stock, a cash-back, ordinary payments, and hours for the cash-out."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gateway.demo.entrylog import EntryLog, read_entries
from gateway.demo.hours import SEOUL, Hours, next_business_day
from tests.demo.conftest import StartBank

DEPOSIT, CASHBACK, CASHOUT = "/deposit/apply", "/cashback/claim", "/points/cashout/pay"


async def post(
    session: aiohttp.ClientSession, url: str, account: str, **fields: Any
) -> tuple[int, dict[str, Any], dict[str, str]]:
    headers = {"Cookie": f"bank_account={account}", "Accept": "application/json"}
    async with session.post(url, json=fields, headers=headers) as answer:
        told = {name: value for name, value in answer.headers.items() if name.startswith("Waitroom-")}
        return answer.status, await answer.json(), told


async def stats(session: aiohttp.ClientSession, url: str) -> dict[str, Any]:
    async with session.get(f"{url}/stats") as answer:
        counted: dict[str, Any] = await answer.json()
        return counted


# --- the deposit -------------------------------------------------------------------------------------------------------


async def test_deposit_is_sold_once_to_each_customer_until_none_is_left(
    start_bank: StartBank, session: aiohttp.ClientSession
) -> None:
    """special_deposit: the gateway is told with every answer what is left, and that who has it is done."""
    url = await start_bank(deposits=2)
    answers = [await post(session, url + DEPOSIT, account) for account in ("a", "a", "b", "c", "b")]
    assert [(status, told) for status, _, told in answers] == [
        (200, {"Waitroom-Release": "1", "Waitroom-Remaining": "1"}),
        (200, {"Waitroom-Release": "1", "Waitroom-Remaining": "1"}),
        (200, {"Waitroom-Release": "1", "Waitroom-Remaining": "0"}),
        (409, {"Waitroom-Release": "1", "Waitroom-Remaining": "0"}),
        (200, {"Waitroom-Release": "1", "Waitroom-Remaining": "0"}),  # who has one is told so, also afterwards
    ]
    assert [body.get("replay") for _, body, _ in answers] == [False, True, False, None, True]
    assert (await stats(session, url))["deposits"] == {"stock": 2, "sold": 2, "oversold": 0}


@pytest.mark.parametrize(("deposits", "status", "remaining"), [(3, 200, 3), (0, 409, 0)])
async def test_deposit_page_says_what_is_left(
    start_bank: StartBank, session: aiohttp.ClientSession, deposits: int, status: int, remaining: int
) -> None:
    url = await start_bank(deposits=deposits)
    for accept in ("text/html", "application/json"):
        async with session.get(f"{url}/deposit/", headers={"Accept": accept}) as answer:
            assert answer.status == status
            assert answer.headers["Waitroom-Remaining"] == str(remaining)
            assert answer.headers.get("Waitroom-Release") == ("1" if status == 409 else None)
            assert ("sold out" in await answer.text()) is (status == 409)


async def test_deposit_is_oversold_by_a_crowd_and_the_books_say_so(
    start_bank: StartBank, session: aiohttp.ClientSession
) -> None:
    """The naive half of the story: whoever looked while the last one was there gets it, one for each worker at most."""
    url = await start_bank(deposits=1, workers=4, transaction_s=0.2)
    answers = await asyncio.gather(*(post(session, url + DEPOSIT, f"v{n}") for n in range(10)))
    assert sorted(status for status, _, _ in answers) == [200] * 4 + [409] * 6
    assert (await stats(session, url))["deposits"] == {"stock": 1, "sold": 4, "oversold": 3}


async def test_deposit_is_not_oversold_by_as_many_as_there_are_left(
    start_bank: StartBank, session: aiohttp.ClientSession
) -> None:
    """What the gateway's door makes of it: never more people inside than there are deposits left."""
    url = await start_bank(deposits=8, workers=8, transaction_s=0.1)
    answers = await asyncio.gather(*(post(session, url + DEPOSIT, f"v{n}") for n in range(8)))
    assert [status for status, _, _ in answers] == [200] * 8
    assert (await stats(session, url))["deposits"] == {"stock": 8, "sold": 8, "oversold": 0}


# --- the cash-back and ordinary payments -------------------------------------------------------------------------------


async def test_cashback_is_given_once_to_each_customer(start_bank: StartBank, session: aiohttp.ClientSession) -> None:
    url = await start_bank()
    answers = await asyncio.gather(*(post(session, url + CASHBACK, f"v{n % 3}") for n in range(9)))
    assert {status for status, _, _ in answers} == {200}
    assert all(told == {"Waitroom-Release": "1"} for _, _, told in answers)
    assert sum(not body["replay"] for _, body, _ in answers) == 3
    assert (await stats(session, url))["granted"] == 3


@pytest.mark.parametrize(("won", "status"), [("4500", 200), ("0", 400), ("-1", 400), ("x", 400), ("", 400)])
async def test_payment_is_judged_before_it_is_booked(
    start_bank: StartBank, session: aiohttp.ClientSession, won: str, status: int
) -> None:
    url = await start_bank()
    answered, body, told = await post(session, f"{url}/payments", "shop", won=won)
    assert (answered, told) == (status, {})
    assert body == ({"payment": 1} if status == 200 else {"error": "won must be a whole number from 1 up"})


async def test_ordinary_payments_wait_behind_the_promotion(
    start_bank: StartBank, session: aiohttp.ClientSession
) -> None:
    """card_cashback: what the crowd takes of the workers is missing where people pay."""
    url = await start_bank(workers=2, transaction_s=0.1)
    crowd = [asyncio.create_task(post(session, url + CASHBACK, f"v{n}")) for n in range(20)]
    await asyncio.sleep(0.05)
    assert (await stats(session, url))["queued"] > 14
    began_s = asyncio.get_running_loop().time()
    assert (await post(session, f"{url}/payments", "shop", won="100"))[0] == 200
    assert asyncio.get_running_loop().time() - began_s > 0.6  # seven and more rounds of two workers were before it
    await asyncio.gather(*crowd)


# --- hours -------------------------------------------------------------------------------------------------------------

OPENS = datetime(2021, 1, 5, 11, tzinfo=SEOUL)  # a Tuesday
HOURS = Hours(OPENS, time(20))


@pytest.mark.parametrize(
    ("now", "is_open", "due"),
    [
        (OPENS - timedelta(seconds=1), False, None),
        (OPENS, True, None),
        (datetime(2021, 1, 5, 19, 59, 59, tzinfo=SEOUL), True, None),
        (datetime(2021, 1, 5, 20, tzinfo=SEOUL), True, date(2021, 1, 6)),
        (datetime.fromisoformat("2021-01-05T11:00:00+00:00"), True, date(2021, 1, 6)),  # 20:00 in Seoul
        (datetime(2021, 1, 8, 23, tzinfo=SEOUL), True, date(2021, 1, 11)),  # Friday
        (datetime(2021, 1, 9, 10, tzinfo=SEOUL), True, None),
    ],
)
def test_payouts_after_eight_are_due_on_the_next_business_day(now: datetime, is_open: bool, due: date | None) -> None:
    """point_cashout: "requests are paid at once, those after 20:00 on the next business day"."""
    assert HOURS.is_open(now) is is_open
    assert HOURS.due(now) == due
    assert HOURS.opens_in_s(now) == max(0.0, (OPENS - now).total_seconds())
    assert Hours().is_open(now)
    assert Hours().due(now) is None


async def test_before_the_hour_everything_is_refused_and_costs_no_worker(
    start_bank: StartBank, session: aiohttp.ClientSession
) -> None:
    opens_at = datetime.now(SEOUL) + timedelta(seconds=1.5)
    url = await start_bank(hours=Hours(opens_at), workers=1, transaction_s=0.2)
    for _ in range(20):
        async with session.get(f"{url}/points/cashout/", headers={"Accept": "text/html"}) as answer:
            assert answer.status == 403
            assert 1 <= int(answer.headers["Retry-After"]) <= 2
            assert f"{opens_at:%H:%M:%S}" in await answer.text()
    assert (await post(session, url + CASHOUT, "v", points="1", payout="k"))[0] == 403
    counted = await stats(session, url)
    assert (counted["early"], counted["served"], counted["entries"]) == (21, 0, 0)
    await asyncio.sleep(max(0.0, (opens_at - datetime.now(SEOUL)).total_seconds()))
    assert (await post(session, url + CASHOUT, "v", points="1", payout="k"))[0] == 200


async def test_a_late_payout_is_accepted_and_keeps_its_day(
    start_bank: StartBank, session: aiohttp.ClientSession
) -> None:
    """Sent again, it is the same payout, due on the same day."""
    url = await start_bank(hours=Hours(same_day_until=time(0)))
    day = next_business_day(datetime.now(SEOUL).date())
    for is_replay in (False, True):
        status, body, told = await post(session, url + CASHOUT, "v", points="7", payout="k")
        assert (status, told) == (200, {"Waitroom-Release": "1"})
        assert (body["paid"], body["replay"]) == (7, is_replay)
        assert date.fromisoformat(body["due"]) in {day, day + timedelta(days=1)}  # run over midnight
    assert (await stats(session, url))["ledger"]["adds_up"]


# --- a bank that died --------------------------------------------------------------------------------------------------


def test_entry_log_goes_on_where_a_killed_bank_left_it(tmp_path: Path) -> None:
    """Who came in before the bank died is no new entry after it: promise 1 is judged by this log."""
    path = tmp_path / "entries.jsonl"
    killed = EntryLog(path, b"", lambda: 1.0, lambda: 2.0)
    note_all(killed, ["a", "b"])
    again = EntryLog(path, b"", lambda: 1.0, lambda: 2.0)
    note_all(again, ["b", "c"])
    assert [entry.account for entry in read_entries(path)] == ["a", "b", "c"]
    killed.close()
    again.close()


def note_all(log: EntryLog, accounts: Sequence[str]) -> None:
    for account in accounts:
        log.note({}, account)
