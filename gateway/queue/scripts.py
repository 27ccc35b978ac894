"""Puts the Lua scripts together: each one's file, and of `root.lua`, the keys and the fields only what it names.

Most of what a small batch costs is fixed: a field of `pace` that is read and not needed costs 0.45 us, a key 0.1 us, and each
table and function is made anew at every call. So nothing is declared and nothing can be forgotten: a script gets what its
text names, as `QUEUE` (a key), `openings(...)` (a function), `p.passed` (a field of `pace`) or `s.burst` (one of `settings`).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

# In the scripts -> in Redis; `pace` is the first of every script. A name of several keys is a table from 0.
KEYS: Final[dict[str, tuple[str, ...]]] = {
    **{name.upper(): (name,) for name in ("pace", "settings", "queue", "called", "door", "held", "active", "revoked")},
    "SEEN": ("seen:0", "seen:1", "seen:2"),
    "KEPT": ("kept:0", "kept:1", "kept:2"),
    **{name.upper(): (name,) for name in ("spent", "board", "ranks", "arrivals", "entered", "audit")},
}
KEY_NAMES: Final = tuple(name for names in KEYS.values() for name in names)
TELLS: Final = re.compile(r"\btell\(")
NOT_STORED: Final = {"now"}  # of `p`: the time of this call


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    source: str
    sha: str
    keys: tuple[str, ...]  # of `KEY_NAMES`, as the source numbers them
    tells: bool = (
        False  # its answer comes in a pair: the event for the record, '' where nothing happened, and the answer
    )


def _load(name: str) -> Script:
    folder = files("gateway.queue") / "lua"
    source, keys = assemble(*((folder / f"{one}.lua").read_text() for one in ("root", name)))
    sha = hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest()
    return Script(name, source, sha, keys, TELLS.search(source) is not None)


def assemble(root: str, script: str) -> tuple[str, tuple[str, ...]]:
    """The source, and the names of its keys. Comments stay behind: they would count as naming what they speak of."""
    constants, *functions = re.split(r"^(?=local function )", _without_comments(root), flags=re.MULTILINE)
    text = _without_comments(script)
    for function in reversed(functions):  # each calls only those before it
        if re.search(rf"\b{function.split()[2].partition('(')[0]}\(", text):
            text = function + text
    text = _reader("PACE", "p", text, "run") + _reader("SETTINGS", "s", text) + constants + text
    used = [name for name in KEYS if re.search(rf"\b{name}\b", text)]
    keys = tuple(key for name in used for key in KEYS[name])
    text = "".join(_local(name, keys.index(KEYS[name][0]) + 1) for name in used) + text
    return _answering_in_pairs(text) if TELLS.search(text) else text, keys


def _answering_in_pairs(text: str) -> str:
    """All of it in one function, whatever way it returns: what a closure shares with the outside costs each call."""
    return f"local event = ''\nlocal function transition()\n{text}end\nlocal answer = transition()\nreturn {{event, answer}}\n"


def _without_comments(source: str) -> str:
    return re.sub(r"[ \t]*--.*", "", source)


def _local(name: str, first: int) -> str:
    if len(KEYS[name]) == 1:
        return f"local {name} = KEYS[{first}]\n"
    return f"local {name} = {{[0] = {', '.join(f'KEYS[{first + i}]' for i in range(len(KEYS[name])))}}}\n"


def _reader(key: str, variable: str, text: str, *words: str) -> str:
    """The function that reads a hash: what is named as a table of numbers, 0 where there is none; then `words` as they are."""
    named = re.findall(rf"\b{variable}\.([a-z_]+)", text)
    saved = re.findall(r"'([a-z_]+)'", " ".join(re.findall(rf"\bsave\({variable}, ([^)]*)\)", text)))
    fields = sorted({*named, *saved} - NOT_STORED)
    asked = ", ".join(f"'{field}'" for field in (*fields, *words))
    values = ", ".join(f"{field} = tonumber(row[{i}]) or 0" for i, field in enumerate(fields, 1))
    others = "".join(f", row[{i}]" for i, _ in enumerate(words, len(fields) + 1))
    return f"""local function read_{key.lower()}()
  local row = redis.call('HMGET', {key}, {asked})
  return {{{values}}}{others}
end
"""


SCRIPTS: Final = {
    name: _load(name)
    for name in (
        *("checkin", "mark", "tick", "upkeep", "claim", "enter", "touch", "leave", "release"),
        *("settings", "stock", "reset", "heal", "respend", "bypass", "census", "read", "last"),
    )
}
