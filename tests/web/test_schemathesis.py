"""The published contract against a running gateway: schemathesis makes requests of it, and holds every answer to it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import requests
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode, openapi
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import Failure, FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.conftest import RedisServer
from tests.serving import ROOM, Process, running
from tests.web.gatewayfixture import ManualBank

EXAMPLES = 3  # for each of the calls and visitors, with what the contract allows and with what it does not
# Not asked for: that bad data is refused. A bad token is no token and a bad `return_to` is none, by contract (promise 13).
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
# Its first place holds the door's only slot, and keeps the others waiting.
LATER = ROOM | {
    "id": "later",
    "match": [{"path": "/later/*"}],
    "entry": "/later/",
    "drain_rate": "1/h",
    "burst": 2,
    "active_max": 1,
}


class Contract:
    """A running gateway's own description, and what its answers were."""

    def __init__(self, url: str, held_to: Mapping[str, Any] | None = None) -> None:
        self.url = url
        self.statuses: Counter[str] = Counter()
        with requests.Session() as session:
            published = session.get(f"{url}/_waitroom/openapi.json", timeout=10).json()
            ticket = session.post(f"{url}/_waitroom/later/ticket", headers={"Waitroom-Transport": "header"}, timeout=10)
        self.schema = openapi.from_dict(dict(held_to or published))
        self.schema.config.base_url = url
        # Which room is asked (None: as the strategy says), and with what: not drawn, or a run may miss one of them.
        self.visitors: tuple[tuple[str | None, dict[str, str]], ...] = (
            ("later", {}),
            ("later", {"Waitroom-Ticket": ticket.json()["ticket"]}),
            ("cashout", {"Waitroom-Ticket": "a.b.c"}),
            (None, {}),
        )

    def hold(self) -> None:
        """Raises what breaks the contract, with the request that showed it."""
        for found in self.schema.get_all_operations():
            for mode, visitor in product(GenerationMode, self.visitors):
                self._hold(_operation(found), mode, *visitor)

    def _hold(self, operation: Any, mode: GenerationMode, room: str | None, token: dict[str, str]) -> None:
        @hypothesis.seed(1)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate],
        )
        @given(operation.as_strategy(generation_mode=mode))
        def try_call(case: Any) -> None:
            if room is not None and "room" in (case.path_parameters or {}):
                case.path_parameters["room"] = room
            with requests.Session() as session:
                answer = case.call(session=session, headers=token, allow_redirects=False, timeout=30)
            self.statuses[f"{operation.label} {answer.status_code}"] += 1
            case.validate_response(answer, checks=CHECKS)

        try:
            try_call()
        except hypothesis.errors.Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE  # nothing of this call can be wrong


def _operation(found: Any) -> Any:
    return found.ok()  # raises what is wrong with the description


@pytest.fixture
async def bank() -> Any:
    bank = ManualBank(headers={"Content-Type": "text/plain"})
    await bank.open()
    yield bank
    await bank.close()


async def test_answers_are_those_of_the_published_contract(
    valkey: RedisServer, bank: ManualBank, tmp_path: Path
) -> None:
    """Section 8: statuses, content types, headers and documents, for good requests and bad ones; no 5xx among them."""
    gateway = Process(tmp_path, valkey.url, bank.url, rooms=(ROOM, LATER))
    async with running(gateway):
        contract = await asyncio.to_thread(Contract, gateway.url)
        await asyncio.to_thread(contract.hold)
        for expected in (
            "GET /_waitroom/{room}/status 200",
            "POST /_waitroom/{room}/ticket 201",
            "GET /{protected} 200",
        ):
            assert contract.statuses[expected] > 0, contract.statuses

        # Plant a fault: a contract that promises something else is seen to be broken.
        published = contract.schema.raw_schema
        status = published["components"]["schemas"]["Status"]
        status["properties"]["waiting"] = {"type": "string"}
        with pytest.raises((Failure, FailureGroup), match=r"waiting|string"):
            await asyncio.to_thread(Contract(gateway.url, published).hold)
