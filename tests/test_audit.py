"""The record, end to end: several gateways write what they cause before they answer, and what they wrote is judged."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from gateway.cli import main
from gateway.model import Bypass, Rate, Room
from gateway.queue.connect import open_redis
from gateway.queue.record import read_file, read_stream
from gateway.queue.scripts import SCRIPTS
from gateway.rules.audit import Judged, Verdict, check
from gateway.rules.events import Event
from gateway.scrape import render
from tests.conftest import RedisServer
from tests.web.gatewayfixture import APP, House, OpenHouse, Visitor, house_opener, protecting, until, until_answer

open_house = pytest.fixture(house_opener)

GATEWAYS = 3
PEOPLE = 60


async def recorded(
    open_house: OpenHouse, room: Room, folder: Path, *, gateways: int = GATEWAYS
) -> tuple[House, list[Path]]:
    """A house whose gateways have a file each."""
    house = await open_house(room, gateways=0)
    files = [folder / f"audit-{i}.jsonl" for i in range(gateways)]
    for file in files:
        house.config = replace(house.config, audit_file=str(file))
        await house.start()
    await house.idle(room)
    return house, files


async def stream_of(valkey: RedisServer, room: Room) -> list[Event]:
    connection = await open_redis(valkey.url, "")
    try:
        return await read_stream(connection, room.id)
    finally:
        await connection.close()


def judged_files(files: Sequence[Path], room: Room) -> Judged:
    return check(*(read_file(file).rooms[room.id] for file in files))


async def visit(house: House, room: Room, index: int) -> str:
    """Join at one gateway, claim at the next; the subject that the bank was told."""
    visitor: Visitor = house.visitor(house.gateways[index % len(house.gateways)])
    assert (await visitor.join(room, f"{index:022}")).status in {200, 201}
    visitor.port = house.gateways[(index + 1) % len(house.gateways)].ports[0]
    await until_answer(lambda: visitor.claim(room), lambda answer: answer.status == 200, 30)
    answer = await visitor.get(f"/{room.id}/{index}")
    assert answer.status == 200
    return next(fields["Waitroom-Subject"] for _, path, fields in house.bank.requests if path == f"/{room.id}/{index}")


async def live(house: House, room: Room) -> list[str]:
    """Everything that may happen to a room in a few seconds, over all its gateways; the subjects of those who came in."""
    instant = await house.visitor().ask("GET", f"/{room.id}/at-once", APP)
    assert instant.status == 200
    for i in range(7):
        assert (await house.visitor(house.gateways[i % GATEWAYS]).get(f"/{room.id}/static/{i}")).status == 200
    quitter = house.visitor()
    await quitter.join(room, "q" * 22)
    assert (await quitter.ask("DELETE", f"/_waitroom/{room.id}/ticket")).status == 204
    subjects = [*(await asyncio.gather(*(visit(house, room, i) for i in range(PEOPLE))))]
    await house.patch(room, house.gateways[1], drain_rate="200/s", burst=80)
    subjects += await asyncio.gather(*(visit(house, room, i) for i in range(PEOPLE, PEOPLE + 10)))
    await house.post(room, "reports", {"released": subjects[:3]})
    await house.post(room, "reset", {"admissions": False})
    return subjects


async def test_what_several_gateways_wrote_is_whole_and_kept(
    open_house: OpenHouse, valkey: RedisServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Promises 1 to 4, after the fact: files and stream tell the same, no number is missing, and every entry is there."""
    room = protecting("audited", drain_rate=Rate(60, "s"), burst=15, active_max=500)
    room = replace(room, bypass=(Bypass("static", path=f"/{room.id}/static/*"),))
    house, files = await recorded(open_house, room, tmp_path)
    subjects = await live(house, room)
    await house.close()

    stream = await stream_of(valkey, room)
    for judged in (
        judged_files(files, room),
        check(stream),
        check(stream, *(read_file(one).rooms[room.id] for one in files)),
    ):
        assert [str(one) for one in judged.violations] == []
        assert (judged.verdict, judged.first, judged.last) == (Verdict.KEPT, 1, len(stream))
        assert judged.entries == {"claim": PEOPLE + 10, "instant": 1}
        assert judged.bypassed == {"static": 7}
        assert judged.kinds["reset"] == 1
        assert judged.kinds["leave"] == 1
    inside = {one for event in stream if event.kind == "claim" for one in event.ids["entered"]}
    assert inside == {subject.replace("-", "") for subject in subjects}
    assert {event.text for event in stream if event.kind in {"settings", "reset"}} == {"local"}
    alone = judged_files(files[:1], room)
    assert (alone.verdict, alone.violations) == (Verdict.UNDECIDED, []), (
        "two gateways' events are missing, and nobody is blamed"
    )

    assert await asyncio.to_thread(main, ["audit", "check", *map(str, files)]) == 0
    assert f"room {room.id}: {len(stream)} events, 1 to {len(stream)}" in (told := capsys.readouterr().out)
    assert "KEPT" in told
    assert await asyncio.to_thread(main, ["audit", "check", "--redis", valkey.url, "--room", room.id]) == 0
    assert await asyncio.to_thread(main, ["audit", "check", str(files[0])]) == 2
    assert "CANNOT BE JUDGED" in capsys.readouterr().out


