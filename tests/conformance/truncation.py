"""Answers that end, in order or by a reset, behind every one of their bytes: which of them look whole."""

from __future__ import annotations

from itertools import groupby
from typing import Final

from tests.conformance.case import HOST, Act, Case, Must, Wait
from tests.conformance.client import observe
from tests.conformance.programs import OPEN, Program

HEAD: Final = b"HTTP/1.1 200 OK\r\nDate: x\r\n"
ANSWERS: Final = {
    "length": HEAD + b"Content-Length: 12\r\n\r\nhello, world",
    "chunked": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n",
    "until close": HEAD + b"\r\nhello, world",
}
VERSIONS: Final = ("1.1", "1.0")  # of the client: to one of 1.0 chunks are no way to tell the end
ENDS: Final = {"end": (Act.HALF,), "reset": (Wait(0.002), Act.RESET)}  # so that the bytes are there before the reset is


def cases(framing: str, version: str, end: str) -> list[Case]:
    """One for each byte that may be the last one, the whole answer's last byte among them."""
    answer = ANSWERS[framing]
    request = b"GET /~/x HTTP/" + version.encode() + b"\r\n" + HOST + b"\r\n"
    return [
        Case(f"cut-{at}", "9112 8", "", (request,), Must.CUT, "", answer=(Act.BODY, answer[:at], *ENDS[end]))
        for at in range(len(answer) + 1)
    ]


async def truncations(program: Program) -> dict[str, str]:
    """What became of each kind of answer by where it was cut: `0-44 nothing whole, 45-57 whole`."""
    found = {}
    for framing in ANSWERS:
        for version in VERSIONS:
            for end in ENDS:
                tried = cases(framing, version, end)
                seen = [(await observe(case.placed(OPEN, b""), program.port, program.upstream))[0] for case in tried]
                found[f"{framing}, HTTP/{version}, {end}"] = _ranges(
                    ["refused" if one.is_refused else "whole" for one in seen]
                )
    return found


def _ranges(kinds: list[str]) -> str:
    told, at = [], 0
    for kind, same in groupby(kinds):
        count = len(list(same))
        told.append(f"{kind} {at}-{at + count - 1}" if count > 1 else f"{kind} {at}")
        at += count
    return ", ".join(told)


def head_bytes(framing: str) -> int:
    return ANSWERS[framing].index(b"\r\n\r\n") + 4
