"""What all faces of one room share: its queue, its tokens and their cookies, and who has just come in."""

from __future__ import annotations

import secrets
from array import array
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

from aiohttp import web

import waitroom_ui
from gateway.metrics import Shed
from gateway.model import Admission, Code, Room, RoomState, Standing, Ticket
from gateway.queue.room import RoomQueue
from gateway.queue.store import UNCONFIRMED_US
from gateway.rules import policy
from gateway.rules.headers import cookie_values
from gateway.rules.policy import Credential
from gateway.rules.tokens import Keyring, Refusal, cookie_name
from gateway.rules.verified import Verified, VerifiedCache

NETWORK_UNCONFIRMED_MAX: Final = 20  # instant entries a network may have that never came back
NETWORKS_MAX: Final = 10_000
SHOWN_ROWS: Final = 2**18  # positions: 4 MiB a room
RATIOS_MAX: Final = 2_000
RATIOS_S: Final = 180.0
P90_PRIOR: Final = 1.5  # until enough people have entered: what leavers and no-shows make of an estimate


class Events(Protocol):
    """What the faces tell the metrics; the caller's own list."""

    def joined(self, room: str, result: str) -> None: ...

    def left(self, room: str) -> None: ...

    def reset(self, room: str, ended: int) -> None: ...

    def waited(self, room: str, waited_s: float, expected_s: float | None) -> None: ...

    def shed(self, kind: Shed) -> None: ...


@dataclass(slots=True)
class Networks:
    """Counts instant entries whose admission has not come back, by network, so that a script cannot take every slot.

    An entry counts as long as its slot: until it is confirmed, or lapses. Else one monitor would shut out its network.
    """

    _lapses_s: OrderedDict[str, deque[float]] = field(default_factory=OrderedDict)  # oldest entry first

    def has_credit(self, network: str, now_s: float) -> bool:
        lapses_s = self._lapses_s.get(network)
        while lapses_s and lapses_s[0] <= now_s:
            lapses_s.popleft()
        return lapses_s is None or len(lapses_s) < NETWORK_UNCONFIRMED_MAX

    def entered(self, network: str, now_s: float) -> None:
        lapses_s = self._lapses_s.pop(network, None) or deque(maxlen=NETWORK_UNCONFIRMED_MAX)
        lapses_s.append(now_s + UNCONFIRMED_US / 1e6)
        self._lapses_s[network] = lapses_s
        if len(self._lapses_s) > NETWORKS_MAX:
            self._lapses_s.popitem(last=False)

    def confirmed(self, network: str) -> None:
        lapses_s = self._lapses_s.get(network)
        if lapses_s:
            lapses_s.popleft()
        if not lapses_s:
            self._lapses_s.pop(network, None)


