"""22 July 2019: a 5 % deposit for the ten-millionth customer, at an announced second; sold out in one.

Against the demo: `make demo` in one terminal, and when its own crowd is through, in another

    locust -f locustfiles/special_deposit.py --headless

The demo bank has 1,000 deposits and says with each answer what is left (`Waitroom-Remaining`): the gateway shuts its
door by it. For another bank: `--host`, `--room`, `--entry`, `--pay-path`, `--pay-form`. It must answer the entry page to
GET, take the form as a POST, sell each key or customer one, and refuse with 409 when nothing is left.

It shows a flash of all comers: at the default share (0.0002) 2,000 in a minute, 140 of them in the first second; that
scripts and five tabs gain nothing (compare the rows `until entry, Hammer` and `until entry, Patient`); that who comes
too late is told so (`turned away`); and whom it saw overtaken at the door.

It cannot show the order of everyone: it knows only the claims it made itself. Nor that nothing is oversold: ask the
bank, as `make replay` does. The share cannot go near 1 from a few machines: 700,000 arrivals in a second are for paper.
"""

from __future__ import annotations

from locustfiles.crowd import Arrivals, Incident, stage
from locustfiles.curves import SPECIAL_DEPOSIT
from locustfiles.visitors import (
    App,
    Customer,
    FiveTabs,
    Hammer,
    Leaver,
    Patient,
    PaysAndGoes,
    Reloader,
    Sleeper,
    shares,
)
from locustfiles.wire import Route

INCIDENT = Incident(SPECIAL_DEPOSIT, 0.0002, Route("special-deposit", "/deposit/", "/deposit/apply", "apply={key}"))
# Everybody wants to be first: more tabs, more reloading, more scripts, and nobody looks around.
shares({Patient: 20, PaysAndGoes: 25, App: 20, Reloader: 12, FiveTabs: 10, Leaver: 6, Sleeper: 2, Hammer: 5})
stage(INCIDENT)

__all__ = ["Customer"]  # beside the crowd


class SpecialDeposit(Arrivals):
    incident = INCIDENT
