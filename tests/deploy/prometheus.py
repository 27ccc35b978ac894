"""Debian's Prometheus with the rules of deploy/, sixty times as fast: every minute of theirs is a second here."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Collection, Iterable
from math import isfinite
from pathlib import Path
from time import monotonic
from typing import Any, Final, Self

import aiohttp
import yaml

from tests.conftest import free_port
from tests.serving import Process

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
RULES: Final = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
DEADLINE_S: Final = 25.0


def rules(file: Path) -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(file.read_text())["groups"] for rule in group["rules"]]


ALERTS: Final = {rule["alert"]: rule for file in RULES for rule in rules(file) if "alert" in rule}
RECORDS: Final = {rule["record"]: rule for file in RULES for rule in rules(file) if "record" in rule}


def faster(text: str) -> str:
    """Minutes become seconds, seconds a sixtieth of it, and `5 * 60` becomes `5 * 1`; days stay."""
    text = re.sub(r"\b(\d+)s\b", lambda found: f"{int(found[1]) * 1000 // 60}ms", text)
    return re.sub(r"\b60\b", "1", re.sub(r"\b(\d+)m\b", r"\1s", text))


class Prometheus:
    """Scrapes the operator ports of gateways, with deploy/prometheus.yml but for their addresses and the pace."""

    def __init__(self, folder: Path, gateways: Iterable[Process]) -> None:
        targets = ", ".join(f'"127.0.0.1:{gateway.operator}"' for gateway in gateways)
        given = (DEPLOY / "prometheus.yml").read_text().replace("scrape_timeout: 5s", "scrape_timeout: 15s")
        self._config = folder / "prometheus.yml"
        self._config.write_text(faster(given).replace('"127.0.0.1:9090"', targets))
        (folder / "prometheus" / "rules").mkdir(parents=True)
        for file in RULES:
            (folder / "prometheus" / "rules" / file.name).write_text(faster(file.read_text()))
        self._folder, self._port = folder, free_port()

    async def __aenter__(self) -> Self:
        command = ["prometheus", f"--config.file={self._config}", f"--storage.tsdb.path={self._folder / 'tsdb'}"]
        command += [f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=warn"]
        self._log = (self._folder / "prometheus.log").open("wb")
        self._process = await asyncio.create_subprocess_exec(*command, stdout=self._log, stderr=self._log)
        self._http = aiohttp.ClientSession(f"http://127.0.0.1:{self._port}")
        self.began_s = 0.0
        async with asyncio.timeout(DEADLINE_S):
            while not self.began_s:
                assert self._process.returncode is None, (self._folder / "prometheus.log").read_text()
                await asyncio.sleep(0.05)
                try:
                    self.began_s = float((await self._ask("query", query="time()"))["result"][1])
                except (aiohttp.ClientError, ValueError):
                    continue  # it does not listen yet, or reads its data still
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.close()
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        self._log.close()

    async def seen(self, query: str) -> list[float]:
        """Every finite value that the query had at any second since the start, as a dashboard asks it."""
        now_s = float((await self._ask("query", query="time()"))["result"][1])
        found = await self._ask("query_range", query=query, start=self.began_s, end=now_s, step=1)
        values = [float(value) for series in found["result"] for _, value in series["values"]]
        return [value for value in values if isfinite(value)]

    async def fired(self) -> set[str]:
        """The alerts that fired at any time since the start."""
        found = await self._ask("query", query='last_over_time(ALERTS{alertstate="firing"}[5m])')
        return {series["metric"]["alertname"] for series in found["result"]}

    async def until_fired(self, *alerts: str) -> None:
        async def missing() -> set[str]:
            return set(alerts) - await self.fired()

        await self._until(missing)

    async def until_over(self, query: str) -> None:
        """Wait until the query, a comparison, finds nothing any more."""

        async def left() -> Any:
            return (await self._ask("query", query=query))["result"]

        await self._until(left)

    async def _until(self, left: Callable[[], Awaitable[Collection[Any]]]) -> None:
        last_s = monotonic() + DEADLINE_S
        while found := await left():
            assert monotonic() < last_s, f"still to come: {found}"
            await asyncio.sleep(0.1)

    async def faulty_rules(self) -> list[tuple[str, str]]:
        """Rules that could not be evaluated, or never were, and why."""
        found = await self._ask("rules")
        every = [rule for group in found["groups"] for rule in group["rules"]]
        assert {rule["name"] for rule in every} == {*ALERTS, *RECORDS}
        return [(rule["name"], rule.get("lastError", "")) for rule in every if rule["health"] != "ok"]

    async def _ask(self, call: str, **parameters: Any) -> dict[str, Any]:
        async with self._http.get(f"/api/v1/{call}", params=parameters) as answer:
            document = await answer.json(content_type=None)
        assert document["status"] == "success", (parameters, document)
        found: dict[str, Any] = document["data"]
        return found
