"""Owns what people see: the waiting page, the small pages for browsers without script, and the operator console.

A gateway renders the waiting page once for each room and sends the same bytes to everybody; only `place_page` is made
for one visitor. Whatever is put into a page is escaped here, room ids and entries too: they come from configuration.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Final
from urllib.parse import quote, urlencode

__all__ = ["Page", "busy_page", "closed_page", "console", "full_page", "place_page", "sold_out_page", "waiting_page"]

# A path on this host and nothing else: "//host" and "/\host" lead away, and URL parsers drop control characters.
SAFE_PATH: Final = re.compile(r"/(?![/\\])[^\x00-\x1f\x7f]*")
RETURN_TO_BYTES_MAX: Final = 1024
# A page that refreshes faster than this cannot be read; with a button to press it must hold still for longer.
REFRESH_MIN_S: Final = 2
REFRESH_CALLED_S: Final = 20


@dataclass(frozen=True, slots=True)
class Page:
    """One HTML document. `headers` are those its content needs; status, caching and Retry-After are the caller's."""

    body: bytes
    headers: dict[str, str]


def waiting_page(room_id: str, entry: str, posted: bool = False, *, board_poll_s: int | None = None) -> Page:
    """The page shown in place of a protected URL and at `/_waitroom/{room}/`: the same for everybody, so cacheable.

    `posted` says that the navigation's form was not sent on; with `board_poll_s` far-off pages also read the board.
    """
    options = " data-posted" if posted else ""
    if board_poll_s:
        options += f' data-board-poll-ms="{board_poll_s * 1000}"'
    plain = _headline("plain.welcome", "plain.welcome_lead") + _form(room_id, "ticket", "plain.join", None)
    slots = {
        "room": html.escape(room_id),
        "entry": html.escape(entry),
        "options": options,
        "posted": f'<div class="note posted">{_both("plain.posted")}</div>' if posted else "",
        "plain": plain,
        "style": _asset("page.css"),
        "script": _script(),
    }
    return _page(_fill(_asset("page.html"), slots), script=slots["script"], style=slots["style"])


def place_page(room_id: str, status: Mapping[str, object], entry: str, *, return_to: str | None = None) -> Page:
    """A visitor's own place without script, for a *status* as in the contract: refreshes itself, with forms to act.

    `return_to` travels in the query of every link and form; it falls back to `entry`, as does one that is not a path
    of this host.
    """
    back = _safe_path(return_to)
    view = _view(status)
    body = [_headline(view, _lead(view, status)), _message(status)]
    match view:
        case "admitted":
            target = back or _safe_path(entry) or "/"
            body.append(
                f'<p class="actions"><a class="button main" href="{html.escape(target)}">{_both("enter")}</a></p>'
            )
            return _plain(view, body, refresh=f"0; url={_header_url(target)}")
        case "ended":
            body.append(_form(room_id, "ticket", "again", back))
        case "sold_out" | "closed":
            body.append(f"<p>{_both('over_next')}</p>")
        case "called" | "parked":
            body += [_form(room_id, "admission", "enter", back), _leaving(room_id, back)]
        case "held":
            body += [f'<div class="next"><p>{_both("plain.held_next")}</p></div>', _leaving(room_id, back)]
        case _:
            following = f'<div class="next"><p>{_both("plain.refresh_next")}</p></div>'
            body += [_place(status), following, _leaving(room_id, back)]
    wait_ms = _number(status.get("poll_after_ms"))
    if view == "ended" or wait_ms is None:
        return _plain(view, body)
    wait_s = max(REFRESH_CALLED_S if view in {"called", "parked"} else REFRESH_MIN_S, math.ceil(wait_ms / 1000))
    return _plain(view, body, refresh=f"{wait_s}; url={_url(room_id, 'status', back)}")


def full_page(room_id: str, *, return_to: str | None = None) -> Page:
    """For a join without script that the full line refused (503): honest, with a button to try again."""
    body = [_headline("full", "full_newcomer"), f"<p>{_both('plain.full_next')}</p>"]
    return _plain("full", [*body, _form(room_id, "ticket", "retry", _safe_path(return_to))])


def sold_out_page(room_id: str) -> Page:
    """For a join without script into a room with nothing left (409)."""
    return _over_page(room_id, "sold_out")


def closed_page(room_id: str) -> Page:
    """For a join without script into a closed room (409)."""
    return _over_page(room_id, "closed")


def busy_page(room_id: str | None = None, *, return_to: str | None = None) -> Page:
    """For a request that was shed (503): nothing was carried out, and a link to try again.

    Without a room the link asks for the same address once more; for a form of ours name the room, since its address
    takes no GET.
    """
    again = "" if room_id is None else html.escape(_url(room_id, "", _safe_path(return_to)))
    retry = f'<p class="actions"><a class="button main" href="{again}">{_both("retry")}</a></p>'
    return _plain("plain.busy", [_headline("plain.busy", "plain.busy_lead"), retry])


