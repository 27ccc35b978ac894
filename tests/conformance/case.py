"""What a case of the corpus is, and what was observed of one: bytes sent in steps, answers, how the connection ended."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import groupby
from typing import Final

# Written in cases, replaced when they run: the folder of the route, and the line that names the case and lets it in.
FOLDER: Final = b"/~/"
PASS: Final = b"X-Case: ~\r\n"
HOST: Final = b"Host: bank.example\r\n" + PASS
OK: Final = b"HTTP/1.1 200 OK\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True, slots=True)
class Wait:
    seconds: float


@dataclass(frozen=True, slots=True)
class Until:
    """Read on until these bytes have come."""

    marker: bytes


@dataclass(frozen=True, slots=True)
class Trickle:
    """A byte every so often, for as long as the other side listens."""

    data: bytes
    every_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Stall:
    """Read nothing for so long."""

    seconds: float


class Act(StrEnum):
    HALF = "ends its direction"
    RESET = "resets the connection"
    BODY = "reads the request's body"  # an upstream that has not done so when its steps end does it then


Step = bytes | Wait | Until | Trickle | Stall | Act


class Must(StrEnum):
    """What the RFC asks of an intermediary."""

    PASS = "pass it on"
    REFUSE = "refuse it"
    FREE = "either"
    CUT = "never look whole"


@dataclass(frozen=True, slots=True)
class Case:
    """`ours` is what the gateway must be observed to do, in the words of `Observation.text`.

    Alternatives have ` or ` between them: where a close overtakes what the client still sends, it may miss the answer.
    """

    name: str
    rfc: str  # "9112 6.3": also what the table is sorted by
    what: str
    send: tuple[Step, ...]
    must: Must
    ours: str
    answer: tuple[Step, ...] = (Act.BODY, OK)  # to the first request; others get `OK`
    answers: int = 1  # final ones to wait for before the connection is tried with another request
    methods: tuple[str, ...] = ()  # of the requests, where one is a HEAD or CONNECT
    sees: tuple[bytes, ...] = ()  # the upstream, of what was sent
    hides: tuple[bytes, ...] = ()
    gets: tuple[bytes, ...] = ()  # the client
    lacks: tuple[bytes, ...] = ()
    is_slow: bool = False  # takes a time-out: run beside the others of its kind

    @property
    def is_placed(self) -> bool:
        """True if its route can be chosen: an open one, or a protected one."""
        return any(isinstance(step, bytes) and FOLDER in step for step in self.send)

    def placed(self, folder: bytes, lines: bytes) -> Case:
        """The case on a route of this folder, let in by these header lines."""
        named = b"X-Case: %b\r\n%b" % (self.name.encode(), lines)
        return replace(self, send=tuple(_placed(step, folder, named) for step in self.send))


def _placed(step: Step, folder: bytes, named: bytes) -> Step:
    match step:
        case bytes():
            return step.replace(FOLDER, folder).replace(PASS, named)
        case Trickle():
            return replace(step, data=step.data.replace(FOLDER, folder).replace(PASS, named))
        case _:
            return step


@dataclass(frozen=True, slots=True)
class Observation:
    """Answers by status, `cut` behind one that did not come whole; what became of the connection; requests passed on."""

    answers: tuple[str, ...]
    end: str  # kept: another request was answered on it; closed; open: nothing came for long; askew: nonsense came
    passed: int
    is_part_passed: bool = False  # the beginning of a request whose end never came
    marks: tuple[str, ...] = ()  # leaks: what must not pass did; loses: what must pass did not

    @property
    def text(self) -> str:
        told = []
        for status, same in groupby(self.answers):
            count = len(list(same))
            told += [f"{status} x{count}"] if count > 2 else [status] * count
        passed = f"{self.passed} and a part" if self.is_part_passed else str(self.passed)
        return ", ".join((" ".join(told) or "nothing", self.end, passed, *self.marks))

    @property
    def is_refused(self) -> bool:
        """Nobody was led to believe that it was passed on in order."""
        return is_refused(self.text)

    @property
    def is_well(self) -> bool:
        """A final answer came whole, nothing was lost or leaked, and the connection is in step or at its end."""
        finals = [status for status in self.answers if status >= "200"]
        return bool(finals) and "cut" not in "".join(finals) and self.end in {"kept", "closed"} and not self.marks

    def holds(self, must: Must) -> bool:
        match must:
            case Must.PASS:
                return self.is_well and self.passed > 0 and not self.answers[-1].startswith("5")
            case Must.REFUSE:
                return self.is_refused and not self.marks
            case Must.CUT:
                return self.is_refused
            case Must.FREE:
                return not self.marks and self.end != "askew"


def is_refused(text: str) -> bool:
    """True for an observation in which no answer below 400 came whole."""
    told = text.partition(",")[0]
    return re.search(r"\b[23]\d\d\b(?! cut)", told) is None
