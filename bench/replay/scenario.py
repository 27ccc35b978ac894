"""Owns the three incidents as they are replayed: the crowd, the bank, the door, and how each is scaled.

People are divided by one factor and time by another. Where both are the same (`card_cashback`, `point_cashout`), as many
people come in a second, and as many can be served in one, as on the day: the day is shorter, not busier. What people do
takes the time it takes, and so do sessions and timeouts. What the banks of 2019 and 2021 could take was never told; what
is assumed stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from locustfiles.curves import CARD_CASHBACK, POINT_CASHOUT, SPECIAL_DEPOSIT, Curve

# As many as an application server takes in before it refuses: 8,192 connections is a usual default (Tomcat's).
QUEUE_MAX: Final = 8_192
WORKERS: Final = 8
QUIET_S: Final = 5.0  # ordinary customers alone, before the crowd


@dataclass(frozen=True, slots=True)
class Stop:
    """The bank dies `at_s` after the crowd began, and is started again after `for_s`."""

    at_s: float
    for_s: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """One incident. Times are seconds of the replay since the crowd began to come, unless they say otherwise."""

    name: str
    title: str
    curve: Curve
    people: float  # by so much the crowd is divided
    pace: float  # by so much time is
    seconds: float  # how long it is watched
    room: str
    path: str
    rate_per_s: float
    burst: float
    active_max: int
    max_in_flight: int  # of the room, at each of the two gateways
    transaction_ms: float
    customers: int  # ordinary ones, each asks once a second
    stock: int | None = None
    opens_s: float | None = None
    stop: Stop | None = None
    assumed: tuple[str, ...] = ()

    @property
    def visitors(self) -> int:
        return round(self.curve.visitors / self.people)

    @property
    def capacity_per_s(self) -> float:
        """Transactions."""
        return WORKERS * 1e3 / self.transaction_ms

    @property
    def bank_options(self) -> tuple[str, ...]:
        options = ["--workers", f"{WORKERS}", "--transaction-ms", f"{self.transaction_ms:g}", "--queue-max"]
        options.append(f"{QUEUE_MAX}")
        return (*options, "--deposits", f"{self.stock}") if self.stock is not None else tuple(options)

    def room_toml(self, opens_at: str = "") -> str:
        """`opens_at` with its offset, if it has an hour."""
        lines = [
            "[[rooms]]",
            f'id = "{self.room}"',
            f'match = [{{ path = "{self.path}*" }}]',
            f'entry = "{self.path}"',
            'upstream = "bank"',
            f"max_in_flight = {self.max_in_flight}",
            f'drain_rate = "{self.rate_per_s:g}/s"',
            f"burst = {self.burst:g}",
            f"active_max = {self.active_max}",
            'session = "30s"',
            'session_max = "10m"',
        ]
        lines += [f"stock = {self.stock}"] if self.stock is not None else []
        lines += [f"opens_at = {opens_at}"] if opens_at else []
        return "\n".join(lines) + "\n"


DEPOSIT: Final = Scenario(
    name="special_deposit",
    title="22 July 2019: a deposit of 5 %, sold out in a second",
    curve=SPECIAL_DEPOSIT,
    people=5_000,
    pace=1,
    seconds=60,
    room="special-deposit",
    path="/deposit/",
    rate_per_s=8,
    burst=8,
    active_max=200,
    max_in_flight=20,
    transaction_ms=200,
    customers=10,
    stock=100,
    assumed=(
        "All 10 million customers come within a minute, 7 % of them in the first second: 2,000 here. Time is not scaled.",
        "100 deposits for them: more for each than the 1,000 to 10,000 of the day were, as that would be one or two here.",
        "The bank does 40 transactions a second, which is 200,000 on the day, more than any bank's.",
        "Looking at the offer is a transaction, also when it is sold out; applying is another, refused at once when it is.",
        "It sells as a back office built for calm days does: it looks what is left, does its slow part, then writes the sale.",
    ),
)
CASHBACK: Final = Scenario(
    name="card_cashback",
    title="14 June 2019: a cash-back takes other card payments down",
    curve=CARD_CASHBACK,
    people=90,
    pace=90,
    seconds=50,
    room="card-cashback",
    path="/cashback/",
    rate_per_s=35,
    burst=18,
    active_max=500,
    max_in_flight=20,
    transaction_ms=50,
    customers=20,
    assumed=(
        "300,000 people within an hour: 3,333 in 40 s here. As many a second as on the day, 131 at the height.",
        "The bank does 160 transactions a second. Ordinary card payments, which nobody of the crowd makes, take 20 of them.",
        "A cash-back takes two to four: a look at it or more, and the claim.",
    ),
)
CASHOUT: Final = Scenario(
    name="point_cashout",
    title="5 January 2021, 11:00: points into cash, for three hours",
    curve=POINT_CASHOUT,
    people=150,
    pace=150,
    seconds=75,
    room="point-cashout",
    path="/points/cashout/",
    rate_per_s=17,
    burst=17,
    active_max=400,
    max_in_flight=20,
    transaction_ms=100,
    customers=10,
    opens_s=4.0,
    stop=Stop(at_s=40, for_s=6),
    assumed=(
        "360,000 people in three hours, twice those who were served: 2,400 in 72 s here. As many a second as on the day.",
        "The first come ten minutes or more before 11:00 (the dashed line). Before it the bank and the door let nobody in.",
        "The bank does 80 transactions a second: enough for the 17 people a second of the day, who take two to four each.",
        "In both runs the bank's process is killed 40 s after the first came, and started again 6 s later (15 minutes).",
    ),
)
SCENARIOS: Final = {scenario.name: scenario for scenario in (DEPOSIT, CASHBACK, CASHOUT)}
