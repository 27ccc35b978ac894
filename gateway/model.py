"""The nouns of the project: what configuration, queue, tokens and answers are made of. No behaviour beyond arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

# One permit to enter, in the units the door counts with. 3.6e9 makes n/s, n/min and n/h whole numbers of units a
# microsecond, so no rate is rounded (`facts.md`: whole-microsecond intervals run 2 % slow at 30,000/s).
PERMIT_UNITS: Final = 3_600_000_000
RATE_UNITS_PER_PERIOD: Final = {"s": 3600, "min": 60, "h": 1}  # units a microsecond that 1 entry a period earns
# Presence bitmaps hold a number modulo this: one SETBIT at offset 10^9 would cost 125 MB and 70 ms.
SEEN_MODULUS: Final = 2**23
# 2^53 keeps zset scores exact; 2^31 keeps the bitmap of spent numbers under 256 MB.
NUMBER_MAX: Final = 2**31


@dataclass(frozen=True, slots=True)
class Rate:
    """Entries a period, kept as written: `Rate(50, "s")` is 50/s. The period is s, min or h."""

    entries: int
    period: str

    @classmethod
    def parse(cls, text: str) -> Rate:
        """Read "50/s", "3000/min" or "10/h". Raises ValueError with what is allowed."""
        found = re.fullmatch(r"([1-9][0-9]{0,5})/(s|min|h)", text)
        if found is None:
            raise ValueError(
                f"{text!r} is not a rate: allowed are 1 to 999999 entries a period, as 50/s, 3000/min or 10/h"
            )
        return cls(int(found[1]), found[2])

    @property
    def units_per_us(self) -> int:
        """What the door earns a microsecond, in `PERMIT_UNITS` parts of a permit; exact."""
        return self.entries * RATE_UNITS_PER_PERIOD[self.period]

    @property
    def per_second(self) -> float:
        return self.units_per_us * 1e6 / PERMIT_UNITS

    def __str__(self) -> str:
        return f"{self.entries}/{self.period}"


# --- configuration ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Match:
    """Which requests a rule is for: host (None = any of ours), and a path, exact or a folder ("/points/*")."""

    path: str
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Bypass:
    """A way past a room's queue, for GET and HEAD: by path, or by the client's network (CIDR). Exactly one is set."""

    name: str  # the metric's label, from configuration only
    path: str | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Upstream:
    """A backend: one or more base URLs (scheme, host and port only) and the limits the gateway keeps towards it."""

    name: str
    urls: tuple[str, ...]
    max_in_flight: int = 200
    connect_timeout_s: float = 2.0
    read_timeout_s: float = 30.0
    write_timeout_s: float = 30.0
    idle_timeout_s: float = 300.0  # WebSockets and server-sent events without a byte either way
    signing_key: bytes = field(default=b"", repr=False)  # of Waitroom-Signature; empty = requests are not signed
    ca: str = ""  # certificates (PEM) that vouch for https:// URLs, in place of the system's
    ca_file: str | None = None  # where they stand


@dataclass(frozen=True, slots=True)
class RoomSettings:
    """What an operator may change while the room runs; the file gives the base."""

    drain_rate: Rate
    burst: int
    active_max: int
    paused: bool = False
    stock: int | None = None  # None: not limited
    message: dict[str, str] = field(default_factory=dict)  # language -> text


@dataclass(frozen=True, slots=True)
class Room:
    """A set of protected routes with one queue, its limits and its upstream."""

    id: str
    match: tuple[Match, ...]
    entry: str
    upstream: str
    max_in_flight: int
    settings: RoomSettings
    session_s: int = 600
    session_max_s: int = 3600
    claim_window_s: int = 120
    absence_max_s: int = 600
    waiting_max: int = 5_000_000
    joins_per_s: int = 20_000  # each gateway process
    audit_bytes: int = 16 * 1024 * 1024  # of the record in Redis; 0: none is kept
    bypass: tuple[Bypass, ...] = ()
    queueing_status: int = 429
    origins: tuple[str, ...] = ()
    opens_at_s: int | None = None  # unix seconds; None: open
    closes_at_s: int | None = None
    board_poll_s: int | None = None
    customer_header: str | None = None  # rooms that ask for a verified customer: who the edge says it is
    customer_secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Server:
    public: tuple[str, int]
    operator: tuple[str, int]
    hosts: tuple[str, ...]
    trusted_proxies: tuple[str, ...] = ()
    https: bool = True
    workers: int = 1
    state_dir: str = "state"
    stop_grace_s: float = 5.0
    header_bytes_max: int = 32_768
    connections_max: int = 20_000
    log_format: str = "text"  # or "json"
    access_log: float = 0.0  # share of the requests that get a line
    makes_request_ids: bool = False
    traces: float = 0.0  # share of the requests that get spans


@dataclass(frozen=True, slots=True)
class Tokens:
    """Key files by role. The signing key signs; all verify. Algorithm of admissions: ES256 or HS256, by key."""

    signing_key_file: str
    verify_key_files: tuple[str, ...] = ()
    issuer: str = "waitroom"


class Role(StrEnum):
    VIEWER = "viewer"
    OPERATOR = "operator"
    UPSTREAM = "upstream"


@dataclass(frozen=True, slots=True)
class Operator:
    name: str
    role: Role
    token: str = field(repr=False)
    rooms: tuple[str, ...] = ()  # empty: all


@dataclass(frozen=True, slots=True)
class Config:
    server: Server
    redis_url: str = field(repr=False)  # may hold a password
    tokens: Tokens
    rooms: tuple[Room, ...]
    upstreams: dict[str, Upstream]
    operators: tuple[Operator, ...] = ()
    default_upstream: str | None = None
    audit_file: str | None = None
    source: str = ""  # the file it was read from
    digest: str = ""  # SHA-256 of what counts, hex, for `config_info`


# --- states ------------------------------------------------------------------------------------------------------------


class RoomState(StrEnum):
    IDLE = "idle"
    QUEUEING = "queueing"
    PAUSED = "paused"
    SCHEDULED = "scheduled"
    FULL = "full"
    SOLD_OUT = "sold_out"
    CLOSED = "closed"
    RECOVERING = "recovering"
    UNREACHABLE = "unreachable"


class VisitorState(StrEnum):
    WAITING = "waiting"
    CALLED = "called"
    ADMITTED = "admitted"
    PARKED = "parked"
    ENDED = "ended"


# --- tokens ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ticket:
    """The signed queue token: `id` holds number `number` of room `room`, epoch `epoch`.

    `number` 0 is a provisional ticket, given while Redis cannot be reached: it is ordered by `joined_at_s`.
    """

    room: str
    id: bytes  # 16 bytes
    number: int
    epoch: int
    joined_at_s: int
    issued_at_s: int
    expires_at_s: int
    expected_s: int | None = None  # the wait that was promised when it was joined
    lane: int = 0

    @property
    def is_provisional(self) -> bool:
        return self.number == 0


@dataclass(frozen=True, slots=True)
class Admission:
    """The signed right to pass. `entered_at_s` bounds renewal by `session_max`; instant ones need confirming."""

    room: str
    id: bytes
    epoch: int
    entered_at_s: int
    issued_at_s: int
    expires_at_s: int
    is_instant: bool = False


# --- what the room publishes ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a position or a state changed against expectation: a code and when, unix seconds."""

    code: str
    at_s: float


