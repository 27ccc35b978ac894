"""Redis loses everything while thousands wait: killed and started again empty, and flushed in mid-drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis

from tests.faults.people import CALLS, PAGE, Crowd, Journey, Plan, patient
from tests.faults.scene import SEED, Scene, open_scene, replayed
from tests.serving import Line
from tests.web.gatewayfixture import until

pytestmark = pytest.mark.faults

PEOPLE = 2_400
RATE_S = 60
AWAY_S = 4.0
REPLAYS = 100
HOLD_S = 120  # one presence window at most


@asynccontextmanager
async def half_served(folder: Path, plans: Sequence[Plan]) -> AsyncIterator[tuple[Scene, Crowd]]:
    """A line of which a few hundred are in and 2,000 wait; then whatever the test does; then everybody gets in."""
    async with open_scene(folder, rate_s=RATE_S, burst=RATE_S) as scene:
        crowd = Crowd(scene.balancer.port, plans)
        crowd.start()
        try:
            await until(lambda: crowd.inside() >= 300, 60)
            yield scene, crowd
            await crowd.until_all_have_ended(PEOPLE / RATE_S + HOLD_S + 60)
        finally:
            await crowd.close()
        assert crowd.inside() == len(plans)
        assert crowd.failures == {}, "promise 8: no error for a loss of Redis"
        assert crowd.grown == [], "a position grew and no cause was told"
        for gateway in scene.gateways:
            assert "Traceback" not in gateway.log.read_text()
        scene.assert_rate()
        scene.assert_one_entry_each(crowd)
        scene.assert_order(crowd)
        scene.assert_record(is_whole=False)


class Insider:
    """One who is inside and reads on, whatever happens behind the door."""

    def __init__(self, scene: Scene) -> None:
        self._line = Line(scene.balancer.port)
        self.took_s: list[float] = []
        self.statuses: set[int] = set()
        self.is_over = False

    async def read(self, admission: str) -> None:
        clock = asyncio.get_running_loop().time
        while not self.is_over:
            began_s = clock()
            reply = await self._line.ask("GET", PAGE, {"Waitroom-Transport": "header", "Waitroom-Admission": admission})
            self.took_s.append(clock() - began_s)
            self.statuses.add(reply.status)
            await asyncio.sleep(0.1)
        self._line.close()


def kept(journeys: Sequence[Journey]) -> list[str]:
    """Who lost the number it had."""
    return [journey.plan.name for journey in journeys if len(journey.numbers) != 1]


async def replay(scene: Scene, journey: Journey) -> int:
    """What becomes of a used ticket that is shown at the door again: the status that is no "not yet"."""
    line = Line(scene.balancer.port)
    fields = {"Waitroom-Transport": "header", "Waitroom-Ticket": journey.ticket}
    while (reply := await line.ask("POST", CALLS + "admission", fields)).status == 202:
        line.close()
        await asyncio.sleep(reply.retry_after_s)
    line.close()
    return reply.status


async def test_redis_is_killed_and_comes_back_empty_with_two_thousand_waiting(tmp_path: Path) -> None:
    """Promises 1, 3, 4, 5, 7 and 8: everybody keeps the number, nobody enters twice, and those inside read on."""
    with replayed(SEED) as seed:
        waiting = patient(PEOPLE, seed, within_s=4)
        async with half_served(tmp_path, waiting) as (scene, crowd):
            assert crowd.in_line() > 2_000
            insider = Insider(scene)
            reading = asyncio.create_task(insider.read(next(one.admission for one in crowd.journeys if one.admission)))
            await asyncio.to_thread(scene.redis.kill)
            late = Crowd(scene.balancer.port, patient(50, seed + 1, within_s=AWAY_S / 2, prefix="late"))
            late.start()
            await asyncio.sleep(AWAY_S)
            inside = crowd.inside()
            await asyncio.to_thread(scene.redis.start)
            assert inside - 300 < RATE_S * 4, "nobody enters while Redis is away"
            await crowd.until_all_have_ended(PEOPLE / RATE_S + HOLD_S + 60)
            await late.until_all_have_ended(60)
            insider.is_over = True
            await reading
            assert insider.statuses == {200}
            assert all(journey.is_provisional for journey in late.journeys)
            last = max(number for journey in crowd.journeys for number in journey.numbers)
            assert min(journey.numbers[0] for journey in late.journeys) > last, "who came later stands later"
            await late.close()
        assert kept(crowd.journeys) == []


async def test_a_flush_in_mid_drain_costs_nobody_the_place(tmp_path: Path) -> None:
    """Promises 1, 3, 4 and 5: once, and again while it is being healed; who has entered does not enter again."""
    with replayed(SEED) as seed:
        async with half_served(tmp_path, patient(PEOPLE, seed, within_s=4)) as (scene, crowd):
            with redis.Redis(unix_socket_path=str(scene.redis.socket)) as client:
                entered = [journey for journey in crowd.journeys if journey.is_inside][:REPLAYS]
                client.flushall()
                await asyncio.sleep(3)
                client.flushall()
            answers = await asyncio.gather(*(replay(scene, journey) for journey in entered))
            assert set(answers) == {410}, "a ticket that had entered was good for another entry"
        assert kept(crowd.journeys) == []
