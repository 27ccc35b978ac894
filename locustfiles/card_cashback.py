"""14 June 2019: a cash-back of 5,000 won brings a crowd, and *other* card payments stop working, too.

Against the demo: `make demo` in one terminal, and when its own crowd is through, in another

    locust -f locustfiles/card_cashback.py --headless -t 10m

At the demo bank the cash-back and ordinary card payments, which are in no room, share eight workers. For another bank:
`--host`, `--room`, `--entry`, `--pay-path` and `--pay-form` for the promotion, `--beside` and `--beside-form` for what has
nothing to do with it.

It shows what ordinary customers meet meanwhile: the row `beside`, five of them asking once a second, its p99 and its
failures, to be compared with a run at `--crowd 0`. Send the crowd to the bank itself (`--host` without the gateway) to
see what they met in 2019; only those figures mean anything then, as there is no line to wait in.

It cannot show that a gateway's other rooms keep their pace (`make bench` does), nor more customers than five unless
asked: `--config-users '{"user_class_name": "Customer", "fixed_count": 50}'`.
"""

from __future__ import annotations

from locustfiles.crowd import Arrivals, Incident, stage
from locustfiles.curves import CARD_CASHBACK
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
    CARD_CASHBACK,
    0.5,
    Route("card-cashback", "/cashback/", "/cashback/claim", "claim={key}"),
    beside="/payments",
    beside_form="won=4500",
)
# People at tills with their phones: in and out, and many who give it up.
shares({Patient: 16, PaysAndGoes: 30, App: 24, Reloader: 8, FiveTabs: 2, Leaver: 14, Sleeper: 5, Hammer: 1})
stage(INCIDENT)

__all__ = ["Customer"]  # beside the crowd


class CardCashback(Arrivals):
    incident = INCIDENT
