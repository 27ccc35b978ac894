"""What gateways tell edges that verify admissions themselves: the lowest epoch whose admissions count."""

from __future__ import annotations

import pytest

from tests.web.gatewayfixture import SHUT, OpenHouse, house_opener, protecting, until

open_house = pytest.fixture(house_opener)


async def test_boards_denials_and_proxied_answers_tell_the_epoch(open_house: OpenHouse) -> None:
    """Section 10: an edge hears of a reset from whatever a gateway answers; the upstream hears nothing of it."""
    room = protecting("epoch", drain_rate=SHUT, burst=2)
    house = await open_house(room)
    desk = house.gateway._desks[room.id]

    async def told() -> set[str]:
        inside = house.visitor()
        inside.cookies = {desk.admission_cookie: desk.new_admission(desk.random_id(), desk.now_s())[0]}
        answers = [
            await house.visitor().get(f"/_waitroom/{room.id}/board"),  # the express way
            await house.visitor().get(f"/_waitroom/{room.id}/board?usual"),
            await house.visitor().get(f"/{room.id}/"),
            await inside.get(f"/{room.id}/"),
        ]
        assert [answer.status for answer in answers] == [200, 200, 429, 200]
        assert "Waitroom-Epoch" not in house.bank.last
        return {answer.headers.get("Waitroom-Epoch", "missing") for answer in answers}

    (before,) = await told()
    await house.post(room, "reset", {"admissions": False})
    await until(lambda: house.queue(room).memory.epoch == 2)
    assert await told() == {before}  # those inside stay, so nothing changes for them
    await house.post(room, "reset", {"admissions": True})
    await until(lambda: house.queue(room).memory.admission_epoch == 3)
    assert int(before) < 3
    assert await told() == {"3"}


async def test_what_an_upstream_says_of_epochs_is_its_own(open_house: OpenHouse) -> None:
    """Promise 13: nobody but a gateway tells an edge which admissions count."""
    room = protecting("forged-epoch", drain_rate=SHUT)
    house = await open_house(room)
    house.bank.headers = {"Waitroom-Epoch": "99"}
    desk = house.gateway._desks[room.id]
    inside = house.visitor()
    inside.cookies = {desk.admission_cookie: desk.new_admission(desk.random_id(), desk.now_s())[0]}
    for target in (f"/{room.id}/", "/free"):
        assert "99" not in (await inside.get(target)).headers.getall("Waitroom-Epoch", [])
