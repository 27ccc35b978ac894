"""Holds section 11 of the design: the names, labels and meaning of what dashboards and alerts are built on."""

from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.metrics import Ending, Held, Join, Kind, Metrics, Shed, Via
from gateway.model import Bypass, Match, Rate, Room, RoomSettings
from gateway.scrape import render

SECTION_11 = {
    "waiting": {"room"},
    "called": {"room"},
    "parked": {"room"},
    "active": {"room"},
    "setting": {"room", "setting"},
    "entries_total": {"room", "via"},
    "ended_total": {"room", "reason"},
    "joins_total": {"room", "result"},
    "calls_total": {"room"},
    "no_shows_total": {"room"},
    "bypassed_total": {"room", "rule"},
    "door_held_seconds_total": {"room", "reason"},
    "wait_seconds": {"room"},
    "eta_error_ratio": {"room"},
    "upstream_seconds": {"upstream"},
    "upstream_failures_total": {"upstream", "kind"},
    "upstream_in_flight": {"upstream"},
    "request_seconds": {"kind"},
    "shed_total": {"kind"},
    "redis_up": set(),
    "redis_seconds": {"script"},
    "board_age_seconds": {"room"},
    "key_info": {"kid", "use"},
    "config_info": {"hash"},
    "config_reload_success": set(),
    "audit_lost_total": {"room"},  # decision 0014
    "workers_lost_total": {"reason"},
}
HISTOGRAMS = {"wait_seconds", "eta_error_ratio", "upstream_seconds", "request_seconds", "redis_seconds"}


def room(name: str = "point-cashout", stock: int | None = None) -> Room:
    settings = RoomSettings(Rate(3000, "min"), burst=50, active_max=2000, stock=stock)
    bypass = (Bypass("static", path="/static/*"),)
    return Room(name, (Match("/points/*"),), "/points/", "bank", 120, settings, bypass=bypass)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics([room()], ["bank"])


Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Metrics) -> Samples:
    text = render(metrics.collect(), "")[0].decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return samples(metrics)[(f"waitroom_{name}", tuple(sorted(labels.items())))]


def exercise(metrics: Metrics) -> None:
    """Touch what only exists once it happened."""
    metrics.redis_answered("claim", 0.001)
    metrics.upstreams["bank"].failed("connect")
    metrics.show_keys("kid-1", ["kid-0"])
    metrics.show_config("abc")


def test_names_and_labels_are_those_of_the_design(metrics: Metrics) -> None:
    """Section 11, to the letter: nothing missing, nothing of ours that is not listed there."""
    exercise(metrics)
    found: dict[str, set[str]] = {}
    for name, labels in samples(metrics):
        if name.startswith("waitroom_"):
            bare = name.removeprefix("waitroom_")
            for suffix in ("_bucket", "_sum", "_count"):
                if bare.removesuffix(suffix) in HISTOGRAMS:
                    bare = bare.removesuffix(suffix)
            found.setdefault(bare, set()).update({label for label, _ in labels} - {"le"})
    assert found == SECTION_11


def test_what_is_configured_is_there_before_it_happens(metrics: Metrics) -> None:
    """An alert on a series that does not exist yet never fires."""
    for via in Via:
        assert value(metrics, "entries_total", room="point-cashout", via=via) == 0
    for reason in Held:
        assert value(metrics, "door_held_seconds_total", room="point-cashout", reason=reason) == 0
    assert value(metrics, "bypassed_total", room="point-cashout", rule="static") == 0
    assert value(metrics, "shed_total", kind=Shed.JOIN) == 0
    assert value(metrics, "request_seconds_count", kind=Kind.STATUS) == 0
    assert value(metrics, "upstream_in_flight", upstream="bank") == 0


def test_the_reasons_of_a_held_door_are_those_of_the_design() -> None:
    """Section 11 lists them."""
    assert {str(reason) for reason in Held} == {
        *("rate", "cap", "stock", "paused", "upstream", "recovering", "redis", "nobody")
    }
    assert {str(via) for via in Via} == {"claim", "instant"}


def test_labels_that_are_not_configured_are_refused(metrics: Metrics) -> None:
    """Style 12: never an id, path or address in a label."""
    with pytest.raises(KeyError):
        metrics.rooms["/../etc"]
    with pytest.raises(KeyError):
        metrics.rooms["point-cashout"].bypassed["10.0.0.1"]
    with pytest.raises(KeyError):
        metrics.upstreams["203.0.113.7"]


def test_room_gauges_follow_the_board(metrics: Metrics) -> None:
    """Section 11: equal on every gateway, because each sets them from the same board."""
    other = Metrics([room()], ["bank"])
    for one in (metrics, other):
        one.rooms["point-cashout"].show_counts(waiting=7, called=3, parked=2, active=11)
    for name, expected in (("waiting", 7), ("called", 3), ("parked", 2), ("active", 11)):
        assert value(metrics, name, room="point-cashout") == value(other, name, room="point-cashout") == expected


