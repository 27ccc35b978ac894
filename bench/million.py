"""A million waiting: what a poll costs by the size of the crowd, and ten minutes in which the crowd is let in.

    python -m bench.million [--waiting 1000000] [--minutes 10] [--rounds 5] [--into build]

First four rooms of 1,000 to `--waiting` places stand in one gateway, and polls are measured in turns. Then a room of `--waiting`
is let in at 1,000 entries a second, while 1,000 others join, 30 % fall silent for good and 10 % for three minutes
(`bench/holding.py`). One gateway has the first core; Redis and the crowd share the second.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from bench import report, sizes
from bench.entries import Sample, evenness, promise_1, watch
from bench.line import MARK_BATCH, Line
from bench.load import Figure
from bench.polls import PATH
from bench.stage import LOADING, ROOM, Elsewhere, RedisServer, Server, Stage, cpu_s, peak_kib
from gateway.capacity import Costs
from gateway.queue.scripts import SCRIPTS

RATE_S: Final = 1_000
JOINS_S: Final = 1_000
POLLS_S: Final = 4_000  # as many as one process can send beside the rest
SLOW_US: Final = 300  # scripts below that are not listed by Redis
SETTLE_S: Final = 2.5  # a paused line's last board
STILL: Final = 2_000  # positions asked then
PROMISED_BYTES: Final = 85  # of a waiting visitor on Valkey 9


# --- ten minutes ------------------------------------------------------------------------------------------------------


def hold(waiting: int, seconds: float) -> list[Figure]:
    with Stage() as stage:
        server = stage.redis()
        before: Any = server.client.info("memory")
        gateway = stage.gateway(server, drain_rate=f"{RATE_S}/s", burst=RATE_S, paused=True)
        line = stage.seat(server, waiting)
        assert line.first == 1, f"the first number was {line.first}"
        full: Any = server.client.info("memory")
        bytes_each = (full["used_memory"] - before["used_memory"]) / waiting
        (stage.folder / "ids").write_bytes(b"".join(line.ids))
        server.client.config_set("slowlog-max-len", 1_000_000)
        server.client.config_set("slowlog-log-slower-than", SLOW_US)
        out = stage.folder / "told"
        command = [sys.executable, "-m", "bench.holding", "--port", str(gateway.port), "--redis", server.url]
        command += ["--config", str(stage.folder / f"waitroom-{gateway.port}.toml"), "--ids", str(stage.folder / "ids")]
        command += ["--seconds", str(seconds), "--polls", str(POLLS_S), "--joins", str(JOINS_S), "--out", str(out)]
        crowd = stage.start("nice", "-n", "10", *command, cores=LOADING, is_ready=lambda: True)
        _patch(stage, {"paused": False})
        used = {pid: cpu_s(pid) for pid in (gateway.pid, server.pid, crowd)}
        others = Elsewhere()
        samples = watch(server, seconds)
        used = {pid: cpu_s(pid) - was for pid, was in used.items()}
        shares = [used[pid] / seconds for pid in (gateway.pid, server.pid, crowd)]
        slow = _slow(server)
        until_s = time.monotonic() + 60
        while not out.exists() or not out.read_text().endswith("}"):
            assert time.monotonic() < until_s, (stage.folder / "log").read_text()[-2000:]
            time.sleep(0.5)
        told = json.loads(out.read_text())
        still = _still(stage, gateway, server, line)
        peak_mib = peak_kib(gateway.pid) / 1024
    assert not told["faults"], told["faults"]
    print(f"  counts {told['counts']}")
    print(
        f"  cores used: gateway {shares[0]:.2f}, Redis {shares[1]:.2f}, crowd {shares[2]:.2f}, others {others.cores():.2f}"
    )
    return [
        *_model(told["counts"], shares, seconds),
        _polls(told, peak_mib),
        *_ticks(slow, seconds),
        _bytes(bytes_each),
        _board(told),
        *_positions(still, told),
        *_door(samples),
        *_expected(told),
    ]


def _patch(stage: Stage, change: dict[str, Any]) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", stage.config.server.operator[1], timeout=10)
    headers = {"Content-Type": "application/json"}
    connection.request("PATCH", f"/api/rooms/{ROOM}", json.dumps(change), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    connection.close()


def _slow(server: RedisServer) -> dict[str, list[int]]:
    """Microseconds of each script that took SLOW_US or more, by its name."""
    names, found = {script.sha.encode(): name for name, script in SCRIPTS.items()}, dict[str, list[int]]()
    entries: Any = server.client.slowlog_get(1_000_000)
    for entry in entries:
        words = bytes(entry["command"]).split()
        if words[:1] and words[0].lower() == b"evalsha":
            found.setdefault(names.get(words[1], "?"), []).append(int(entry["duration"]))
    return {name: sorted(us) for name, us in found.items()}


def _still(stage: Stage, gateway: Server, server: RedisServer, line: Line) -> list[tuple[int, int]]:
    """The room paused: ranks of the sorted set, and positions told, of places near the front as many as far off."""
    _patch(stage, {"paused": True})
    time.sleep(SETTLE_S)
    client, dice, pairs = server.client, random.Random(3), list[tuple[int, int]]()
    passed = int(client.hget(f"waitroom:{{{ROOM}}}:pace", "passed") or 0)
    connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=10)
    for _ in range(STILL if passed + 100 < len(line.ids) else 0):
        number = passed + 1 + int((len(line.ids) - passed - 1) ** dice.random())
        (ticket,) = line.tickets(stage.keyring, [number - 1])
        connection.request("GET", PATH, headers={"Waitroom-Ticket": ticket})
        told = json.loads(connection.getresponse().read())
        if told["state"] == "waiting":
            pairs.append((int(client.zcount(f"waitroom:{{{ROOM}}}:queue", f"({passed}", number)), told["position"]))
    connection.close()
    return pairs


def _model(counts: Mapping[str, int], shares: Sequence[float], seconds: float) -> list[Figure]:
    """What `waitroom capacity` says of this very load."""
    costs = Costs()

    def per_s(kind: str) -> float:
        return sum(count for name, count in counts.items() if name.startswith(kind)) / seconds

    polls_s, joins_s, claims_s = per_s("poll "), per_s("join 2"), per_s("claim ")
    gateway = (polls_s * costs.poll_us + joins_s * costs.join_us + claims_s * costs.claim_us) / 1e6
    batches_s = counts.get("marks", 0) / seconds
    marks_s = batches_s * MARK_BATCH + polls_s
    redis = joins_s * costs.join_redis_us + marks_s * costs.mark_redis_us + claims_s * costs.claim_redis_us
    redis = (redis + costs.beat_redis_us) / 1e6
    return [
        Figure(
            f"capacity model, {who}",
            f"{measured:.2f} cores",
            f"{modelled:.2f} by the model",
            f"{measured / modelled:.2f}",
            "",
            None,
            "by the figures of full batches and busy seconds; here batches are small and there is time between them",
        )
        for who, measured, modelled in (("gateway", shares[0], gateway), ("Redis", shares[1], redis))
    ]


def _polls(told: Mapping[str, Any], peak_mib: float) -> Figure:
    ms = sorted(told["poll_ms"])
    ok, bad = told["counts"].get("poll 200", 0), [name for name in told["counts"] if name[-3:] in {"500", "502", "503"}]
    return Figure(
        "polls meanwhile, p50 / p99",
        f"{ms[len(ms) // 2]:.1f} / {ms[len(ms) * 99 // 100]:.1f} ms",
        "",
        f"{ok:,} answered, {sum(told['counts'][name] for name in bad)} failed",
        "0 failed",
        not bad,
        "the crowd's own process is late, too: it shares its core with Redis",
        f"{peak_mib:.0f} MiB",
    )


def _ticks(slow: Mapping[str, Sequence[int]], seconds: float) -> list[Figure]:
    """Ten ticks a second: those not listed took less than SLOW_US."""
    ticks, every = slow.get("tick", ()), [us for one in slow.values() for us in one]
    rank = int(seconds * 10 / 100)
    p99, longest = (ticks[-rank] if len(ticks) >= rank > 0 else SLOW_US) / 1e3, max(every, default=SLOW_US) / 1e3
    worst = max(slow, key=lambda name: slow[name][-1]) if slow else "none"
    return [
        Figure(
            "drain tick, p99",
            f"{p99:.1f} ms",
            "",
            f"{len(ticks):,} of {int(seconds * 10):,} took {SLOW_US} us or more",
            "<= 5 ms",
            p99 <= 5,
            "by the clock of Redis' slow log: also while the crowd had Redis' core",
            values=(p99,),
            bound=5.0,
        ),
        Figure(
            "longest script",
            f"{longest:.1f} ms ({worst})",
            "",
            "p99 of the listed, ms: "
            + ", ".join(f"{name} {us[len(us) * 99 // 100] / 1e3:.1f}" for name, us in slow.items()),
            "<= 5 ms",
            longest <= 5,
            "by the clock: also while the crowd had Redis' core",
            values=(longest,),
            bound=5.0,
        ),
    ]


def _bytes(each: float) -> Figure:
    return Figure(
        "Redis bytes a waiting visitor",
        f"{each:.1f}",
        "",
        "",
        f"<= {PROMISED_BYTES}",
        each <= PROMISED_BYTES,
        "used memory before and after the room was filled, all of the room's keys",
        values=(each,),
        bound=PROMISED_BYTES,
    )


def _board(told: Mapping[str, Any]) -> Figure:
    ages = sorted(told["board_age_s"])
    p99 = ages[len(ages) * 99 // 100]
    return Figure(
        "age of the public board, p50 / p99",
        f"{ages[len(ages) // 2]:.2f} / {p99:.2f} s",
        "",
        "",
        "p99 <= 1 s",
        p99 <= 1,
        "as the crowd received it, by Redis' clock; the way through the crowd's process is in it",
        values=(p99,),
        bound=1.0,
    )


def _positions(still: Sequence[tuple[int, int]], told: Mapping[str, Any]) -> list[Figure]:
    """Errors as parts of what is allowed, which is one place or a hundredth; and, while it moves, in seconds of the line."""
    if not still:  # all of them were passed: too short a line for so long a run
        return []
    parts = sorted(abs(position - rank) / max(1.0, rank / 100) for rank, position in still)
    within = sum(part <= 1 for part in parts) / len(parts)
    moving = sorted(abs(position - rank) / RATE_S for rank, position in told["positions"])
    return [
        Figure(
            "position, by the sorted set's rank",
            f"{within:.1%} within 1 place or 1 %",
            f"{len(parts):,} polls",
            f"p50 {parts[len(parts) // 2]:.2f}, p99 {parts[len(parts) * 99 // 100]:.2f} of what is allowed",
            "100 %",
            within >= 1,
            "in a room that was paused after the run: a line that moves is elsewhere when its rank is asked",
        ),
        Figure(
            "position, while the line moves",
            f"p50 {moving[len(moving) // 2]:.2f}, p99 {moving[len(moving) * 99 // 100]:.2f} s",
            "",
            "how old it is, in seconds of the rate",
            "",
            None,
            "the rank is the mean of before and after the poll; ranks are read once a second, boards every 0.25 s",
        ),
    ]


def _door(samples: Sequence[Sample]) -> list[Figure]:
    return [evenness(samples), promise_1(samples)]


def _expected(told: Mapping[str, Any]) -> list[Figure]:
    waits = [(real, p50, p90) for real, p50, p90 in told["ratios"] if p50 >= 10]
    if len(waits) < 50:
        return []
    off = sorted(abs(real / p50 - 1) for real, p50, _ in waits)
    in_p50 = sum(real <= p50 for real, p50, _ in waits) / len(waits)
    in_p90 = sum(real <= p90 for real, _, p90 in waits) / len(waits)
    median = off[len(off) // 2]
    return [
        Figure(
            "expected time, median error",
            f"{median:.1%}",
            f"{len(waits):,} waits",
            f"real by told: p10 {_at(waits, 0.1):.2f}, p50 {_at(waits, 0.5):.2f}, p90 {_at(waits, 0.9):.2f}",
            "<= 10 %",
            median <= 0.1,
            "told 10 s or more before; ended when the admission came, a poll's time after the turn",
            values=(median,),
            bound=0.1,
        ),
        Figure(
            "entered by p50, by p90",
            f"{in_p50:.0%}, {in_p90:.0%}",
            "",
            "",
            "50 %, 90 %",
            None,
            "a crowd that behaves alike for ten minutes is easier to foretell than a real one",
        ),
    ]


def _at(waits: Sequence[tuple[float, float, float]], part: float) -> float:
    ratios = sorted(real / p50 for real, p50, _ in waits)
    return ratios[int(len(ratios) * part)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--waiting", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--into", type=Path, default=Path("build/million"), metavar="FOLDER")
    asked = parser.parse_args()
    figures = [*sizes.measure(asked.waiting, asked.rounds), *hold(asked.waiting, asked.minutes * 60)]
    print(f"\n{report.table(figures)}")
    print("written:", *report.write(figures, asked.into))


if __name__ == "__main__":
    main()
