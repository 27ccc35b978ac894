"""Holds the published contract to section 8 of the design: it validates, names every call, and its schemas bite."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from gateway.web.openapi import METHODS, board_schema, document, problem_schema, status_schema

STATUS: dict[str, Any] = {
    "room": "point-cashout", "state": "waiting", "number": 812, "position": 7, "ahead": 6, "waiting": 900,
    "eta": {"p50_s": 14, "p90_s": 21}, "progress": 0.4, "poll_after_ms": 2800, "room_state": "queueing",
    "message": {"texts": {"ko": "잠시만요"}, "at": "2026-11-22T02:00:00.000Z"}, "now": "2026-11-22T02:00:01.000Z",
    "as_of": "2026-11-22T02:00:00.750Z", "stale": False, "provisional": False, "claim_in_ms": None,
    "lease_until": None, "cause": None,
}  # fmt: skip
BOARD: dict[str, Any] = {
    "room": "point-cashout", "epoch": 1, "version": 77, "room_state": "queueing", "as_of": "2026-11-22T02:00:00.750Z",
    "waiting": 900, "active": 40, "called": 9, "next_number": 913, "passed": 12, "drain_rate": "50/s",
    "throughput": 49.6, "ranks": [[1, 13], [2, 15]], "message": None, "opens_at": None,
}  # fmt: skip
# Section 8's table: call -> the statuses it names.
CALLS = {
    ("post", "/_waitroom/{room}/ticket"): {"201", "200", "503", "409"},
    ("get", "/_waitroom/{room}/status"): {"200", "404"},
    ("post", "/_waitroom/{room}/admission"): {"200", "202", "410"},
    ("delete", "/_waitroom/{room}/ticket"): {"204"},
    ("post", "/_waitroom/{room}/leave"): {"204"},
    ("get", "/_waitroom/{room}/board"): {"200"},
    ("get", "/_waitroom/{room}/"): {"200"},
    ("get", "/_waitroom/{room}/renew"): {"303"},
    ("get", "/_waitroom/health"): {"200", "503"},
    ("get", "/_waitroom/jwks.json"): {"200"},
    ("get", "/_waitroom/openapi.json"): {"200"},
    ("get", "/{protected}"): {"429", "default"},
    **{(method, "/_waitroom/auth"): {"200", "401", "302"} for method in METHODS},
    **{(method, "/_waitroom/auth/{path}"): {"200", "401", "302"} for method in METHODS},
}


def test_the_document_is_valid_openapi_3_1() -> None:
    """Section 8: OpenAPI 3.1 of all this. Through JSON, as clients get it."""
    published = json.loads(json.dumps(document()))
    assert published["openapi"].startswith("3.1")
    OpenAPIV31SpecValidator(published).validate()


def test_the_validator_would_see_a_fault() -> None:
    """A check that cannot fail is none."""
    published = document()
    published["paths"]["/_waitroom/{room}/board"]["get"]["responses"]["200"].pop("description")
    with pytest.raises(Exception, match="description"):
        OpenAPIV31SpecValidator(published).validate()


def test_every_schema_has_an_example_that_it_allows() -> None:
    """Section 8: what docs/api.md shows is what a gateway may answer."""
    for name, schema in document()["components"]["schemas"].items():
        (example,) = schema["examples"]
        jsonschema.validate(example, schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({key: value for key, value in example.items() if key != "room"} | {"type": 1}, schema)
        assert example["room"] == "sale", name


@pytest.mark.parametrize(("method", "path"), CALLS)
def test_every_call_of_the_contract_is_described(method: str, path: str) -> None:
    """Section 8, each row of its table."""
    assert CALLS[method, path] <= document()["paths"][path][method]["responses"].keys()


def test_operations_have_names_of_their_own() -> None:
    """Generated clients make a function of each."""
    names = [
        call["operationId"] for path in document()["paths"].values() for name, call in path.items() if name in METHODS
    ]
    assert len(names) == len(set(names))


def test_the_promised_headers_are_described() -> None:
    """Section 8 names them; Caddy forwards a placeholder for one that is missing."""
    paths = document()["paths"]
    allowed = paths["/_waitroom/auth"]["get"]["responses"]["200"]["headers"]
    assert allowed.keys() == {"Waitroom-Subject", "Waitroom-Room", "Waitroom-Signature"}
    assert "Location" in paths["/_waitroom/auth"]["get"]["responses"]["401"]["headers"]
    assert "400" not in paths["/_waitroom/auth"]["get"]["responses"], "an edge would make a 500 of it"
    held = paths["/{protected}"]["get"]["responses"]["429"]["headers"]
    assert held.keys() >= {"Retry-After", "Waitroom-Room", "Waitroom-State", "Link"}
    assert "Waitroom-Lease" in paths["/{protected}"]["get"]["responses"]["default"]["headers"]


def test_a_caller_may_change_its_document() -> None:
    """Made anew each time: one caller's changes are not another's."""
    document()["paths"].clear()
    assert document()["paths"]


def accepts(schema: dict[str, Any], instance: object) -> bool:
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    return bool(validator.is_valid(instance))


def test_schemas_are_schemas() -> None:
    """They are used by other tests on real answers."""
    for schema in (status_schema(), board_schema(), problem_schema()):
        jsonschema.Draft202012Validator.check_schema(schema)


def test_status_fields_are_those_of_the_contract() -> None:
    """Section 8 lists them; tokens only for apps."""
    assert set(status_schema()["required"]) == set(STATUS)
    assert status_schema()["properties"].keys() - set(STATUS) == {"ticket", "admission"}
    assert accepts(status_schema(), STATUS)
    nothing = dict.fromkeys(("number", "position", "ahead", "waiting", "eta", "progress", "poll_after_ms", "message"))
    assert accepts(status_schema(), STATUS | nothing | {"state": "ended"})
    assert accepts(status_schema(), STATUS | {"cause": {"code": "recovered", "at": STATUS["now"]}, "ticket": "a.b.c"})


@pytest.mark.parametrize(
    "change",
    [
        {"state": "queued"}, {"room_state": "open"}, {"position": -1}, {"position": "7"}, {"number": 0}, {"eta": 14},
        {"eta": {"p50_s": 14}}, {"progress": 1.5}, {"stale": None}, {"message": {"ko": "x"}}, {"secret": 1},
        {"cause": "recovered"}, {"poll_after_ms": 2.5}, {"room": "../x"}, {"now": 1700000000},
    ],
)  # fmt: skip
def test_a_status_that_breaks_the_contract_is_seen(change: dict[str, Any]) -> None:
    """Plant a fault and see it caught."""
    assert not accepts(status_schema(), STATUS | change)


@pytest.mark.parametrize("missing", list(STATUS))
def test_a_status_without_a_field_is_seen(missing: str) -> None:
    """Null says that it does not apply; a missing field says nothing."""
    assert not accepts(status_schema(), {name: value for name, value in STATUS.items() if name != missing})


def test_board_fields_are_those_of_the_contract() -> None:
    """Section 8 lists them."""
    assert set(board_schema()["required"]) == set(BOARD)
    assert accepts(board_schema(), BOARD)
    for change in ({"ranks": [[1]]}, {"ranks": [[1, 2]] * 65}, {"drain_rate": 50}, {"extra": 1}, {"version": None}):
        assert not accepts(board_schema(), BOARD | change)


def test_problems_are_of_the_listed_types() -> None:
    """Section 8: `admission-required`, `admission-ended`, `room-full`, `sold-out`, `closed` among them."""
    named = {"admission-required", "admission-ended", "room-full", "sold-out", "closed"}
    assert named <= set(problem_schema()["properties"]["type"]["enum"])
    problem = {"type": "sold-out", "title": "Sold out", "status": 409, "detail": "nothing is left"}
    assert accepts(problem_schema(), problem)
    assert not accepts(problem_schema(), problem | {"type": "oops"})
