"""What is ours and belongs to no room: health, keys, the contract; and hosts, which are judged for everything else."""

from __future__ import annotations

import jwt
import pytest

from tests.web.gatewayfixture import NAVIGATION, OpenHouse, house_opener, protecting

open_house = pytest.fixture(house_opener)


async def test_the_published_keys_verify_admissions(open_house: OpenHouse) -> None:
    """Section 7: edges need the public key alone; nothing secret is published."""
    room = protecting("site")
    house = await open_house(room)
    visitor = house.visitor()
    await visitor.enter(room)
    admission = next(iter(visitor.cookies.values()))
    published = await visitor.get("/_waitroom/jwks.json")
    assert published.headers["Cache-Control"].startswith("public")
    keys = published.json["keys"]
    assert all(not {"d", "k"} & set(key) for key in keys)
    kid = jwt.get_unverified_header(admission)["kid"]
    key = jwt.PyJWK(next(key for key in keys if key["kid"] == kid))
    claims = jwt.decode(admission, key, algorithms=["ES256"], audience=room.id)
    assert claims["use"] == "admission"
    assert all(type(claims[name]) is int for name in ("iat", "exp", "epoch"))
    assert len(admission) <= 800


async def test_health_and_the_contract_are_served_on_every_host(open_house: OpenHouse) -> None:
    """Section 8: `/_waitroom/` is ours on every host and never reaches an upstream."""
    room = protecting("site")
    house = await open_house(room)
    for host in ("bank.example", "elsewhere.example"):
        visitor = house.visitor(Host=host)
        assert (await visitor.get("/_waitroom/health")).json == {"status": "ok"}
        assert (await visitor.get("/_waitroom/openapi.json")).json["openapi"].startswith("3.1")
        assert (await visitor.get(f"/_waitroom/{room.id}/board")).status == 200
    for target in ("/_waitroom/", "/_waitroom", "/_waitroom/nothing", "/_waitroom/no-room/status", "/_waitroom/../x"):
        answer = await house.visitor().get(target)
        assert (answer.status, answer.headers["Content-Type"]) == (404, "application/problem+json"), target
    assert (await house.visitor().get(f"/_waitroom/{room.id}/nothing")).json["type"] == "not-found"
    posted = await house.visitor().ask("POST", "/_waitroom/health")
    assert (posted.status, posted.headers["Allow"]) == (405, "GET, HEAD")
    assert house.bank.requests == []


@pytest.mark.parametrize("host", ["other.example", "127.0.0.1", "bank.example.evil.example", "xbank.example"])
async def test_a_host_that_is_not_ours_is_misdirected(open_house: OpenHouse, host: str) -> None:
    """Section 8: `[server] hosts` lists ours, any other gets 421; nothing is passed on."""
    house = await open_house(protecting("hosts"))
    answer = await house.visitor(Host=host).get("/free")
    assert (answer.status, answer.json["type"]) == (421, "misdirected")
    assert house.bank.requests == []


@pytest.mark.parametrize("host", ["BANK.example", "bank.example.", "bank.example:8443", "Bank.Example.:80"])
async def test_hosts_compare_without_case_port_and_final_dot(open_house: OpenHouse, host: str) -> None:
    """Promise 9: however the host is spelled, the room is the room."""
    room = protecting("hosts", paused=True)
    house = await open_house(room)
    assert (await house.visitor(Host=host).get("/free")).status == 200
    assert (await house.visitor(Host=host).ask("GET", f"/{room.id}/", NAVIGATION)).status == 429


async def test_without_a_default_what_matches_no_room_is_404(open_house: OpenHouse) -> None:
    """Section 8: nothing is passed on that the configuration does not name."""
    house = await open_house(protecting("only"), default=False)
    answer = await house.visitor().get("/free")
    assert (answer.status, answer.json["type"]) == (404, "not-found")
    assert house.bank.requests == []
