"""Owns the demo bank's pages: small HTML in Korean and English, nothing external."""

from __future__ import annotations

from html import escape
from string import Template
from typing import Final

STYLE: Final = """
body { font: 1.1rem/1.6 system-ui, sans-serif; max-width: 34rem; margin: 3rem auto; padding: 0 1rem; color: #16202c }
h1 { font-size: 1.5rem } strong { font-size: 1.4rem } small { color: #566 }
input, button { font: inherit; padding: .5rem .8rem } button { background: #0b5; color: #fff; border: 0 }
"""
SHELL: Final = Template("""<!doctype html>
<html lang="ko"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><link rel="stylesheet" href="/points/cashout/static/bank.css"></head>
<body><h1>$title</h1>$body</body></html>
""")


def home_page() -> str:
    return _page(
        "데모 은행 · Demo bank",
        '<p><a href="/points/cashout/">포인트 현금화 · <span lang="en">Turn points into cash</span></a> '
        "<small>(protected: the crowd is here)</small></p>"
        '<p><a href="/deposit/">특판 예금 · <span lang="en">Special deposit</span></a> '
        "<small>(limited)</small></p>"
        '<p><a href="/cashback/">캐시백 · <span lang="en">Cash-back</span></a></p>'
        '<p><a href="/balance">잔액 조회 · <span lang="en">Balance</span></a> '
        "<small>(not protected, the same core banking system)</small></p>",
    )


def cashout_page(account: str, points: int, payout_key: str) -> str:
    """The form carries the payout's key, so that a second click, a retry or a resubmission pays nothing twice."""
    return _page(
        "포인트 현금화 · Points to cash",
        f"<p>{escape(account)}: <strong>{points:,}</strong> points (1 point = 1 won)</p>"
        '<form method="post" action="/points/cashout/pay">'
        f'<input type="hidden" name="payout" value="{escape(payout_key, quote=True)}">'
        f'<label>points <input name="points" inputmode="numeric" value="{points}"></label> '
        '<button>현금으로 받기 · <span lang="en">Pay out</span></button></form>',
    )


def deposit_page(remaining: int) -> str:
    left = f'<p>남은 수량 <span lang="en">left</span>: <strong>{remaining:,}</strong></p>'
    form = (
        '<form method="post" action="/deposit/apply"><button>가입 신청 · <span lang="en">Apply</span></button></form>'
    )
    return _page("특판 예금 연 5% · Special deposit, 5 %", left + form)


def cashback_page(won: int) -> str:
    return _page(
        "캐시백 · Cash-back",
        f"<p><strong>{won:,} won</strong></p>"
        '<form method="post" action="/cashback/claim"><button>받기 · <span lang="en">Claim</span></button></form>',
    )


def granted_page(is_replay: bool) -> str:
    again = "<p><small>이미 처리되었습니다 · you have it already</small></p>" if is_replay else ""
    return _page("완료 · Done", f'{again}<p><a href="/">처음으로 · home</a></p>')


def receipt_page(points: int, is_replay: bool, due: str = "") -> str:
    """`due` is the day on which it is paid, '' is at once."""
    later = f"<p>{escape(due)} 지급 예정 · will be paid then</p>" if due else ""
    again = "<p><small>이미 지급되었습니다 · already paid, nothing was paid twice</small></p>" if is_replay else ""
    return _page(
        "지급 완료 · Paid",
        f'<p><strong>{points:,} won</strong></p>{later}{again}<p><a href="/">처음으로 · home</a></p>',
    )


def sentence_page(title: str, sentence: str) -> str:
    return _page(title, f'<p>{escape(sentence)}</p><p><a href="/">처음으로 · home</a></p>')


def _page(title: str, body: str) -> str:
    return SHELL.substitute(title=title, body=body)
