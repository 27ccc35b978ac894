"""Redis Cluster for real: three masters; rooms lie in slots of their own and are served side by side."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
import redis

from gateway.model import Rate
from tests.conftest import free_port, until_so
from tests.web.gatewayfixture import opened, protecting, until_answer

DEADLINE_S = 15.0
MASTERS = 3
QUIET = subprocess.DEVNULL


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as ports:
        yield ports


@contextmanager
def running_cluster(folder: Path) -> Iterator[list[int]]:
    """The ports of three masters that have met and shared the slots."""
    ports = [free_port() for _ in range(MASTERS)]
    for port in ports:
        (folder / str(port)).mkdir()
    processes = [subprocess.Popen(command(port, folder / str(port)), stdout=QUIET) for port in ports]
    nodes = [f"127.0.0.1:{port}" for port in ports]
    try:
        until_all(ports, lambda client: client.ping())
        create = ["redis-cli", "--cluster", "create", *nodes, "--cluster-yes"]
        subprocess.run(create, check=True, stdout=QUIET, timeout=30)
        until_all(ports, lambda client: client.cluster("info")["cluster_state"] == "ok")
        yield ports
    finally:
        for process in processes:
            process.kill()
            process.wait()


def command(port: int, folder: Path) -> list[str]:
    options = {
        "port": port,
        "bind": "127.0.0.1",
        "dir": folder,
        "save": "",
        "maxmemory-policy": "noeviction",
        "cluster-enabled": "yes",
        "cluster-port": free_port(),
        "cluster-node-timeout": 2000,
    }
    return ["redis-server", *(word for name, value in options.items() for word in (f"--{name}", str(value)))]


def until_all(ports: list[int], is_so: Callable[[redis.Redis], bool]) -> None:
    for port in ports:
        with redis.Redis(port=port, decode_responses=True) as client:
            until_so(partial(is_so, client))


def keys_of(port: int, room_id: str) -> set[str]:
    with redis.Redis(port=port, decode_responses=True) as client:
        return set(client.keys(f"waitroom:{{{room_id}}}:*"))


async def test_rooms_of_a_cluster_are_served_from_their_own_slots(cluster: list[int], tmp_path: Path) -> None:
    """Section 5: all keys of a room are one slot, and rooms spread; promises 4 and 5 hold as on one server."""
    rooms = [protecting("slot", drain_rate=Rate(1000, "s"), burst=1000) for _ in range(6)]
    url = f"redis+cluster://127.0.0.1:{cluster[0]},127.0.0.1:{cluster[1]}"
    async with opened(url, tmp_path, rooms, gateways=2) as house:
        await house.idle(*rooms)
        for room in rooms:
            first, second = (house.visitor(gateway) for gateway in house.gateways)
            await house.patch(room, paused=True)
            joined = await first.join(room, "k" * 22)
            assert (joined.status, joined.json["number"]) == (201, 1)
            assert (await second.join(room, "k" * 22)).json["number"] == 1, "one key, one place"
            assert (await house.visitor().join(room)).json["number"] == 2
            await house.patch(room, paused=False)
            await until_answer(lambda v=second, r=room: v.claim(r), lambda answer: answer.status == 200)  # type: ignore[misc]
            assert (await second.get(f"/{room.id}/")).status == 200
            assert house.bank.last["Waitroom-Room"] == room.id
        homes = [{port for port in cluster if keys_of(port, room.id)} for room in rooms]
        assert all(len(home) == 1 for home in homes), "a room is one slot"
        assert len(set.union(*homes)) > 1, "rooms spread"


async def test_a_slot_that_moves_takes_its_room_along(cluster: list[int], tmp_path: Path) -> None:
    """Promises 4 and 5: a resharding under way is an outage of milliseconds; numbers go on and places stay."""
    room = protecting("moves", drain_rate=Rate(1000, "s"), burst=1000)
    async with opened(f"redis+cluster://127.0.0.1:{cluster[0]}", tmp_path, [room]) as house:
        await house.idle(room)
        await house.patch(room, paused=True)
        line = [house.visitor() for _ in range(5)]
        numbers = [(await visitor.join(room)).json["number"] for visitor in line]
        move_slot(cluster, room.id)
        await house.state("paused", room)
        again = await until_answer(lambda: house.visitor().join(room), lambda answer: bool(answer.json["number"]))
        assert again.json["number"] > numbers[-1]
        assert [(await visitor.see(room))["number"] for visitor in line] == numbers
        await house.patch(room, paused=False)
        for visitor in line:
            await until_answer(lambda v=visitor: v.claim(room), lambda answer: answer.status == 200)  # type: ignore[misc]


def move_slot(ports: list[int], room_id: str) -> None:
    """As `redis-cli --cluster reshard` moves one slot: importing, migrating, the keys, then the new owner."""
    source = next(port for port in ports if keys_of(port, room_id))
    target = next(port for port in ports if port != source)
    with redis.Redis(port=source) as here, redis.Redis(port=target) as there:
        ids = {client: client.execute_command("CLUSTER MYID").decode() for client in (here, there)}
        slot = here.execute_command("CLUSTER KEYSLOT", f"waitroom:{{{room_id}}}:pace")
        there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[here])
        here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[there])
        while keys := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
            here.execute_command("MIGRATE", "127.0.0.1", target, "", 0, 1000, "KEYS", *keys)
        for client in (there, here):
            client.execute_command("CLUSTER SETSLOT", slot, "NODE", ids[there])
    assert keys_of(target, room_id)