class Waits:
    """How real waits compared with what was promised, among those who entered in the last three minutes."""

    def __init__(self) -> None:
        self._ratios: deque[tuple[float, float]] = deque(maxlen=RATIOS_MAX)
        self._p90 = P90_PRIOR
        self._counted_at_s = 0.0

    def add(self, now_s: float, ratio: float) -> None:
        self._ratios.append((now_s, ratio))

    def p90(self, now_s: float) -> float:
        """The ratio that nine of ten stayed below; counted anew once a second."""
        if now_s - self._counted_at_s >= 1.0:
            self._counted_at_s = now_s
            while self._ratios and self._ratios[0][0] < now_s - RATIOS_S:
                self._ratios.popleft()
            ordered = sorted(ratio for _, ratio in self._ratios)
            self._p90 = max(1.0, ordered[len(ordered) * 9 // 10]) if len(ordered) >= 20 else P90_PRIOR
        return self._p90


class Shown:
    """The last positions told, by number: a position must not grow without a cause.

    Numbers are given in order, so those of one line that are a table's length or less apart have a row each; of two that share a
    row the one who asked last is remembered. The memory is the same from the first to the last.
    """

    def __init__(self, rows: int = SHOWN_ROWS) -> None:
        self._rows = rows
        self._clear(0)

    def _clear(self, epoch: int) -> None:
        self._epoch = epoch
        self._numbers = array("Q", bytes(8 * self._rows))
        self._positions = array("Q", bytes(8 * self._rows))

    def least(self, epoch: int, number: int, position: int) -> int:
        """The position to tell: this one, or the last one told where that was less."""
        told = self.told(epoch, number)
        if told is not None and told <= position:
            return told
        self.tell(epoch, number, position)
        return position

    def told(self, epoch: int, number: int) -> int | None:
        """The last position told of it; None where this process remembers none."""
        row = number % self._rows
        return self._positions[row] if self._numbers[row] == number and epoch == self._epoch else None

    def tell(self, epoch: int, number: int, position: int) -> None:
        """This position, whatever was told before. Numbers of a newer epoch are other places; an older one is over."""
        if epoch > self._epoch:
            self._clear(epoch)
        elif epoch < self._epoch:
            return
        row = number % self._rows
        self._numbers[row] = number
        self._positions[row] = position


class JoinMeter:
    """The joins a gateway process takes a second for one room: a bucket that holds one second."""

    def __init__(self, rate_s: int, monotonic: Callable[[], float]) -> None:
        self._rate_s = rate_s
        self._monotonic = monotonic
        self._credit = float(rate_s)
        self._at_s = monotonic()

    def take(self) -> bool:
        now_s = self._monotonic()
        self._credit = min(self._rate_s, self._credit + (now_s - self._at_s) * self._rate_s)
        self._at_s = now_s
        if self._credit < 1:
            return False
        self._credit -= 1
        return True


class Desk:
    """One room's queue, keys, pages and memories of this process."""

    def __init__(
        self,
        queue: RoomQueue,
        keyring: Keyring,
        admissions: VerifiedCache,
        events: Events,
        *,
        https: bool,
    ) -> None:
        self.queue = queue
        self.room: Room = queue.room
        self.keyring = keyring
        self.shown = Shown()
        self.admissions = admissions
        self.events = events
        self.https = https
        self.networks = Networks()
        self.waits = Waits()
        self.joins = JoinMeter(self.room.joins_per_s, queue.clock.monotonic)
        self.ticket_cookie = cookie_name("ticket", self.room.id, https=https)
        self.admission_cookie = cookie_name("admission", self.room.id, https=https)
        self._attributes = f"; Path=/; HttpOnly; SameSite=Lax{'; Secure' if https else ''}"
        self._message: dict[str, str] = {}
        self._message_at_s = 0.0
        polls = self.room.board_poll_s
        self.page = waitroom_ui.waiting_page(self.room.id, self.room.entry, board_poll_s=polls)
        self.posted_page = waitroom_ui.waiting_page(self.room.id, self.room.entry, posted=True, board_poll_s=polls)

    def now_s(self) -> int:
        return int(self.queue.clock.now_s())

    @property
    def epoch_fields(self) -> dict[str, str]:
        """What edges that verify admissions themselves have to hear: the lowest epoch whose admissions count."""
        return {"Waitroom-Epoch": str(self.queue.memory.admission_epoch)}

    def room_state(self) -> RoomState:
        if self.queue.board is None or self.queue.is_stale():
            return RoomState.UNREACHABLE
        state = self.queue.board.room_state(self.room.waiting_max)
        # While the bank takes nobody the door is shut for newcomers, too.
        return RoomState.QUEUEING if state is RoomState.IDLE and self.queue.claims.is_shut else state

    def credential(self, request: web.BaseRequest) -> Credential:
        """The tokens the request brought that count. Two cookies of one name are none: a neighbour may have tossed one."""
        headers = request.headers
        now_s = self.now_s()
        cookies = headers.getall("Cookie", ())
        ticket_texts = cookie_values(cookies, self.ticket_cookie) if cookies else []
        admission_texts = cookie_values(cookies, self.admission_cookie) if cookies else []
        from_cookie = bool(ticket_texts or admission_texts)
        if not from_cookie:
            ticket_texts = headers.getall("Waitroom-Ticket", [])
            admission_texts = headers.getall("Waitroom-Admission", [])
        admission = self.admissions.read(admission_texts[0], self.room.id, now_s) if len(admission_texts) == 1 else None
        ticket = self.keyring.read_ticket(ticket_texts[0], self.room.id, now_s) if len(ticket_texts) == 1 else None
        is_foreign = isinstance(ticket, Refusal) and ticket.may_be_ours
        if isinstance(ticket, Ticket):
            # A provisional one has no place that a reset could void, and its epoch was what an outage let us know.
            if ticket.epoch < self.queue.memory.epoch and not ticket.is_provisional:
                ticket = None
            else:
                self.queue.remember(ticket)
        return Credential(
            admission if isinstance(admission, Verified) else None,
            ticket if isinstance(ticket, Ticket) else None,
            is_foreign,
            from_cookie,
        )

    @property
    def message_at_s(self) -> float:
        """When the operators' message was first seen here, in Redis seconds."""
        texts = self.queue.settings.message
        if texts != self._message:
            self._message, self._message_at_s = texts, self.queue.clock.now_s()
        return self._message_at_s

    def is_void(self, credential: Credential) -> bool:
        return credential.admission is not None and self.queue.is_admission_void(credential.admission.token)

    # --- minting ------------------------------------------------------------------------------------------------------

    def new_ticket(
        self, identity: bytes, standing: Standing, expected_s: float | None, joined_at_s: int | None = None
    ) -> tuple[str, Ticket]:
        now_s = self.now_s()
        ticket = Ticket(
            room=self.room.id,
            id=identity,
            number=standing.number,
            epoch=standing.epoch,
            joined_at_s=now_s if joined_at_s is None else joined_at_s,
            issued_at_s=now_s,
            expires_at_s=now_s + 2 * self.room.absence_max_s,
            expected_s=None if expected_s is None else round(expected_s),
        )
        if standing.code in {Code.NEW, Code.KNOWN}:
            self.shown.tell(ticket.epoch, ticket.number, standing.detail + 1)
        return self.keyring.mint_ticket(ticket), ticket

    def new_admission(
        self, identity: bytes, entered_at_s: int | None = None, *, lease_s: int | None = None, is_instant: bool = False
    ) -> tuple[str, Admission]:
        """An admission issued now, of the entry that Redis dated; no token outlives `session_max` from it, nor the lease.

        `lease_s`: what is left of the slot, where that may be less than a session.
        """
        room, now_s = self.room, self.now_s()
        entered_at_s = now_s if entered_at_s is None else entered_at_s
        session_s = room.session_s if lease_s is None else min(lease_s, room.session_s)
        until_s = policy.admission_until_s(entered_at_s, now_s, session_s, room.session_max_s)
        epoch = self.queue.memory.epoch
        admission = Admission(room.id, identity, epoch, entered_at_s, now_s, until_s, is_instant)
        text = self.keyring.mint_admission(admission)
        self.admissions.keep(text, admission)
        return text, admission

    @staticmethod
    def random_id() -> bytes:
        return secrets.token_bytes(16)

    # --- cookies ------------------------------------------------------------------------------------------------------

    def set_ticket(self, text: str, ticket: Ticket) -> str:
        return f"{self.ticket_cookie}={text}; Max-Age={max(1, ticket.expires_at_s - self.now_s())}{self._attributes}"

    def set_admission(self, text: str, admission: Admission) -> str:
        age_s = max(1, admission.expires_at_s - self.now_s())
        return f"{self.admission_cookie}={text}; Max-Age={age_s}{self._attributes}"

    def drop_ticket(self) -> str:
        return f"{self.ticket_cookie}=; Max-Age=0{self._attributes}"

    def drop_admission(self) -> str:
        return f"{self.admission_cookie}=; Max-Age=0{self._attributes}"
