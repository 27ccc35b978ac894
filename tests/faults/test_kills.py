"""Gateways killed with -9 again and again under load, by the bank's own log."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

import pytest

from gateway.tasks import Owner
from tests.faults.people import Crowd, patient
from tests.faults.scene import SEED, Scene, open_scene, replayed
from tests.web.gatewayfixture import until

pytestmark = pytest.mark.faults

KILLS = 12
PEOPLE = 1_500
RATE_S = 30
BETWEEN_S = (1.0, 4.0)


async def kill_in_turns(scene: Scene, random: Random) -> list[str]:
    """One of three at a time dies and comes back; answers what they wrote."""
    said = []
    for _ in range(KILLS):
        await asyncio.sleep(random.uniform(*BETWEEN_S))
        victim = random.choice(scene.gateways)
        said.append(await victim.kill())
        await asyncio.sleep(random.uniform(0.0, 1.0))
        await victim.start()
        await until(lambda: victim in scene.balancer.ready, 15)  # noqa: B023
    return said


async def test_one_of_three_gateways_dies_again_and_again(tmp_path: Path) -> None:
    """Promises 1, 3, 4, 5 and 11: nobody loses a place or enters twice, the door never opens too wide, and all get in."""
    with replayed(SEED) as seed:
        async with open_scene(tmp_path, rate_s=RATE_S, burst=RATE_S) as scene:
            crowd, owner = Crowd(scene.balancer.port, patient(PEOPLE, seed, within_s=5)), Owner()
            crowd.start()
            try:
                killing = owner.start(kill_in_turns(scene, Random(seed)), "kills")
                said = await killing
                await crowd.until_all_have_ended(PEOPLE / RATE_S + 60)
            finally:
                await owner.close()
                await crowd.close()
            assert not any("Traceback" in text for text in said)
            assert crowd.inside() == PEOPLE
            assert all(len(journey.numbers) == 1 for journey in crowd.journeys), "promise 5: a number changed"
            assert {what.rpartition(" ")[2] for what in crowd.failures} <= {
                "IncompleteReadError",
                "ConnectionResetError",
            }
            scene.assert_rate()
            scene.assert_one_entry_each(crowd)
            scene.assert_order(crowd)
            scene.assert_record(is_whole=True)
            assert crowd.grown == []
