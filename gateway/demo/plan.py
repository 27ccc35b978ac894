"""Owns what the demo's crowd will do: a seed becomes a list of visitors, the same with the gateway and without."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from random import Random


class Kind(StrEnum):
    BROWSER = "browser"  # runs the waiting page, patiently
    APP = "app"  # carries its tokens in headers
    RELOADER = "reloader"  # reloads instead of waiting, and is quick to call an answer late
    LEAVER = "leaver"  # leaves without a word
    NO_SHOW = "no-show"  # keeps asking, and never goes through the door
    SLEEPER = "sleeper"  # its phone goes to sleep, and wakes up again


@dataclass(frozen=True, slots=True)
class CrowdSettings:
    """Size and temper of a crowd. Shares are of all visitors; what they leave over are patient browsers."""

    visitors: int = 1_500
    arrive_within_s: float = 10.0
    seed: int = 1
    leavers: float = 0.3
    no_shows: float = 0.3
    sleepers: float = 0.1
    apps: float = 0.1
    reloaders: float = 0.05
    sleep_s: tuple[float, float] = (60.0, 180.0)
    customers: int = 5  # ordinary ones, who ask for their balance once a second

    def __post_init__(self) -> None:
        shares = {
            "leavers": self.leavers,
            "no-shows": self.no_shows,
            "sleepers": self.sleepers,
            "apps": self.apps,
            "reloaders": self.reloaders,
        }
        if not (min(shares.values()) >= 0 and sum(shares.values()) <= 1 + 1e-9):  # nor may one be no number
            told = ", ".join(f"{name} {share:g}" for name, share in shares.items())
            msg = f"the shares of a crowd are 0 or more and add up to at most 1, not {sum(shares.values()):g}: {told}"
            raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Plan:
    """One visitor, decided beforehand to the last retry, so that chance cannot favour one of the two runs."""

    name: str
    kind: Kind
    arrives_s: float
    key: str  # what it joins with: 128 random bits
    payout_key: str
    points: int
    tries: int  # fails in a row after which it gives up
    patience_s: float  # how long it waits for one answer
    retry_s: float
    think_s: float  # between seeing the form and sending it
    leaves_after_s: float | None = None
    sleeps_after_s: float | None = None
    sleep_s: float = 0.0
    reload_s: float | None = None


def plan_crowd(settings: CrowdSettings) -> tuple[Plan, ...]:
    """The crowd in order of arrival; the same settings give the same crowd, to the bit."""
    random = Random(settings.seed)
    # A flash crowd: densest at once, thinning out to nothing at the end (a triangle: the peak is twice the mean).
    arrivals_s = sorted(settings.arrive_within_s * random.betavariate(1, 2) for _ in range(settings.visitors))
    kinds = _kinds(settings)
    random.shuffle(kinds)
    return tuple(
        _plan_visitor(f"v{index:06d}", kind, at_s, settings, random)
        for index, (kind, at_s) in enumerate(zip(kinds, arrivals_s, strict=True))
    )


def _kinds(settings: CrowdSettings) -> list[Kind]:
    """Exact shares, not drawn ones: a small crowd must not be without its leavers by chance."""
    shares = {
        Kind.LEAVER: settings.leavers,
        Kind.NO_SHOW: settings.no_shows,
        Kind.SLEEPER: settings.sleepers,
        Kind.APP: settings.apps,
        Kind.RELOADER: settings.reloaders,
    }
    kinds = [kind for kind, share in shares.items() for _ in range(round(share * settings.visitors))]
    return (kinds + [Kind.BROWSER] * settings.visitors)[: settings.visitors]


def _plan_visitor(name: str, kind: Kind, arrives_s: float, settings: CrowdSettings, random: Random) -> Plan:
    # Every number is drawn for every kind, so that other shares change who does what, and not what they are like.
    key, payout_key = f"{random.getrandbits(128):032x}", f"{random.getrandbits(128):032x}"
    points, tries = random.randint(1, 1_000), random.randint(4, 8)
    retry_s, think_s = random.uniform(0.5, 2.0), random.uniform(0.3, 1.5)
    leaves_after_s, sleeps_after_s = random.uniform(3.0, 20.0), random.uniform(1.0, 10.0)
    sleep_s, reload_s = random.uniform(*settings.sleep_s), random.uniform(2.0, 4.0)
    return Plan(
        name=name,
        kind=kind,
        arrives_s=arrives_s,
        key=key,
        payout_key=payout_key,
        points=points,
        tries=tries,
        patience_s=reload_s if kind is Kind.RELOADER else 5.0,
        retry_s=retry_s,
        think_s=think_s,
        leaves_after_s=leaves_after_s if kind is Kind.LEAVER else None,
        sleeps_after_s=sleeps_after_s if kind is Kind.SLEEPER else None,
        sleep_s=sleep_s if kind is Kind.SLEEPER else 0.0,
        reload_s=reload_s if kind is Kind.RELOADER else None,
    )
