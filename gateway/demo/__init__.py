"""The demo bank and its crowd: one seeded crowd, with the gateway before the bank and without, measured.

scene.py     `waitroom demo`: what is shown, in which order, and what is kept
options.py   what may be asked of it        verdict.py  what a run proves
stage.py     the processes: Valkey, two gateways, the bank
bank.py      the bank's pages and counts       core.py      its bottleneck: eight workers and a queue
ledger.py    its books in SQLite               entrylog.py  who came in, proven by the gateway's signature
pages.py     its HTML
plan.py      the crowd as data, from a seed    crowd.py     runs it, beside ordinary customers
visitor.py   one visitor's life                wire.py      how a visitor speaks HTTP
tally.py     what a run is remembered by       report.py, figures.py   what is made of it
"""
