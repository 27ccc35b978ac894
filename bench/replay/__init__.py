"""The three outages again, each without the gateway and with it: `make replay` writes docs/replays.

scenario.py   what came, what stood there, and by how much people and time are scaled
run.py        one run: the stage, the crowd of locustfiles/, the bank's stop
samples.py    what bank and gateways say of themselves, once a second
story.py      what one run comes to: rows of the table, and a series for each plot
verdict.py    which promises it broke, and whether the bank fell
plots.py      its pictures        pages.py   its pages        __main__.py   the command
"""
