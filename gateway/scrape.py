"""One scrape for all workers of a gateway: what each has counted lies in a file of its own, and any of them adds up all.

Theory of operation
    State: a folder of the parent process's own. Each worker replaces its file once a second, before it answers a scrape,
    and when it stops. What ended workers counted is added into one file by the parent (`bury`), so that no counter ever falls: a
    fall is taken for a restart, and everything counted since would be counted again.
    Invariants: only what stands in a file is ever shown. Readers hold the folder's lock together, the parent alone: a worker's
    figures are either in its own file or among those of the ended, never in both and never in neither.
    When it fails: a worker that was killed loses what it counted in its last second. A file that cannot be read is an OSError.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import IO, Any, Final

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.exposition import choose_encoder

Labels = tuple[tuple[str, str], ...]
Samples = dict[tuple[str, Labels], float]
# What a gauge of one worker says about the whole. Those not named are equal on all, or the worst counts: the greatest.
SUMMED: Final = frozenset(
    {
        "waitroom_upstream_in_flight",
        "process_virtual_memory_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
    }
)
LEAST: Final = frozenset({"waitroom_redis_up", "waitroom_config_reload_success", "process_start_time_seconds"})
ENDED: Final = "ended.json"
LOCK: Final = "lock"  # of readers and the parent
HOLD: Final = "held"  # by the parent, for as long as it lives


class Folder:
    """Where the figures of one gateway's workers meet. Blocking: a few files of some 50 kB each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hold: IO[str] | None = None

    def take(self) -> None:
        """Begin anew, as the one parent at work beside this folder. Raises BlockingIOError while there is another.

        What earlier parents left goes, so that workers which outlived theirs have nowhere to write.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._hold = (self.path.parent / HOLD).open("w")  # released when this process ends, however it ends
        try:
            fcntl.flock(self._hold, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self.leave()
            raise
        for left in self.path.parent.iterdir():
            if left.name != HOLD:
                shutil.rmtree(left)
        self.path.mkdir()
        (self.path / LOCK).touch()

    def leave(self) -> None:
        if self._hold is not None:
            self._hold.close()

    def write(self, worker: str, families: Iterable[Metric]) -> None:
        _write(self.path / f"{worker}.json", families)

    def bury(self, worker: str) -> None:
        """Add what an ended worker counted to that of the others who ended; its gauges go with it."""
        file = self.path / f"{worker}.json"
        with self._locked(fcntl.LOCK_EX):
            found = _read(file)
            if found is not None:
                ended = _read(self.path / ENDED)
                _write(self.path / ENDED, _counted([*filter(None, [ended]), found]))
                file.unlink()

    def read(self) -> list[Metric]:
        """The figures of all workers together."""
        with self._locked(fcntl.LOCK_SH):
            ended = _read(self.path / ENDED)
            names = sorted(file for file in self.path.glob("*.json") if file.name != ENDED)
            alive = [found for file in names if (found := _read(file)) is not None]
        return [*_counted([*filter(None, [ended]), *alive]), *_gauges(alive)]

    @contextmanager
    def _locked(self, how: int) -> Iterator[None]:
        with (self.path / LOCK).open() as file:
            fcntl.flock(file, how)  # released when the file is closed
            yield


def render(families: Iterable[Metric], accept: str) -> tuple[bytes, str]:
    """The body and content type of a scrape, in the form that `Accept` asks for."""
    registry = CollectorRegistry()
    registry.register(_Given(families))
    encode, content_type = choose_encoder(accept)
    return encode(registry), content_type


class _Given:
    """A collector of families that are there already."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _counted(workers: Iterable[list[Metric]]) -> list[Metric]:
    return _merged(workers, lambda family: family.type != "gauge", lambda _name, one, other: one + other)


def _gauges(workers: Iterable[list[Metric]]) -> list[Metric]:
    return _merged(workers, lambda family: family.type == "gauge", _together)


def _together(name: str, one: float, other: float) -> float:
    if name in SUMMED:
        return one + other
    return min(one, other) if name in LEAST else max(one, other)


def _merged(
    workers: Iterable[list[Metric]],
    is_wanted: Callable[[Metric], bool],
    join: Callable[[str, float, float], float],
) -> list[Metric]:
    families: dict[str, tuple[Metric, Samples]] = {}
    for family in (family for worker in workers for family in worker if is_wanted(family)):
        _, samples = families.setdefault(family.name, (family, {}))
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            samples[key] = join(family.name, samples[key], sample.value) if key in samples else sample.value
    return [_family(found.name, found.documentation, found.type, samples) for found, samples in families.values()]


def _family(name: str, about: str, kind: str, samples: Samples) -> Metric:
    family = Metric(name, about, kind)
    for (sample, labels), value in samples.items():
        family.add_sample(sample, dict(labels), value)
    return family


# --- one file ---------------------------------------------------------------------------------------------------------


def _write(file: Path, families: Iterable[Metric]) -> None:
    """As a whole, so that nobody reads half of it."""
    document = [
        [one.name, one.documentation, one.type, [[part.name, part.labels, _text(part.value)] for part in one.samples]]
        for one in families
    ]
    draft = file.with_suffix(f".{os.getpid()}.tmp")
    draft.write_text(json.dumps(document, separators=(",", ":")))
    draft.replace(file)


def _read(file: Path) -> list[Metric] | None:
    try:
        document: list[Any] = json.loads(file.read_text())
    except FileNotFoundError:  # no worker has ended yet, or one has just been buried
        return None
    families = []
    for name, about, kind, rows in document:
        samples = {(sample, tuple(sorted(labels.items()))): float(value) for sample, labels, value in rows}
        families.append(_family(name, about, kind, samples))
    return families


def _text(value: float) -> float | str:
    return value if -inf < value < inf else str(value)  # JSON has no word for these
