"""What all workers of a gateway counted, as one scrape: sums that never fall, and gauges that mean the whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from gateway.scrape import Folder, render


class Counted:
    """The figures of one worker."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.joins = Counter("waitroom_joins_total", "Joins.", ["room"], registry=self.registry)
        self.seconds = Histogram("waitroom_seconds", "Time.", registry=self.registry, buckets=(1, 2))
        self.in_flight = Gauge("waitroom_upstream_in_flight", "Under way.", registry=self.registry)
        self.redis_up = Gauge("waitroom_redis_up", "Redis.", registry=self.registry)
        self.age = Gauge("waitroom_board_age_seconds", "Age.", registry=self.registry)

    def write(self, folder: Folder, worker: str) -> None:
        folder.write(worker, self.registry.collect())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(tmp_path / "workers" / "1")
    made.take()
    yield made
    made.leave()


def shown(folder: Folder) -> dict[str, float]:
    """Every sample of a scrape, by its name and labels."""
    body, _ = render(folder.read(), "")
    families = text_string_to_metric_families(body.decode())
    return {
        " ".join([sample.name, *sample.labels.values()]): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_counts_are_summed_and_gauges_mean_the_whole(folder: Folder) -> None:
    """Section 11: one operator port shows what the whole gateway did."""
    one, other = Counted(), Counted()
    one.joins.labels("a").inc(3)
    other.joins.labels("a").inc(4)
    other.joins.labels("b").inc()
    one.seconds.observe(0.5)
    other.seconds.observe(1.5)
    one.in_flight.set(2)
    other.in_flight.set(5)
    one.redis_up.set(1)
    one.age.set(0.2)
    other.age.set(inf)
    one.write(folder, "1")
    other.write(folder, "2")
    got = shown(folder)
    assert (got["waitroom_joins_total a"], got["waitroom_joins_total b"]) == (7, 1)
    assert [got[f"waitroom_seconds_bucket {le}"] for le in ("1.0", "2.0", "+Inf")] == [1, 2, 2]
    assert (got["waitroom_seconds_count"], got["waitroom_seconds_sum"]) == (2, 2)
    assert got["waitroom_upstream_in_flight"] == 7
    assert got["waitroom_redis_up"] == 0, "one worker without Redis is what an alert must see"
    assert got["waitroom_board_age_seconds"] == inf


def test_what_ended_workers_counted_stays_and_their_gauges_go(folder: Folder) -> None:
    """A counter that fell would be taken for a restart, and all of it counted again."""
    before = 0.0
    for worker in range(1, 6):
        counted = Counted()
        counted.joins.labels("a").inc(worker)
        counted.in_flight.set(9)
        counted.write(folder, str(worker))
        folder.bury(str(worker))
        got = shown(folder)
        assert got["waitroom_joins_total a"] == before + worker
        assert "waitroom_upstream_in_flight" not in got
        before += worker
    folder.bury("1")  # nothing is there any more: nothing is added
    folder.bury("never-was")
    assert shown(folder)["waitroom_joins_total a"] == before


def test_a_gateway_begins_with_nothing_of_the_one_before(folder: Folder) -> None:
    """What a killed parent left behind is no figure of the next one, nor what workers that outlived it still count."""
    Counted().write(folder, "1")
    folder.leave()
    following = Folder(folder.path.with_name("2"))
    following.take()
    assert following.read() == []
    with pytest.raises(FileNotFoundError):
        Counted().write(folder, "1")
    following.leave()


def test_two_parents_never_share_a_folder(folder: Folder) -> None:
    """Two gateways by mistake on one `state_dir` must not add up to one."""
    with pytest.raises(BlockingIOError):
        Folder(folder.path.with_name("2")).take()
    Counted().write(folder, "1")
    assert folder.read(), "the one who was refused took nothing away"


def test_no_reader_ever_sees_a_count_fall_or_twice(folder: Folder) -> None:
    """Workers write, end and are buried while others read: the sum is always one that was true."""
    workers, each = 40, 5
    sums: list[float] = []
    is_over = threading.Event()

    def read() -> None:
        while not is_over.is_set():
            sums.append(shown(folder).get("waitroom_joins_total a", 0.0))

    reader = threading.Thread(target=read)
    reader.start()
    for worker in range(workers):
        counted = Counted()
        counted.joins.labels("a").inc(each)
        counted.write(folder, str(worker))
        folder.bury(str(worker))
    is_over.set()
    reader.join()
    assert sums == sorted(sums)
    assert set(sums) <= {float(each * count) for count in range(workers + 1)}
    assert shown(folder)["waitroom_joins_total a"] == workers * each
