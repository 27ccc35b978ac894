"""What all three edges do alike, for real: TLS, HTTP/2 and WebSockets."""

from __future__ import annotations

import asyncio
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from gateway.edges.printing import KINDS
from tests.authority import Authority
from tests.edges.edgefixture import TRUSTED, OpenEdge, admitted, edge_opener
from tests.edges.hostile import passed_a_gateway
from tests.web.gatewayfixture import (
    SHUT,
    ManualBank,
    OpenHouse,
    house_opener,
    protecting,
)

open_house = pytest.fixture(house_opener)
open_edge = pytest.fixture(edge_opener)


@pytest.mark.parametrize("kind", KINDS)
async def test_a_websocket_goes_through_a_gateway(open_house: OpenHouse, open_edge: OpenEdge, kind: str) -> None:
    """Section 4, Lease: an open WebSocket touches its lease, which only a gateway can do for it."""
    room = protecting("socket", drain_rate=SHUT)
    house = await open_house(room, trusted_proxies=TRUSTED)
    edge = await open_edge(kind, house)

    async def echo(request: web.BaseRequest) -> web.StreamResponse:
        answer = web.WebSocketResponse()
        await answer.prepare(request)
        async for message in answer:
            await answer.send_str(f"{message.data} back")
        return answer

    (pair,) = admitted(edge, room.id).cookies.items()
    house.bank.play = echo
    headers = {"Host": "bank.example", "Cookie": "=".join(pair)}
    async with house.session.ws_connect(f"http://127.0.0.1:{edge.port}/{room.id}/", headers=headers) as client:
        await client.send_str("there")
        assert await client.receive_str(timeout=5) == "there back"
    assert passed_a_gateway(house)


@pytest.mark.parametrize("kind", KINDS)
async def test_an_edge_believes_whom_the_upstreams_ca_file_vouches_for(
    open_house: OpenHouse, open_edge: OpenEdge, tmp_path: Path, kind: str
) -> None:
    """`ca_file`, and nobody else: what comes from another bank reaches no visitor, and nothing is sent to it."""
    ours = Authority("ours")
    (tmp_path / "it's ours.pem").write_text(ours.pem)
    room = protecting("vouched", drain_rate=SHUT)
    house = await open_house(room, trusted_proxies=TRUSTED)
    for authority, expected in ((ours, 200), (Authority("theirs"), None)):
        bank = ManualBank()
        await bank.open(authority.server(tmp_path, "localhost"))
        behind = replace(house.config.upstreams["bank"], urls=(bank.url,), ca_file=str(tmp_path / "it's ours.pem"))
        house.config = replace(house.config, upstreams={"bank": behind})
        edge = await open_edge(kind, house)
        answer = await admitted(edge, room.id).get(f"/{room.id}/")
        assert (answer.status == 200) is (expected == 200), answer
        assert len(bank.requests) == (1 if expected == 200 else 0)
        edge.stop()
        await bank.close()
    assert house.bank.requests == [], "past the gateways"


def self_signed(folder: Path) -> Path:
    """A certificate for bank.example with its key, as edges read it."""
    file = folder / "site.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bank.example"]
    subprocess.run([*made, "-keyout", str(folder / "k"), "-out", str(folder / "c")], check=True, capture_output=True)
    file.write_text((folder / "c").read_text() + (folder / "k").read_text())
    return file


@pytest.mark.parametrize("kind", KINDS)
async def test_an_edge_ends_tls_and_speaks_http_2(
    open_house: OpenHouse, open_edge: OpenEdge, tmp_path: Path, kind: str
) -> None:
    """Section 1: TLS and HTTP/2 end at the edge; cookie crumbs of HTTP/2 are one Cookie again."""
    room = protecting("tls", drain_rate=SHUT, burst=2)
    house = await open_house(room, trusted_proxies=TRUSTED)
    edge = await open_edge(kind, house, certificate=str(self_signed(tmp_path)))
    (pair,) = admitted(edge, room.id).cookies.items()

    async def curl(*options: str) -> str:
        target = f"https://bank.example:{edge.port}/{room.id}/"
        ask = ["curl", "-sk", "--max-time", "5", "--resolve", f"bank.example:{edge.port}:127.0.0.1", "-o", "-"]
        ask += ["-w", " %{http_code} %{http_version}", "--http2", *options, target]
        process = await asyncio.create_subprocess_exec(*ask, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return out.decode()

    end_s = time.monotonic() + 10
    while (said := await curl("-H", "Accept: application/json")).rpartition("}")[2] != " 429 2":
        assert time.monotonic() < end_s, said
        await asyncio.sleep(0.1)
    assert await curl("-b", f"a=1; {'='.join(pair)}; b=2") == "the bank 200 2"
    assert house.bank.last["Cookie"].replace(" ", "") == "a=1;b=2"
    assert not passed_a_gateway(house)
