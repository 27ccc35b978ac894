"""The incidents as they are replayed: their scale is what their words say, and their settings are ones that start."""

from __future__ import annotations

import json
import os
from itertools import pairwise
from pathlib import Path

import pytest

from bench.replay.run import crowd_command
from bench.replay.scenario import CASHBACK, CASHOUT, DEPOSIT, SCENARIOS, Scenario
from gateway import config as configuration
from gateway.demo import bank
from gateway.demo.stage import GATEWAY_TOML
from gateway.rules.keys import load_key_file, new_key_file

HOUR = "2026-12-01T11:00:00.000+09:00"


@pytest.mark.parametrize(
    ("scenario", "people", "seconds", "height_per_s"),
    [(DEPOSIT, 2_000, 60, 140), (CASHBACK, 3_333, 40, 131), (CASHOUT, 2_400, 72, 188)],
)
def test_the_crowd_is_scaled_as_its_page_says(
    scenario: Scenario, people: int, seconds: float, height_per_s: float
) -> None:
    """As many come within one second of the replay's height as did on the day, where both factors are equal."""
    assert scenario.visitors == people
    assert scenario.curve.ends_s / scenario.pace == seconds
    second = scenario.pace  # of the day
    crowd = 1 / scenario.people
    arrived = [scenario.curve.arrived_by(k * second / 10, crowd) for k in range(int(10 * seconds))]
    busiest = max(later - earlier for earlier, later in zip(arrived, arrived[10:], strict=False))
    # A second of the replay is minutes of the day: a peak shorter than that is flattened.
    assert 0.55 * height_per_s < busiest < 1.05 * height_per_s
    assert any(f"{people:,}" in sentence for sentence in scenario.assumed)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_the_door_stays_below_what_the_bank_can_take(scenario: Scenario) -> None:
    """Three transactions a visit on average, and the ordinary customers beside."""
    assert 3 * scenario.rate_per_s + scenario.customers <= scenario.capacity_per_s
    crowd = scenario.visitors / (scenario.curve.ends_s / scenario.pace)
    if scenario.stock is None:
        assert 3 * crowd + scenario.customers > 1.2 * scenario.capacity_per_s, "and what comes is above it"


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_the_room_is_one_that_a_gateway_starts_with(scenario: Scenario, tmp_path: Path) -> None:
    new_key_file(tmp_path / "tokens.pem")
    (tmp_path / "bank.key").touch(mode=0o600)
    (tmp_path / "bank.key").write_text("00" * 32)
    hour = HOUR if scenario.opens_s is not None else ""
    text = GATEWAY_TOML.substitute(
        index=0,
        public=1,
        operator=2,
        redis_url="redis://127.0.0.1:1/0",
        bank_url="http://127.0.0.1:3",
        rooms=scenario.room_toml(hour),
    )
    (tmp_path / "waitroom.toml").write_text(text)
    config = configuration.load(str(tmp_path / "waitroom.toml"), os.environ, dev=True, read_key=load_key_file)
    room = config.rooms[0]
    assert (room.id, room.entry) == (scenario.room, scenario.path)
    assert (room.opens_at_s is not None) is (scenario.opens_s is not None)
    assert room.settings.stock == scenario.stock


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=lambda scenario: scenario.name)
def test_the_bank_knows_its_options(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    """Refused is only the last of them."""
    with pytest.raises(SystemExit):
        bank.main([*scenario.bank_options, "--opens-at", HOUR, "--port", "0"])
    assert "--port: 0 is not a whole number" in capsys.readouterr().err


def test_the_crowd_goes_to_all_gateways(tmp_path: Path) -> None:
    command = crowd_command(CASHOUT, ["http://a:1", "http://b:2"], tmp_path, 5.0, 75)
    words = dict(pairwise(command))
    assert (words["--host"], words["--also"]) == ("http://a:1", "http://b:2")
    assert (words["-t"], words["--pace"], words["--quiet"]) == ("80s", "150", "5.0")
    assert float(words["--crowd"]) == pytest.approx(1 / 150)
    assert json.loads(words["--config-users"]) == {"user_class_name": "Customer", "fixed_count": 10}
