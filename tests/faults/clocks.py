"""Steps the clock of one process, by Debian's libfaketime: the wall clock alone, as an administrator or NTP would."""

from __future__ import annotations

from pathlib import Path

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


class FakeClock:
    """`environment` is what the process starts with; `step` moves its wall clock from then on."""

    def __init__(self, folder: Path) -> None:
        assert LIBRARIES, "libfaketime is not installed: apt-get install faketime"
        self._file = folder / "clock"
        self.step(0)
        self.environment = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{seconds:+d}")
        draft.replace(self._file)
