"""Owns how the demo's commands read their options: every one is bounded, and a bad one is a sentence."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, time
from pathlib import Path
from typing import Final, Never
from urllib.parse import urlsplit

from gateway.demo.plan import CrowdSettings

# One process plays the crowd and one is the bank: with more they, and not what stands between, are what is measured.
VISITORS_MAX: Final = 20_000
SECONDS_MAX: Final = 3_600.0
SEED_MAX: Final = 2**63 - 1
RATE_MAX: Final = 100_000.0


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the usage that would hide it; names are written out."""

    def __init__(self, prog: str, description: str) -> None:
        super().__init__(prog=prog, description=description, allow_abbrev=False)

    def error(self, message: str) -> Never:
        self.exit(2, f"{self.prog}: {message.removeprefix('argument ')} (--help shows all options)\n")


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number within bounds."""

    def read(text: str) -> int:
        if re.fullmatch(r"-?[0-9]{1,20}", text, re.ASCII) is None or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"{text[:40]} is not a whole number from {low} to {high}")
        return int(text)

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """Reads a finite number within bounds."""

    def read(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not low <= value <= high:  # nor is what is no number
            raise argparse.ArgumentTypeError(f"{text[:40]} is not a number from {low:g} to {high:g}")
        return value

    return read


def moment(text: str) -> datetime:
    """Reads a day and time of day with its offset, as ISO 8601 writes them."""
    try:
        at: datetime | None = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a time with its offset, such as 2021-01-05T11:00+09:00")
    return at


def clock_time(text: str) -> time:
    """Reads a time of day, `HH:MM`."""
    if re.fullmatch(r"(?:[01][0-9]|2[0-3]):[0-5][0-9]", text, re.ASCII) is None:
        raise argparse.ArgumentTypeError(f"{text[:40]} is not a time of day such as 20:00")
    return time.fromisoformat(text)


def web_address(text: str) -> str:
    """Reads `http://host[:port]`, without a path."""
    try:
        parts = urlsplit(text)
        is_good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_good = False
    if not is_good or parts.path.strip("/") or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(f"{text[:80]} is not an address such as http://127.0.0.1:8080")
    return text.rstrip("/")


def file_to_read(text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return path


def file_to_write(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} cannot be written: it has to be a file in a folder that exists")
    return path


def add_crowd_options(parser: argparse.ArgumentParser, defaults: CrowdSettings) -> None:
    share = number(0, 1)
    parser.add_argument(
        "--visitors", type=whole(1, VISITORS_MAX), default=defaults.visitors, help="how many come (%(default)s)"
    )
    parser.add_argument(
        "--arrive-within",
        type=number(0, SECONDS_MAX),
        default=defaults.arrive_within_s,
        metavar="SECONDS",
        help="all come in this time, most of them early (%(default)s)",
    )
    for name, default, what in (
        ("--leavers", defaults.leavers, "who leave without a word"),
        ("--no-shows", defaults.no_shows, "who wait and never go in"),
        ("--sleepers", defaults.sleepers, "whose phone falls asleep for a while"),
    ):
        parser.add_argument(name, type=share, default=default, metavar="SHARE", help=f"{what} (%(default)s)")
    parser.add_argument(
        "--seed", type=whole(0, SEED_MAX), default=defaults.seed, help="the same seed is the same crowd (%(default)s)"
    )


def crowd_settings(
    parser: argparse.ArgumentParser, options: argparse.Namespace, defaults: CrowdSettings
) -> CrowdSettings:
    """The crowd that was asked for; ends the command when its shares are more than the whole."""
    try:
        return replace(
            defaults,
            visitors=options.visitors,
            arrive_within_s=options.arrive_within,
            seed=options.seed,
            leavers=options.leavers,
            no_shows=options.no_shows,
            sleepers=options.sleepers,
        )
    except ValueError as fault:
        parser.error(str(fault))
