"""The three outages as crowds for Locust: one file per incident, run with `locust -f locustfiles/<incident>.py`.

special_deposit.py, card_cashback.py, point_cashout.py   what came, who it was, and how to run it
curves.py     who has come by when, of each incident
waiting.py    what a visitor does next, decided from one answer
record.py     every request and visit of a run, a line each, for whoever plots it
figures.py    what is counted, what is a fault, and how it is told at the end
wire.py       how a visitor speaks HTTP
visitors.py   the kinds of visitors, as Locust's users
crowd.py      what the three runs share: options, arrivals, figures over all workers

What is decided there (curves, waiting, figures, record) knows nothing of Locust, whose import replaces the standard library's
sockets under whoever imports it: so tests can import it.
"""
