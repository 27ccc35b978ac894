"""How scripts are put together: what a script names it gets, and nothing else, since each field costs every call."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest

from gateway.queue.scripts import KEY_NAMES, SCRIPTS, assemble

ROOT = """local call = redis.call
-- QUEUE and p.forgotten are spoken of here only
local function first(p) return p.one end
local function second(p) return first(p) + s.limit end
local function third(p) return call('GET', SEEN[p.two]) end
"""


def test_a_script_gets_what_it_names_and_what_that_names() -> None:
    """Promise 15: fields, keys and functions by use, through the functions it calls; comments do not count."""
    source, keys = assemble(ROOT, "-- third(p) reads DOOR\nsecond(p)\nsave(p, 'kept')\np.now = 1")
    assert keys == ("pace", "settings")
    assert "'HMGET', PACE, 'kept', 'one', 'run')" in source
    assert "'HMGET', SETTINGS, 'limit')" in source
    assert "third" not in source
    source, keys = assemble(ROOT, "third(p) call('ZCARD', QUEUE)")
    assert keys == ("pace", "settings", "queue", "seen:0", "seen:1", "seen:2")
    assert "local QUEUE = KEYS[3]\nlocal SEEN = {[0] = KEYS[4], KEYS[5], KEYS[6]}" in source
    assert "'HMGET', PACE, 'two', 'run')" in source


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_reads_the_whole_root(name: str) -> None:
    """Promise 15: what is fixed in a call is most of the cost of a small batch."""
    script = SCRIPTS[name]
    (fields,) = re.findall(r"'HMGET', PACE, (.*), 'run'\)", script.source)
    assert len(fields.split(", ")) <= {"heal": 33, "census": 42, "tick": 22, "upkeep": 23}.get(name, 20)
    assert set(script.keys) <= set(KEY_NAMES)
    assert script.keys[:2] == ("pace", "settings")


def test_functions_of_the_root_call_only_those_before_them() -> None:
    """What `assemble` builds on: it goes through them once, from the last to the first."""
    root = (files("gateway.queue") / "lua" / "root.lua").read_text()
    blocks = re.split(r"^(?=local function )", re.sub(r"--.*", "", root), flags=re.MULTILINE)[1:]
    names = [block.split()[2].partition("(")[0] for block in blocks]
    for i, block in enumerate(blocks):
        assert not [name for name in names[i + 1 :] if re.search(rf"\b{name}\(", block)]
