"""Owns the numbers this process saw spent, the newest kept: one bit each, where a dict of them takes 85 bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import Final

PIECE: Final = 1024  # consecutive numbers that share an integer
PIECES_MAX: Final = 8192  # 2.5 MB, if leavers are spread so thin; 8 million numbers


class Spent:
    """At most `numbers_max` numbers; the piece that has waited longest for another one is forgotten first, whole."""

    def __init__(self, numbers_max: int) -> None:
        self._numbers_max = numbers_max
        self._pieces: OrderedDict[int, int] = OrderedDict()  # number // PIECE -> bits
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, number: int) -> bool:
        return bool(self._pieces.get(number // PIECE, 0) >> number % PIECE & 1)

    def __iter__(self) -> Iterator[int]:
        for piece, bits in self._pieces.items():
            text = bin(bits)[:1:-1]  # bit 0 first
            at = text.find("1")
            while at >= 0:
                yield piece * PIECE + at
                at = text.find("1", at + 1)

    def add(self, number: int) -> None:
        piece, bit = divmod(number, PIECE)
        before = self._pieces.get(piece, 0)
        self._pieces[piece] = before | 1 << bit
        self._pieces.move_to_end(piece)
        self._count += not before >> bit & 1
        while self._count > self._numbers_max or len(self._pieces) > PIECES_MAX:
            self._count -= self._pieces.popitem(last=False)[1].bit_count()

    def pieces(self) -> dict[int, int]:
        """What a state file keeps: number // PIECE -> bits, oldest first."""
        return dict(self._pieces)

    def recall(self, pieces: Mapping[int, int]) -> None:
        for piece, bits in pieces.items():
            self._count += (bits & ~self._pieces.get(piece, 0)).bit_count()
            self._pieces[piece] = self._pieces.get(piece, 0) | bits

    def clear(self) -> None:
        self._pieces.clear()
        self._count = 0
