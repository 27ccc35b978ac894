"""Documents for the tests of configuration: a good one, and what is said of it when something in it is changed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from gateway import config
from gateway.errors import ConfigError
from gateway.model import Config

SECRET: Final = "hunter2hunter2hunter2"

GOOD: Final = """
[server]
hosts = ["bank.example"]
trusted_proxies = ["10.0.0.0/24"]
[redis]
url = "redis://127.0.0.1/0"
[tokens]
signing_key_file = "key.pem"
[upstreams.bank]
urls = ["http://127.0.0.1:9000"]
[[rooms]]
id = "cashout"
match = [{ path = "/points/cashout/*" }]
upstream = "bank"
drain_rate = "50/s"
active_max = 2000
[default]
upstream = "bank"
"""


def furnish(folder: Path) -> Path:
    """The folder, with the files that the documents of these tests name."""
    (folder / "keys").mkdir()
    for name in ("key.pem", "keys/2026-11.pem", "keys/sre.token", "keys/bank.hmac"):
        file = folder / name
        file.write_text(f"{name.encode().hex():0<64}\n")
        file.chmod(0o600)
    return folder


def load(folder: Path, text: str, environ: Mapping[str, str] | None = None, *, dev: bool = False) -> Config:
    file = folder / "waitroom.toml"
    file.write_text(text)
    return config.load(file, environ or {}, dev=dev)


def faults(folder: Path, text: str, environ: Mapping[str, str] | None = None, *, dev: bool = False) -> list[str]:
    with pytest.raises(ConfigError) as refused:
        load(folder, text, environ, dev=dev)
    return refused.value.faults


def with_room(line: str) -> str:
    """The good document, with lines in its room that replace what it says of the same key."""
    key = line.partition("=")[0].strip()
    before, room = GOOD.split("[[rooms]]\n")
    return f"{before}[[rooms]]\n{line}\n" + re.sub(rf"(?m)^{re.escape(key)} = .*\n", "", room, count=1)


def only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]