def console() -> Page:
    """The operator console: one document that talks to `/api/rooms` with the token its user types."""
    slots = {"style": _asset("console.css"), "script": _asset("console.js")}
    return _page(_fill(_asset("console.html"), slots), script=slots["script"], style=slots["style"])


# --- documents ------------------------------------------------------------------------------------------------------


def _over_page(room_id: str, view: str) -> Page:
    body = [_headline(view, f"{view}_lead"), f"<p>{_both('over_next')}</p>", _form(room_id, "ticket", "retry", None)]
    return _plain(view, body)


def _plain(view: str, body: list[str], refresh: str | None = None) -> Page:
    style = _asset("page.css")
    title = " · ".join(html.escape(_texts(view)[language]) for language in ("ko", "en"))
    page = _page(_fill(_asset("plain.html"), {"title": title, "style": style, "body": "\n".join(body)}), style=style)
    if refresh is not None:
        page.headers["Refresh"] = refresh
    return page


def _page(document: str, *, style: str, script: str = "") -> Page:
    scripts = f"script-src '{_digest(script)}'; connect-src 'self'; " if script else ""
    policy = (
        f"default-src 'none'; {scripts}style-src '{_digest(style)}'; img-src data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    headers = {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "Referrer-Policy": "same-origin",  # "no-referrer" would make forms send `Origin: null`
        "X-Content-Type-Options": "nosniff",
    }
    return Page(document.encode(), headers)


def _digest(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _fill(template: str, slots: Mapping[str, str]) -> str:
    """Fill every `{{slot}}` in one pass, so that nothing filled in is looked at again."""
    return re.sub(r"\{\{(\w+)\}\}", lambda found: slots[found[1]], template)


@cache
def _asset(name: str) -> str:
    """A file as it is sent; the indentation of documents and the comments and blanks of styles stay in the files."""
    text = files(__name__).joinpath(name).read_text(encoding="utf-8")
    if name.endswith(".html"):
        return re.sub(r"\n\s+", "\n", text)
    if name.endswith(".css"):
        return (
            re.sub(r"\s*([{};,])\s*", r"\1", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)).replace(";}", "}").strip()
        )
    return text