PLANTED = {
    "a door that grants above the rate": ("claim", "p.credit - UNIT * #granted", "p.credit", 1),
    "a door above the cap": ("claim", "if s.active_max - active < permits", "if false", 2),
    "a door that lets the highest in first": (
        "claim",
        "call('ZRANGE', DOOR, 0, 49",
        "call('ZREVRANGE', DOOR, 0, 49",
        3,
    ),
    "a place that may be used again": ("claim", "call('SETBIT', SPENT, number, 1)", "", 4),
}


@pytest.mark.parametrize("fault", PLANTED)
async def test_a_planted_fault_is_found_in_the_files(
    open_house: OpenHouse,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    fault: str,
) -> None:
    """Promises 1 to 4: a doctored script is not believed, and the command says so with code 1."""
    name, text, instead, promise = PLANTED[fault]
    source = SCRIPTS[name].source
    assert text in source, "plant this fault anew"
    doctored = source.replace(text, instead)
    sha = hashlib.sha1(doctored.encode(), usedforsecurity=False).hexdigest()
    monkeypatch.setitem(SCRIPTS, name, replace(SCRIPTS[name], source=doctored, sha=sha))
    room = protecting("doctored", drain_rate=Rate(20, "s"), burst=10, active_max=15 if promise == 2 else 500)
    house, files = await recorded(open_house, room, tmp_path, gateways=1)
    people = [house.visitor() for _ in range(30)]
    for index, one in enumerate(people):
        await one.join(room, f"{index:022}")
    if promise == 4:  # the number that was used comes back: it must not
        await _use_twice(house, room, people[0])
    else:
        await asyncio.gather(*(_claim_for(one, room, 4) for one in people))
    await house.close()
    judged = judged_files(files, room)
    assert judged.verdict is Verdict.BROKEN
    assert promise in {one.promise for one in judged.violations}
    assert await asyncio.to_thread(main, ["audit", "check", str(files[0])]) == 1
    assert "BROKEN" in capsys.readouterr().out


