"""What becomes of a request to a protected route, decided without I/O; the gate does what is decided here.

Theory of operation
    `admit` looks for a valid admission: its bearer is forwarded, whatever Redis does and whatever state the room is in. Who
    brought none goes through `triage`: a visitor of an idle room may try to enter at once; everyone else is held. Only the
    attempt to enter asks the queue, and `settle` turns its answer into the outcome. A protected request never joins: only a
    page that was run, or a form that was sent, takes a number, so a flood of first arrivals costs a page each and no Redis.
    Who may pass is decided in `admit` alone (promise 9): nothing else builds a `Forward`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from gateway.model import Code, RoomState, Standing, Ticket
from gateway.rules.verified import Verified

POLL_S: Final = (1.0, 30.0)  # never more often than once a second, never so seldom that one seems to have gone
POLL_SHARE: Final = (
    5  # of the expected time: E/10 costs twice as much for the same notice, E/3 breaks when the rate rises
)
POLL_JITTER: Final = 0.3
CALLED_POLL_S: Final = 5.0  # of one who is called and does not claim
HALF_LIFE: Final = 2
FETCH_METADATA: Final = ("Sec-Fetch-Mode", "Sec-Fetch-Site", "Sec-Fetch-Dest")  # browsers send all or none


def shows_page(headers: Mapping[str, str]) -> bool:
    """Whether a person's browser will show what is answered: the navigation rule, but for the method."""
    if "X-Requested-With" in headers or "Range" in headers or "Upgrade" in headers:
        return False
    if any(name in headers for name in FETCH_METADATA):
        return headers.get("Sec-Fetch-Mode", "") == "navigate"
    return "text/html" in headers.get("Accept", "").lower()


def keeps_tokens(headers: Mapping[str, str]) -> bool:
    """Whether the client is an app that keeps its tokens itself, and wants them in headers and bodies."""
    return headers.get("Waitroom-Transport", "") == "header"


@dataclass(frozen=True, slots=True)
class Asked:
    """What kind of request this is."""

    method: str
    is_navigation: bool  # a person's browser that shows a page: GET or HEAD
    is_sent_form: bool  # a navigation by POST
    is_app: bool  # wants its tokens in headers and bodies
    may_enter_at_once: bool

    @classmethod
    def of(cls, method: str, headers: Mapping[str, str]) -> Asked:
        is_page = shows_page(headers)
        is_app = keeps_tokens(headers)
        purpose = (headers.get("Sec-Purpose", "") + headers.get("Purpose", "")).lower()
        is_navigation = is_page and method in {"GET", "HEAD"}
        return cls(
            method=method,
            is_navigation=is_navigation,
            is_sent_form=is_page and method == "POST",
            is_app=is_app,
            may_enter_at_once=(is_navigation or is_app)
            and method not in {"HEAD", "OPTIONS"}
            and "Range" not in headers
            and "prefetch" not in purpose,
        )


@dataclass(frozen=True, slots=True)
class Credential:
    """The verified tokens a request brought; None where there was none, or none that counts."""

    admission: Verified | None = None
    ticket: Ticket | None = None
    has_foreign_ticket: bool = False  # one that may be ours but cannot be verified now: never overwrite it
    from_cookie: bool = False  # it brought a cookie of ours: tokens never go into a body


class Renewal(Enum):
    """What an admitted request sets off for its lease."""

    NONE = "none"
    TOUCH = "touch"  # queue a touch: past half-life, or the first return of an instant entry
    REISSUE = "reissue"  # the touch was confirmed: send a fresh admission along


@dataclass(frozen=True, slots=True)
class Forward:
    admission: Verified
    renewal: Renewal


@dataclass(frozen=True, slots=True)
class TryEntry:
    ticket: Ticket | None


@dataclass(frozen=True, slots=True)
class Hold:
    state: RoomState


@dataclass(frozen=True, slots=True)
class Admit:
    """Entered at once: mint an admission and forward in the same request."""

    standing: Standing


def admit(credential: Credential, *, is_void: bool, now_s: float, session_s: int, is_reachable: bool) -> Forward | None:
    """`is_void`: the admission was released, or its epoch is over."""
    admission = credential.admission
    if admission is None or is_void:
        return None
    return Forward(admission, renewal(admission, now_s, session_s, is_reachable=is_reachable))


