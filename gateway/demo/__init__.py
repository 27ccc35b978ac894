"""The demo bank and its crowd: one seeded crowd, with the gateway before the bank and without, measured.

scene.py     `waitroom demo`: what is shown, in which order, and what is kept
options.py   what may be asked of it        verdict.py  what a run proves
stage.py     the processes: Valkey, two gateways, the bank
bank.py      the bank: cash-out, balance, counts   core.py      its bottleneck: eight workers and a queue
counter.py   deposit offer, cash-back, payments    offers.py    what is given once to each customer, while there is some
hours.py     the cash-out's hours                  ledger.py    points and payouts     books.py  its SQLite file
entrylog.py  who came in, proven by the gateway's signature
forms.py     its requests and answers              pages.py     its HTML
plan.py      the crowd as data, from a seed    crowd.py     runs it, beside ordinary customers
visitor.py   one visitor's life                wire.py      how a visitor speaks HTTP
tally.py     what a run is remembered by       report.py, figures.py   what is made of it
"""
