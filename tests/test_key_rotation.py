"""Keys are rotated while people wait and pay: two gateways, restarted one after the other with other keys each time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jwt
import pytest

from gateway.model import Admission, Room, Ticket, Tokens
from gateway.rules.keys import Algorithm, Key, load_key_file, new_key_file
from gateway.rules.tokens import Keyring
from tests.web.gatewayfixture import House, OpenHouse, Visitor, house_opener, protecting

open_house = pytest.fixture(house_opener)


def new_key(folder: Path, name: str, algorithm: Algorithm = "ES256") -> str:
    new_key_file(folder / name, algorithm)
    return str(folder / name)


def key_of(file: str) -> Key:
    return load_key_file(Path(file))


def kid_of(token: str) -> str:
    kid: str = jwt.get_unverified_header(token)["kid"]
    return kid


async def restart(house: House, tokens: Tokens, index: int) -> None:
    """One gateway gives way to one with these keys; the other serves on."""
    house.config = replace(house.config, tokens=tokens)
    await house.stop(house.gateways[index])
    house.gateways.insert(index, await house.start())
    house.gateways.pop()  # where `start` put it


async def jwks(house: House) -> list[list[str]]:
    """The kids that each gateway publishes, in order."""
    answers = [await house.visitor(gateway).get("/_waitroom/jwks.json") for gateway in house.gateways]
    return [[key["kid"] for key in answer.json["keys"]] for answer in answers]


@dataclass
class Crowd:
    """People inside and people in line, who each go to every gateway again and again."""

    house: House
    inside: Room
    line: Room
    paying: list[Visitor] = field(default_factory=list)
    waiting: list[tuple[Visitor, str, int]] = field(default_factory=list)  # with key and number

    async def grow(self, gateway: Any) -> None:
        """One more inside and one more in line, by tokens of this gateway."""
        visitor = self.house.visitor(gateway)
        await visitor.enter(self.inside)
        self.paying.append(visitor)
        key = f"{len(self.waiting):022}"
        visitor = self.house.visitor(gateway)
        joined = await visitor.join(self.line, key)
        assert joined.status == 201
        self.waiting.append((visitor, key, joined.json["number"]))

    async def is_well(self) -> None:
        """Promises 5 and 13: everybody's tokens count at every gateway."""
        for gateway in self.house.gateways:
            for visitor in self.paying:
                visitor.port = gateway.ports[0]
                assert (await visitor.get(f"/{self.inside.id}/")).status == 200
            for visitor, _, number in self.waiting:
                visitor.port = gateway.ports[0]
                assert (await visitor.see(self.line))["number"] == number

    async def renew(self) -> None:
        """Everybody gets a token of the key that signs now: as past half of its life, or by the key one joins with."""
        for visitor in self.paying:
            answer = await visitor.get(f"/_waitroom/{self.inside.id}/renew?return_to=/")
            assert (answer.status, len(answer.cookies)) == (303, 1)
        for visitor, key, number in self.waiting:
            visitor.cookies.clear()
            answer = await visitor.join(self.line, key)
            assert (answer.status, answer.json["number"]) == (200, number)

    def kids(self) -> set[str]:
        """Of the keys that everybody's tokens are signed with."""
        visitors = [*self.paying, *(visitor for visitor, _, _ in self.waiting)]
        return {kid_of(token) for visitor in visitors for token in visitor.cookies.values()}


async def gather_crowd(open_house: OpenHouse, tokens: Tokens) -> Crowd:
    inside, line = protecting("inside"), protecting("line", paused=True)
    house = await open_house(inside, line, gateways=2)
    for index in (0, 1):
        await restart(house, tokens, index)
    crowd = Crowd(house, inside, line)
    for gateway in house.gateways:
        await crowd.grow(gateway)
    await crowd.is_well()
    return crowd


@pytest.mark.parametrize(
    ("before", "after"), [("ES256", "ES256"), ("HS256", "HS256"), ("ES256", "HS256"), ("HS256", "ES256")]
)
async def test_verify_first_sign_later_is_noticed_by_nobody(
    open_house: OpenHouse, tmp_path: Path, before: Algorithm, after: Algorithm
) -> None:
    """Promises 5, 11 and 13: whoever came under whichever key passes, or keeps the place, at every gateway throughout."""
    old, new = new_key(tmp_path, "old", before), new_key(tmp_path, "new", after)
    crowd = await gather_crowd(open_house, Tokens(old))
    house, public = crowd.house, [key_of(file).kid for file in (old, new) if key_of(file).jwk() is not None]

    async def roll(tokens: Tokens) -> None:
        for index in (0, 1):
            await restart(house, tokens, index)
            await crowd.grow(house.gateways[index])
            await crowd.is_well()

    await roll(Tokens(old, (new,)))  # the new key verifies everywhere before it signs
    assert [sorted(kids) for kids in await jwks(house)] == [sorted(public)] * 2
    assert crowd.kids() == {key_of(old).kid}
    await roll(Tokens(new, (old,)))
    assert [sorted(kids) for kids in await jwks(house)] == [sorted(public)] * 2
    assert crowd.kids() == {key_of(old).kid, key_of(new).kid}
    await crowd.renew()
    assert crowd.kids() == {key_of(new).kid}
    await roll(Tokens(new))  # the last token of the old key has expired
    assert await jwks(house) == [[kid for kid in public if kid == key_of(new).kid]] * 2