class Code(StrEnum):
    """What the queue answers to a contact, a claim or an entry; the words of the scripts."""

    NEW = "new"
    KNOWN = "known"
    CALLED = "called"
    ADMITTED = "admitted"
    ENDED = "ended"
    HELD = "held"
    WAITING = "waiting"
    BUSY = "busy"
    LOST = "lost"
    AHEAD = "ahead"
    WITHDRAWN = "withdrawn"
    RECOVERING = "recovering"
    FULL = "full"
    CLOSED = "closed"
    SOLD_OUT = "sold_out"


@dataclass(frozen=True, slots=True)
class Standing:
    """One visitor's place as the queue sees it.

    `detail` goes with the code: new, known: places ahead; called: microseconds left of the claim window; admitted:
    microseconds of lease; else 0. `reason` says what holds a held claim.
    """

    code: Code
    number: int = 0
    detail: int = 0
    epoch: int = 0
    reason: str = ""
    entered_at_s: int = 0  # with admitted: the second the entry counts from
    total: int = 0  # with admitted just now: how many have ever entered the room


@dataclass(frozen=True, slots=True)
class Contact:
    """A visitor heard from: a join (`number` 0), or a ticket whose place must be looked up."""

    id: bytes
    number: int = 0
    epoch: int = 0
    arrived_us: int | None = None  # a join by provisional ticket: when it came


@dataclass(frozen=True, slots=True)
class ClaimTry:
    id: bytes
    number: int
    epoch: int
    is_withdrawn: bool = False


@dataclass(frozen=True, slots=True)
class Touch:
    id: bytes
    epoch: int
    entered_at_s: int


@dataclass(frozen=True, slots=True)
class SettingsRecord:
    """A room's settings as stored: the published base, the operators' overrides, and the version of both."""

    version: int
    base: dict[str, object]
    overrides: dict[str, object]


@dataclass(frozen=True, slots=True)
class Memory:
    """What a gateway carries to a Redis that may have lost it (`heal`)."""

    epoch: int = 1
    highest_number: int = 0  # 0: nothing known
    passed: int = 0
    clock_us: int = 0
    active: int = 0
    places: int = 0
    admission_epoch: int = 0
    reported: int = 0  # what the upstream said is left, plus 1; 0: it said nothing
    events: int = 0  # number of the newest event of the record
    sealed_us: int = 0  # stamp of the room's last write before its own server was stopped; 0: that is not known