async def _claim_for(visitor: Visitor, room: Room, seconds: float) -> None:
    """Claim until let in, or until it is time."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await until_answer(lambda: visitor.claim(room), lambda answer: answer.status == 200, 60)


async def _use_twice(house: House, room: Room, visitor: Visitor) -> None:
    """Enter, be released, and show the used ticket again."""
    ticket = dict(visitor.cookies)
    await until_answer(lambda: visitor.claim(room), lambda answer: answer.status == 200)
    await visitor.get(f"/{room.id}/me")
    await house.post(room, "reports", {"released": [house.bank.last["Waitroom-Subject"]]})
    house.queue(room).spent.clear()  # the gateway's own memory would refuse it without asking
    visitor.cookies = ticket
    await visitor.see(room)
    await _claim_for(visitor, room, 5)


async def test_an_entry_is_in_the_file_before_its_answer(open_house: OpenHouse, tmp_path: Path) -> None:
    """Promise 4, provable: whoever holds an admission is in the file of the gateway that gave it, at that moment."""
    room = protecting("written")
    house, (file,) = await recorded(open_house, room, tmp_path, gateways=1)
    for index in range(5):
        await house.visitor().enter(room, f"{index:022}")
        claims = [event for event in read_file(file).rooms[room.id] if event.kind == "claim"]
        assert sum(len(event.ids["entered"]) for event in claims) == index + 1
    await house.patch(room, paused=True)
    assert read_file(file).rooms[room.id][-1].figures["paused"] == 1


async def test_a_loss_of_redis_leaves_a_record_that_is_kept(
    open_house: OpenHouse, valkey: RedisServer, tmp_path: Path
) -> None:
    """Promises 1 to 4: what was in Redis is gone, what gateways wrote is not, and the numbers go on behind it."""
    room = protecting("lost", drain_rate=Rate(30, "s"), burst=8, active_max=500)
    house, files = await recorded(open_house, room, tmp_path)
    await asyncio.gather(*(visit(house, room, i) for i in range(20)))
    last = check(await stream_of(valkey, room)).last
    with redis.Redis(unix_socket_path=str(valkey.socket)) as client:
        client.delete(*client.keys(f"waitroom:{{{room.id}}}:*"))
    await until(lambda: all(house.queue(room, one).memory.events > 10_000 for one in house.gateways), 30)
    await house.close()
    judged = judged_files(files, room)
    assert [str(one) for one in judged.violations] == []
    assert judged.verdict is Verdict.KEPT
    assert judged.kinds["heal"] >= 2
    assert judged.left_out
    assert judged.left_out[0][0] > last - 5
    assert judged.last > 10_000
    after = check(await stream_of(valkey, room))
    assert (after.verdict, after.first > 10_000) == (Verdict.KEPT, True)


async def test_a_full_disk_stops_nobody_and_is_counted(
    open_house: OpenHouse, valkey: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Promises 7 and 8: the gateway serves on, says so once, counts each event, and the stream still has them."""
    room = protecting("full")
    house = await open_house(room, gateways=0)
    house.config = replace(house.config, audit_file="/dev/full")
    with caplog.at_level(logging.INFO, "waitroom.record"):
        gateway = await house.start()
        await house.idle(room)
        for index in range(3):
            await house.visitor().enter(room, f"{index:022}")
    assert [record.message for record in caplog.records] == ["audit_not_written"]
    stream = await stream_of(valkey, room)
    assert check(stream).verdict is Verdict.KEPT
    scrape = render(gateway.metrics.collect(), "")[0].decode()
    (lost,) = (line for line in scrape.splitlines() if line.startswith("waitroom_audit_lost_total{"))
    assert 7 <= float(lost.split()[-1]) <= check(await stream_of(valkey, room)).last


# --- the command on what it may be given -----------------------------------------------------------------------------


def test_the_command_is_used_wrongly_with_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["audit", "check"]) == 2
    assert main(["audit", "check", "--redis", "redis://127.0.0.1:1"]) == 2
    assert main(["audit", "check", str(tmp_path / "none.jsonl")]) == 2
    assert main(["audit", "check", "--redis", "embedded", "--room", "a"]) == 2
    assert main(["audit", "check", "--redis", "redis://127.0.0.1:1", "--room", "a"]) == 2
    out, used_wrongly = capsys.readouterr()
    assert used_wrongly.count("\n") == 2
    assert "No such file" in out
    assert out.count("CANNOT BE JUDGED") == 3
    assert "Traceback" not in out + used_wrongly


def test_foreign_and_cut_lines_are_passed_over_and_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A log that got mixed in, and a last line whose writer died: what is left is judged."""
    from gateway.rules.events import line
    from tests.rules.recorded import lived

    file, whole = tmp_path / "a.jsonl", [line("cashout", event) for event in lived().events]
    file.write_bytes(b"".join(whole[:4]) + b'{"level": "info"}\n\xff\xfe\n' + b"".join(whole[4:-1]) + whole[-1][:50])
    assert main(["audit", "check", str(file)]) == 0
    told = capsys.readouterr().out
    assert "2 line(s) were passed over" in told
    assert "the last line is cut short" in told
    assert "static 7" in told
    file.write_bytes(b"")
    assert main(["audit", "check", str(file)]) == 2
    assert "it holds no event" in capsys.readouterr().out
    file.write_bytes(b"".join(whole[:4]) + b"".join(whole[6:]))
    assert main(["audit", "check", str(file)]) == 2
    assert "missing: events 5 to 6" in capsys.readouterr().out
    file.write_bytes(b"".join(whole))
    assert main(["audit", "check", str(file), "--room", "another"]) == 2
    assert "no event of this room" in capsys.readouterr().out
