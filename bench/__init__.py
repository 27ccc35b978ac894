"""Measures the gateway as ratios within one run; never part of the tests. `python -m bench --help`."""