def triage(asked: Asked, credential: Credential, *, room_state: RoomState, network_has_credit: bool) -> TryEntry | Hold:
    """Of one who may not pass. `network_has_credit`: few unconfirmed entries came from there."""
    if (
        room_state is RoomState.IDLE
        and asked.may_enter_at_once
        and network_has_credit
        and not credential.has_foreign_ticket
    ):
        ticket = credential.ticket
        if ticket is None or not ticket.is_provisional:
            return TryEntry(ticket)
    return Hold(room_state)


def renewal(admission: Verified, now_s: float, session_s: int, *, is_reachable: bool) -> Renewal:
    """Half of the session used: the lease wants a touch; the touch confirmed: a fresh admission.

    Without Redis the fresh one is given unconfirmed: an outage never ends an admission (promise 7).
    """
    token = admission.token
    if token.is_instant and not admission.confirmed and admission.touched_at is None:
        return Renewal.TOUCH
    if token.expires_at_s - now_s > session_s / HALF_LIFE:
        return Renewal.NONE
    if admission.touched_at is None or (token.is_instant and not admission.confirmed):
        return Renewal.TOUCH
    return Renewal.REISSUE if admission.confirmed or not is_reachable else Renewal.NONE


def settle(standing: Standing | None, room_state: RoomState) -> Admit | Hold:
    """What an attempt to enter came to; no standing means that Redis could not be asked."""
    if standing is None:
        return Hold(RoomState.UNREACHABLE)
    match standing.code:
        case Code.ADMITTED:
            return Admit(standing)
        case Code.BUSY | Code.ENDED | Code.HELD | Code.WAITING | Code.LOST | Code.AHEAD | Code.WITHDRAWN:
            return Hold(RoomState.QUEUEING if room_state is RoomState.IDLE else room_state)
        case Code.NEW | Code.KNOWN | Code.CALLED | Code.RECOVERING | Code.FULL | Code.CLOSED | Code.SOLD_OUT:
            return Hold(room_state)
        case _:
            assert_never(standing.code)


def admission_until_s(entered_at_s: int, now_s: int, session_s: int, session_max_s: int) -> int:
    """When an admission issued now expires: one session on, and never after `session_max` from the entry."""
    return max(now_s + 1, min(now_s + session_s, entered_at_s + session_max_s))


def poll_after_ms(expected_s: float, chance: float) -> int:
    """When a visitor asks again; `chance` is a random number in [0, 1) that spreads the crowd."""
    low_s, high_s = POLL_S
    wait_s = expected_s / POLL_SHARE
    if wait_s < low_s:  # for each poll: min, max and round take 0.8 us
        wait_s = low_s
    elif wait_s > high_s:
        wait_s = high_s
    return int(wait_s * (1000 + 1000 * POLL_JITTER * chance) + 0.5)


def origin_fault(headers: Mapping[str, str], own_origin: str, origins: tuple[str, ...]) -> str | None:
    """Why a state-changing request is refused as cross-site, or None (`design.md` section 8, CSRF).

    Sec-Fetch-Site decides when sent; else Origin; `null` is refused; neither means it is no browser.
    """
    site, origin = headers.get("Sec-Fetch-Site", ""), headers.get("Origin", "")
    if site:
        if site == "same-origin" or origin in origins:
            return None
        return f"this request came from another site (Sec-Fetch-Site: {site[:20]})"
    if not origin or origin == own_origin or origin in origins:
        return None
    return "this request came from another origin"


def is_unsafe(char: str) -> bool:
    """A control character, or a byte that was no UTF-8 (which stands as a lone surrogate)."""
    return char < " " or char == "\x7f" or "\ud800" <= char <= "\udfff"


def return_path(text: str | None) -> str | None:
    """A path and query to go back to, if it is safe to redirect to: ours, short, and without control characters."""
    if not text or len(text.encode(errors="replace")) > 1024 or not text.startswith("/"):
        return None
    if text[1:2] in {"/", "\\"} or any(is_unsafe(char) for char in text):
        return None
    return text