async def test_status_issues_a_ticket_under_the_new_key_past_half_of_its_life(
    open_house: OpenHouse, tmp_path: Path
) -> None:
    """Section 7: so after `2 x absence_max` nobody who waits holds a ticket of the old key."""
    old, new = new_key(tmp_path, "old"), new_key(tmp_path, "new")
    crowd = await gather_crowd(open_house, Tokens(new, (old,)))
    visitor, _, number = crowd.waiting[0]
    (name,) = visitor.cookies
    desk = crowd.house.gateway._desks[crowd.line.id]
    ticket = desk.keyring.read_ticket(visitor.cookies[name], crowd.line.id, desk.now_s())
    assert isinstance(ticket, Ticket)
    ageing = replace(ticket, expires_at_s=desk.now_s() + crowd.line.absence_max_s - 1)
    visitor.cookies[name] = Keyring(key_of(old)).mint_ticket(ageing)
    assert (await visitor.see(crowd.line))["number"] == number
    assert kid_of(visitor.cookies[name]) == key_of(new).kid
    await crowd.is_well()


async def test_an_old_key_removed_too_early_costs_nobody_the_place(open_house: OpenHouse, tmp_path: Path) -> None:
    """Promise 13: a ticket of ours that cannot be verified just now is never overwritten; the key put back, it counts."""
    old, new = new_key(tmp_path, "old"), new_key(tmp_path, "new")
    crowd = await gather_crowd(open_house, Tokens(old))
    house, line, held = crowd.house, crowd.line, [dict(visitor.cookies) for visitor, _, _ in crowd.waiting]
    for index in (0, 1):
        await restart(house, Tokens(new), index)
    house.bank.requests.clear()
    for gateway in house.gateways:
        for visitor, key, _ in crowd.waiting:
            visitor.port = gateway.ports[0]
            for answer in (
                await visitor.join(line, key),
                await visitor.get(f"/_waitroom/{line.id}/status"),
                await visitor.claim(line),
                await visitor.ask("DELETE", f"/_waitroom/{line.id}/ticket"),
            ):
                assert (answer.status, answer.cookies) == (503, [])
        for visitor in crowd.paying:  # what cannot be verified opens nothing
            visitor.port = gateway.ports[0]
            assert (await visitor.get(f"/{crowd.inside.id}/")).status == 429
    assert [visitor.cookies for visitor, _, _ in crowd.waiting] == held
    assert house.bank.requests == []
    for index in (0, 1):
        await restart(house, Tokens(new, (old,)), index)
    await crowd.is_well()


async def test_an_expired_ticket_of_a_removed_key_is_a_new_visitors(open_house: OpenHouse, tmp_path: Path) -> None:
    """Promise 13: what cannot count any more, whoever signed it, keeps nobody out of the line."""
    old, new = new_key(tmp_path, "old"), new_key(tmp_path, "new")
    crowd = await gather_crowd(open_house, Tokens(new))
    line, now_s = crowd.line, crowd.house.gateway._desks[crowd.line.id].now_s()
    ticket = Ticket(line.id, b"e" * 16, 1, 1, now_s - 900, now_s - 900, now_s - 1)
    visitor = crowd.house.visitor()
    name = f"__Host-waitroom-ticket-{line.id}"
    visitor.cookies = {name: Keyring(key_of(old)).mint_ticket(ticket)}
    assert (await visitor.join(line)).status == 201
    assert kid_of(visitor.cookies[name]) == key_of(new).kid


async def test_a_key_that_signs_before_all_verify_it_costs_nobody_the_place(
    open_house: OpenHouse, tmp_path: Path
) -> None:
    """Promise 13: the gateway that does not know the key yet asks to come again, and knows the place when it does."""
    old, new = new_key(tmp_path, "old"), new_key(tmp_path, "new")
    crowd = await gather_crowd(open_house, Tokens(old))
    house, line = crowd.house, crowd.line
    await restart(house, Tokens(new, (old,)), 0)
    await crowd.grow(house.gateways[0])
    hasty, _, number = crowd.waiting[-1]
    hasty.port = house.gateways[1].ports[0]
    held = dict(hasty.cookies)
    answer = await hasty.get(f"/_waitroom/{line.id}/status")
    assert (answer.status, hasty.cookies) == (503, held)
    await restart(house, Tokens(old, (new,)), 1)
    hasty.port = house.gateways[1].ports[0]
    assert (await hasty.see(line))["number"] == number
    await crowd.is_well()


@pytest.mark.parametrize("kid", ["of the stranger", "of ours"])
async def test_where_admissions_are_hs256_no_other_kind_of_signature_counts(
    open_house: OpenHouse, tmp_path: Path, kid: str
) -> None:
    """Promises 9 and 13: one algorithm a key; an ES256 admission of a key that is not listed opens nothing."""
    ours, stranger = new_key(tmp_path, "ours", "HS256"), new_key(tmp_path, "stranger")
    crowd = await gather_crowd(open_house, Tokens(ours))
    house, inside, good = crowd.house, crowd.inside, crowd.paying[0]
    ((name, token),) = good.cookies.items()
    assert jwt.get_unverified_header(token)["alg"] == "HS256"
    assert await jwks(house) == [[], []]  # a symmetric key has nothing to publish
    desk = house.gateway._desks[inside.id]
    admission = desk.keyring.read_admission(token, inside.id, desk.now_s())
    assert isinstance(admission, Admission)
    forged = Keyring(key_of(stranger)).mint_admission(admission)
    if kid == "of ours":
        claims = jwt.decode(forged, options={"verify_signature": False})
        forged = jwt.encode(claims, key_of(stranger).private, "ES256", headers={"kid": key_of(ours).kid})
    house.bank.requests.clear()
    for gateway in house.gateways:
        bad = house.visitor(gateway)
        bad.cookies = {name: forged}
        assert (await bad.get(f"/{inside.id}/")).status == 429
        assert (await bad.get(f"/_waitroom/auth?room={inside.id}")).status == 401
    assert house.bank.requests == []
    await crowd.is_well()
