"""Observes all three programs and writes observed.json and the generated part of docs/conformance.md; on a quiet machine."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from tests.conformance.corpus import CASES
from tests.conformance.programs import REFEREES, gateway, referee, version_of
from tests.conformance.run import run
from tests.conformance.table import BEGIN, PAGE, RECORD, Observed, rendered
from tests.conformance.truncation import truncations
from tests.conftest import redis_server

ROUNDS = 5  # where a close overtakes what is still sent, it is chance what is seen


async def observed_of(name: str, folder: Path) -> Observed:
    cases: dict[str, set[str]] = {case.name: set() for case in CASES}
    cuts: dict[str, set[str]] = {}
    async with referee(name, folder / name) as program:
        for _ in range(ROUNDS):
            for case, (observation, _, _) in (await run(program, CASES)).items():
                cases[case].add(observation.text)
            for kind, text in (await truncations(program)).items():
                cuts.setdefault(kind, set()).add(text)
    return {
        "version": version_of(name),
        "cases": {case: sorted(seen) for case, seen in cases.items()},
        "truncations": {kind: sorted(seen) for kind, seen in cuts.items()},
    }


async def observe_all() -> Observed:
    server = redis_server()
    server.start()
    try:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            found = await asyncio.gather(*(observed_of(one, folder) for one in REFEREES))
            async with gateway(folder, server.url) as (program, _):
                ours = await truncations(program)
    finally:
        server.remove()
    return dict(zip(REFEREES, found, strict=True)) | {
        "gateway": {"truncations": {kind: [text] for kind, text in ours.items()}}
    }


def main() -> None:
    observed = asyncio.run(observe_all())
    RECORD.write_text(json.dumps(observed, indent=1) + "\n")
    intro, _, _ = PAGE.read_text().partition(BEGIN)
    PAGE.write_text(intro + BEGIN + "\n" + rendered(observed))
    sys.stdout.write(f"wrote {RECORD.name} and {PAGE.name}\n")


if __name__ == "__main__":
    main()
