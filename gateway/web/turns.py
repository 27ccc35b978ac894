"""Shares the event loop among crowds: of a flood's requests a few begin in a turn, everybody else's at once.

Theory of operation. One process is one loop, and a turn of it serves every socket that is ready before it looks at the next
time: beside a flood of 320 connections a quiet visitor waits for 320 answers, in each of the three turns that a proxied request
takes. So what begins in one turn is bounded. The first `TURN_MAX` requests of a turn begin unseen, which is all that a gateway
without a flood ever has. From then on each is told by its head what it belongs to, its *flow* (`sorting.py`): a room's
newcomers, its crowd, its people inside, everything else. A flow may begin `AT_ONCE_MAX` in a turn; beyond that its requests are
held back, unparsed, and go on a slice a turn, the flows in rotation, the oldest of a flow first. While anything is held back
every request is sorted.

A slice is of one flow where that has enough: joins of one turn are one call to Redis. It is short while others are about, and
longer while a flood has the gateway for itself: the first of the others then waits for one long slice.

Shedding: beyond `JOINS_MAX` a room's newest joins get a 503 that was made before, `REFUSED_MAX` a turn, so that refusing does
not fill the loop either, and the oldest still get in. Nothing else is refused here. A connection has one request held back at
most, so their number is bounded by the connections, their bytes by `BYTES_MAX`: beyond that nothing more is held back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final, Protocol

TURN_MAX: Final = 48  # 2 ms of polls, 4 ms of joins; of which up to `COUNTED_MAX` may be of the turns before
COUNTED_MAX: Final = 16  # requests, after which a call marks where the turn ends: so a quiet gateway makes none
AT_ONCE_MAX: Final = 8
SLICE: Final = 8  # under 1 ms
SLICE_ALONE: Final = 64  # some 5 ms; joins cost least where many go to Redis together
OTHERS_S: Final = 0.1  # for how long others are taken to be about
JOINS_MAX: Final = 1_000  # half a second at a third of what a process can do
REFUSED_MAX: Final = 8
BYTES_MAX: Final = 32 * 2**20
ONE_BYTES_MAX: Final = 65_536


class Held(Protocol):
    """A connection whose request was held back."""

    def go_on(self, data: bytes) -> None: ...

    def refuse(self, data: bytes, answer: bytes) -> None: ...


class Flow:
    """Requests that share one rotation. `refusal`: what one of them is answered that is shed; None: it may not be shed."""

    __slots__ = ("begun", "held", "name", "refusal", "turn")

    def __init__(self, name: str, refusal: Callable[[bytes], bytes | None] | None = None) -> None:
        self.name = name
        self.refusal = refusal
        self.held: OrderedDict[Held, bytes] = OrderedDict()
        self.turn = -1  # in which it last began something at once, and how much
        self.begun = 0

    def __repr__(self) -> str:
        return f"<Flow {self.name}: {len(self.held)} held back>"


class Turns:
    """What may begin in this turn of the loop. `call_soon` runs a call in the next one."""

    def __init__(
        self,
        flow_of: Callable[[bytes], Flow],
        call_soon: Callable[[Callable[[], None]], object],
        now_s: Callable[[], float],
    ) -> None:
        self._flow_of = flow_of
        self._call_soon = call_soon
        self._now_s = now_s
        self._rotation: deque[Flow] = deque()  # those that hold something back
        self._bytes = 0
        self._begun = 0
        self._turn = 0  # counted while anything is held back
        self.is_due = False  # something is held back: every request is sorted
        self._others_until_s = 0.0

    def __len__(self) -> int:
        return sum(len(flow.held) for flow in self._rotation)

    def is_beyond(self) -> bool:
        """Whether what comes now has to be sorted (`hold`); it is counted."""
        self._begun += 1
        if self._begun == COUNTED_MAX:
            self._call_soon(self._end_turn)
        return self.is_due or self._begun > TURN_MAX

    def _end_turn(self) -> None:
        self._begun = 0

    def hold(self, one: Held, data: bytes) -> Flow | None:
        """None: the request may begin. Else it has to wait in this flow until `go_on` or `refuse` is called in a later turn."""
        if not self.is_due:
            self.is_due = True
            self._call_soon(self._begin)
        flow = self._flow_of(data)
        if not flow.held:
            if flow.turn != self._turn:
                flow.turn, flow.begun = self._turn, 0
            if flow.begun < AT_ONCE_MAX:
                flow.begun += 1
                if self._rotation:
                    self._others_until_s = self._now_s() + OTHERS_S
                return None
        if len(data) > ONE_BYTES_MAX or self.is_full(len(data)):
            return None
        if not flow.held:
            self._rotation.append(flow)
        flow.held[one] = data
        self._bytes += len(data)
        return flow

    def is_full(self, more: int) -> bool:
        """Whether so many bytes more are too many to keep: they begin at once."""
        return self._bytes + more > BYTES_MAX

    def add(self, flow: Flow, one: Held, data: bytes) -> bool:
        """More came of a request that is held back; whether its connection may go on reading meanwhile."""
        whole = flow.held[one] = flow.held[one] + data
        self._bytes += len(data)
        return len(whole) <= ONE_BYTES_MAX

    def forget(self, flow: Flow, one: Held) -> bytes:
        """Its client has gone, or it begins now; what was kept of it."""
        data = flow.held.pop(one, b"")
        self._bytes -= len(data)
        if not flow.held and flow in self._rotation:
            self._rotation.remove(flow)
        return data

    def _begin(self) -> None:
        """One turn's part of what is held back."""
        self._turn += 1
        left = SLICE if self._now_s() < self._others_until_s else SLICE_ALONE
        try:
            self._refuse()
            while left and self._rotation:
                flow = self._rotation[0]
                self._rotation.rotate(-1)
                while left and flow.held:
                    left -= 1
                    one, data = self._take(flow, is_newest=False)
                    one.go_on(data)
        finally:  # whatever one request brings up, the others go on
            self.is_due = bool(self._rotation)
            if self.is_due:
                self._call_soon(self._begin)

    def _refuse(self) -> None:
        left = REFUSED_MAX
        for flow in tuple(self._rotation):
            while left and flow.refusal is not None and len(flow.held) > JOINS_MAX:
                left -= 1
                one, data = self._take(flow, is_newest=True)
                answer = flow.refusal(data)
                if answer is None:
                    one.go_on(data)
                else:
                    one.refuse(data, answer)

    def _take(self, flow: Flow, *, is_newest: bool) -> tuple[Held, bytes]:
        one, data = flow.held.popitem(last=is_newest)
        self._bytes -= len(data)
        if not flow.held:
            self._rotation.remove(flow)
        return one, data