@cache
def _script() -> str:
    """Both scripts as one module with the texts inside; their comments and indentation stay in the files."""
    texts = {name: text for name, text in json.loads(_asset("texts.json")).items() if name != "plain"}
    inlined = json.dumps(texts, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    lines = (re.sub(r"(^|\s)// .*", "", line).strip() for line in (_asset("view.js") + _asset("page.js")).splitlines())
    return "\n".join(line for line in lines if line not in {"", "//"}).replace("{{texts}}", inlined)


# --- pieces ---------------------------------------------------------------------------------------------------------


@cache
def _texts(name: str) -> Mapping[str, str]:
    """A text in both languages, by its path in `texts.json`."""
    node = json.loads(_asset("texts.json"))
    for step in name.split("."):
        node = node[step]
    return node  # type: ignore[no-any-return]


def _both(name: str) -> str:
    return _spans(_texts(name))


def _spans(texts: Mapping[str, str]) -> str:
    """Korean and English, one after the other: without script a page cannot know which of them is wanted."""
    return "".join(f'<span class="t" lang="{lang}">{html.escape(text)}</span>' for lang, text in texts.items())


def _headline(title: str, lead: str) -> str:
    return f'<h1>{_both(title)}</h1>\n<p class="lead">{_both(lead)}</p>'


def _form(room_id: str, action: str, label: str, return_to: str | None, look: str = "main") -> str:
    url = html.escape(_url(room_id, action, return_to))
    return f'<form method="post" action="{url}"><button class="{look}">{_both(label)}</button></form>'


def _leaving(room_id: str, return_to: str | None) -> str:
    form = _form(room_id, "leave", "leave_yes", return_to, look="grave")
    return f"<details><summary>{_both('leave')}</summary><p>{_both('leave_ask')}</p>{form}</details>"


def _message(status: Mapping[str, object]) -> str:
    """The operators' words, in every language they were given in."""
    message = status.get("message")
    texts = message.get("texts") if isinstance(message, Mapping) else None
    if not isinstance(texts, Mapping):
        return ""
    shown = [
        f'<p class="note told" lang="{html.escape(str(language))}">{html.escape(str(text))}</p>'
        for language, text in texts.items()
        if text
    ]
    return "\n".join(shown)


def _place(status: Mapping[str, object]) -> str:
    """Position, progress and figures, as far as the status knows them; nothing where there is no position yet."""
    if not _number(status.get("position")):
        return ""
    rows = [
        ("ahead", _figure(status.get("ahead"))),
        ("number", _figure(status.get("number") or None)),
        ("updated", _clock(status.get("as_of"))),
    ]
    if status.get("eta") or _view(status) == "waiting":
        rows.insert(1, ("eta", _eta(status.get("eta"))))
    figures = "".join(f"<div><dt>{_both(name)}</dt><dd>{value}</dd></div>" for name, value in rows)
    stale = f'<p class="note">{_both("stale")}</p>' if status.get("stale") else ""
    position = _figure(status.get("position"))
    return (
        f'{stale}<p class="position"><span>{_both("position")}</span><strong>{position}</strong></p>'
        f"{_bar(_number(status.get('progress')))}<dl>{figures}</dl>"
    )


def _bar(progress: float | None) -> str:
    """None where nobody knows how much lies behind: an empty bar would say that all begins anew."""
    if progress is None:
        return ""
    label = html.escape(" · ".join(_texts("progress").values()))
    return f'<progress max="1" value="{min(1.0, max(0.0, progress)):.3f}" aria-label="{label}"></progress>'


def _clock(stamp: object) -> str:
    """The time of day of an RFC 3339 stamp in UTC: without script nobody knows where the visitor is."""
    found = re.fullmatch(r"[0-9-]{10}T([0-9]{2}:[0-9]{2}:[0-9]{2})[0-9.]*Z", str(stamp))
    return f"{found[1]} UTC" if found else "–"


# --- decisions ------------------------------------------------------------------------------------------------------


def _view(status: Mapping[str, object]) -> str:
    """What a status shows: the state of the room outweighs that of one who waits, the end of it even a turn.

    A turn that nobody can take just now is `held`: it is no turn yet.

    The same rule as `viewOf` in `view.js`, and `admitted` besides.
    """
    state, room_state = status.get("state"), status.get("room_state")
    is_shut = room_state in {"paused", "scheduled", "recovering", "unreachable"}
    if state == "admitted":
        return "admitted"
    if room_state in {"sold_out", "closed"} or (state == "waiting" and (is_shut or room_state == "full")):
        return str(room_state)
    if is_shut and state in {"called", "parked"}:
        return "held"
    return str(state) if state in {"called", "parked", "ended"} else "waiting"


def _lead(view: str, status: Mapping[str, object]) -> str:
    if view in {"called", "parked", "held"}:
        return "plain.held_lead" if view == "held" else "plain.called_lead"
    is_over = view in {"sold_out", "closed", "ended", "admitted"}
    return "provisional_lead" if status.get("provisional") and not is_over else f"{view}_lead"


def _eta(eta: object) -> str:
    """Expected time in words, both languages; the same steps as `etaWords` in `view.js`."""
    p50_s = _number(eta.get("p50_s")) if isinstance(eta, Mapping) else None
    p90_s = _number(eta.get("p90_s")) if isinstance(eta, Mapping) else None
    if p50_s is None or p90_s is None:
        return _both("eta_unknown")
    low = _rounded_minutes(p50_s)
    high = max(low, _rounded_minutes(p90_s))
    if low > 720:
        return _both("eta_long")
    if high == 1:
        return _both("eta_soon")
    if low < high < 60:
        return _spans({lang: text.format(low=low, high=high) for lang, text in _texts("eta_minutes").items()})
    name = "eta_one" if low == high else "eta_range"
    texts = _texts(name).items()
    return _spans({lang: text.format(low=_duration(low, lang), high=_duration(high, lang)) for lang, text in texts})


def _rounded_minutes(seconds: float) -> int:
    """People read a wait in steps: single minutes up to ten, then fives, then tens; always rounded up."""
    minutes = max(1, math.ceil(seconds / 60))
    unit = 1 if minutes <= 10 else 5 if minutes <= 60 else 10
    return math.ceil(minutes / unit) * unit


def _duration(minutes: int, language: str) -> str:
    hours, rest = divmod(minutes, 60)
    parts = []
    if hours:
        parts.append(_texts("hours")[language].format(h=hours))
    if rest:
        parts.append(_texts("minutes")[language].format(m=rest))
    return "\N{NO-BREAK SPACE}".join(parts)  # a duration stays on one line


def _number(value: object) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None  # type: ignore[arg-type]


def _figure(value: object) -> str:
    number = _number(value)
    return "–" if number is None else f"{number:,.0f}"


# --- addresses ------------------------------------------------------------------------------------------------------


def _url(room_id: str, what: str, return_to: str | None) -> str:
    query = f"?{urlencode({'return_to': return_to})}" if return_to else ""
    return f"/_waitroom/{quote(room_id, safe='')}/{what}{query}"


def _safe_path(path: str | None) -> str | None:
    """`path` if it is one of this host, within bounds, and not one of our own pages (they would lead in circles)."""
    if path is None or not SAFE_PATH.fullmatch(path) or len(path.encode()) > RETURN_TO_BYTES_MAX:
        return None
    return None if path.lower().startswith("/_waitroom/") or path.lower() == "/_waitroom" else path


def _header_url(path: str) -> str:
    """A path as a header may carry it: ASCII, without the quotes and blanks that would end it in `Refresh`."""
    return quote(path, safe="/?&=%:@!$()*+,;-._~#[]")
