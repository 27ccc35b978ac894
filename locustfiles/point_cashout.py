"""5 January 2021, 11:00: one site and one app turn card points into cash, and both stop within three hours.

Against the demo: `make demo` in one terminal, and when its own crowd is through, in another

    locust -f locustfiles/point_cashout.py --headless -t 5m

Against any other host: `--host https://bank.example`, with `--room`, `--entry`, `--pay-path` and `--pay-form` for its
pages; the bank must answer the entry page to GET, and take the form there as a POST (as JSON from apps). Several
processes: `--processes 2`; several machines: `--master` and `--worker`. Without `--headless`, Locust's web page.

It shows whether places survive reloads, tabs and sleep, whether anybody admitted is refused, how long people wait and
how near that is to what they were told, for hours if you let it. At the default share (0.4) 75 a second come in the first
minute, and never fewer than 7: the demo's door lets 40 in.

It cannot show promise 1: that needs the bank's own log (`make demo` does it). It does not know the hour: `opens_at` of
the room is for you to set, as `make replay` does. Nor are 11 card companies behind it, only the one bank.
"""

from __future__ import annotations

from locustfiles.crowd import Arrivals, Incident, stage
from locustfiles.curves import POINT_CASHOUT
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

INCIDENT = Incident(
    POINT_CASHOUT, 0.4, Route("point-cashout", "/points/cashout/", "/points/cashout/pay", "payout={key}&points=1")
)
# Half of them came by the app; it went on for hours, so that people left, slept and came back.
shares({Patient: 22, PaysAndGoes: 8, App: 40, Reloader: 6, FiveTabs: 4, Leaver: 10, Sleeper: 8, Hammer: 2})
stage(INCIDENT)

__all__ = ["Customer"]  # beside the crowd


class PointCashout(Arrivals):
    incident = INCIDENT