def test_settings_are_shown_in_base_units(metrics: Metrics) -> None:
    """3000/min is 50 a second; no stock is no limit."""
    shown = {labels[1][1]: figure for (name, labels), figure in samples(metrics).items() if name == "waitroom_setting"}
    assert shown == {
        "drain_rate": 50, "rate_in_force": 50, "burst": 50, "active_max": 2000, "paused": 0, "stock": float("inf"),
    }  # fmt: skip
    settings = RoomSettings(Rate(100, "s"), burst=100, active_max=5, paused=True, stock=0)
    metrics.rooms["point-cashout"].show_settings(settings, rate_in_force_per_s=63.0)
    assert value(metrics, "setting", room="point-cashout", setting="rate_in_force") == 63
    assert value(metrics, "setting", room="point-cashout", setting="drain_rate") == 100
    assert value(metrics, "setting", room="point-cashout", setting="paused") == 1
    assert value(metrics, "setting", room="point-cashout", setting="stock") == 0


def test_the_age_of_the_board_grows_without_anyone_setting_it(metrics: Metrics) -> None:
    """Promise 8's other side: operators see that Redis is gone."""
    assert value(metrics, "board_age_seconds", room="point-cashout") == float("inf")
    now_s = 100.0
    metrics.rooms["point-cashout"].watch_board_age(lambda: now_s - 99.5)
    assert value(metrics, "board_age_seconds", room="point-cashout") == 0.5
    now_s = 130.0
    assert value(metrics, "board_age_seconds", room="point-cashout") == 30.5


def test_an_entry_tells_its_wait_and_how_right_the_promise_was(metrics: Metrics) -> None:
    """Section 6: the ratio of real to expected."""
    cashout = metrics.rooms["point-cashout"]
    cashout.entered(Via.CLAIM, waited_s=90.0, expected_s=100.0)
    cashout.entered(Via.INSTANT, waited_s=0.0, expected_s=None)
    assert value(metrics, "entries_total", room="point-cashout", via="claim") == 1
    assert value(metrics, "entries_total", room="point-cashout", via="instant") == 1
    assert value(metrics, "wait_seconds_count", room="point-cashout") == 2
    assert value(metrics, "eta_error_ratio_sum", room="point-cashout") == 0.9
    assert value(metrics, "eta_error_ratio_count", room="point-cashout") == 1
    assert value(metrics, "eta_error_ratio_bucket", room="point-cashout", le="0.9") == 1


def test_events_are_counted_under_their_labels(metrics: Metrics) -> None:
    """Section 11: each counter moves by what happened, and only that one."""
    cashout = metrics.rooms["point-cashout"]
    before = samples(metrics)
    cashout.joins[Join.KNOWN].inc()
    cashout.ended[Ending.LAPSED].inc(3)
    cashout.calls.inc(5)
    cashout.no_shows.inc(2)
    cashout.door_held_s[Held.CAP].inc(0.25)
    metrics.upstream_seconds.add("bank", 0.02)
    metrics.upstreams["bank"].watch_in_flight(lambda: 4)
    metrics.show_redis(is_up=True)
    after = samples(metrics)
    moved = {key for key in after if after[key] != before.get(key) and key[0].startswith("waitroom_")}
    assert {name for name, _ in moved} == {
        "waitroom_joins_total", "waitroom_ended_total", "waitroom_calls_total", "waitroom_no_shows_total",
        "waitroom_door_held_seconds_total", "waitroom_upstream_seconds_bucket", "waitroom_upstream_seconds_sum",
        "waitroom_upstream_seconds_count", "waitroom_upstream_in_flight", "waitroom_redis_up",
    }  # fmt: skip
    assert value(metrics, "ended_total", room="point-cashout", reason="lapsed") == 3
    assert value(metrics, "door_held_seconds_total", room="point-cashout", reason="cap") == 0.25


def test_keys_and_configuration_replace_what_they_were(metrics: Metrics) -> None:
    """Section 7: a rotation is seen, and the key before it no longer."""
    exercise(metrics)
    metrics.show_keys("kid-2", ["kid-1"])
    metrics.show_config("def")
    shown = samples(metrics)
    kids = {labels for name, labels in shown if name == "waitroom_key_info"}
    assert kids == {(("kid", "kid-2"), ("use", "sign")), (("kid", "kid-1"), ("use", "verify"))}
    assert [labels for name, labels in shown if name == "waitroom_config_info"] == [(("hash", "def"),)]
    assert value(metrics, "config_reload_success") == 1
    metrics.show_failed_reload()
    assert value(metrics, "config_reload_success") == 0


def test_a_scrape_answers_in_the_form_that_was_asked_for(metrics: Metrics) -> None:
    """Prometheus asks for OpenMetrics, curl for nothing."""
    body, content_type = render(metrics.collect(), "")
    assert content_type.startswith("text/plain")
    assert b"_created" not in body
    assert b"process_resident_memory_bytes" in body
    body, content_type = render(metrics.collect(), "application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")
