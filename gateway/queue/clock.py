"""Owns what time it is by Redis, between two readings of it, for everything that is signed or remembered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class RedisClock:
    """Redis time as of the last board plus monotonic time; before the first board, the process's own wall clock."""

    monotonic: Callable[[], float]
    wall_offset_s: float
    redis_offset_s: float | None = None

    def now_s(self) -> float:
        offset = self.wall_offset_s if self.redis_offset_s is None else self.redis_offset_s
        return self.monotonic() + offset

    def learn(self, redis_now_us: int) -> None:
        self.redis_offset_s = redis_now_us / 1e6 - self.monotonic()
