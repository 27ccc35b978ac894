"""Upstreams by https: who is believed, what name is asked for, and that nothing is sent to anybody else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Final

import pytest

from tests.authority import Authority
from tests.documents import GOOD, faults, furnish, load, only
from tests.web.conftest import OpenProxy
from tests.web.wire import GET, HOST, OK, Bank, Peer, Proxy, is_reset, until

NOW: Final = dt.datetime.now(dt.UTC)


@pytest.fixture(scope="module")
def ours() -> Authority:
    return Authority("ours")


async def ask(proxy: Proxy, request: bytes = GET) -> bytes:
    client = await proxy.client()
    await client.send(request)
    return await client.answer()


async def test_an_upstream_by_https_is_asked_by_its_name(
    ours: Authority, tmp_path: Path, open_proxy: OpenProxy
) -> None:
    """Promise 10: verified by the CA of the configuration, told which name is meant (SNI), and its connection kept."""
    asked: list[str | None] = []
    context = ours.server(tmp_path, "localhost")
    context.sni_callback = lambda _sock, name, _context: asked.append(name)
    bank = Bank()
    await bank.open(tls=context)
    proxy = await open_proxy(urls=(f"https://localhost:{bank.port}",), ca=ours.pem)
    body = b"x" * 300_000
    post = b"POST /pay HTTP/1.1\r\n" + HOST + b"Content-Length: 300000\r\n\r\n" + body
    client = await proxy.client()
    for request in (GET, GET, post):
        await client.send(request)
        assert await client.answer() == OK
    assert asked == ["localhost"], "one connection, by name"
    assert bank.requests[2].endswith(body)
    assert b"Host: bank.example\r\n" in bank.requests[0], "the visitor's host is not the certificate's"
    await bank.close()


@pytest.mark.parametrize("fault", ["another CA", "another name", "expired", "the system's CAs"])
async def test_an_upstream_that_cannot_be_trusted_is_sent_nothing(
    ours: Authority, tmp_path: Path, open_proxy: OpenProxy, fault: str
) -> None:
    """Promises 9 and 10: 502, and neither a byte of the request nor the subject's signature reaches it."""
    signer = Authority("theirs") if fault == "another CA" else ours
    name = "other.example" if fault == "another name" else "localhost"
    bank = Bank()
    await bank.open(tls=signer.server(tmp_path, name, days=-1 if fault == "expired" else 1))
    ca = "" if fault == "the system's CAs" else ours.pem
    proxy = await open_proxy(urls=(f"https://localhost:{bank.port}",), ca=ca)
    answer = await ask(proxy, b"POST /pay HTTP/1.1\r\n" + HOST + b"Content-Length: 6\r\n\r\nsecret")
    assert answer.startswith(b"HTTP/1.1 502 Bad Gateway\r\n")
    assert proxy.seen.kinds == ["untrusted"]
    assert not proxy.upstreams.is_healthy("bank"), "promise 6: nobody is called for it"
    assert bank.requests == []
    await bank.close()


async def test_an_upstream_that_speaks_no_tls_is_502(open_proxy: OpenProxy, bank: Bank, ours: Authority) -> None:
    """Promise 10: a port that answers in the clear is not asked in the clear."""

    async def part(peer: Peer) -> None:
        bank.requests.append(await peer.exactly(100))
        await peer.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    bank.part = part
    proxy = await open_proxy(urls=(f"https://localhost:{bank.port}",), ca=ours.pem)
    assert (await ask(proxy)).startswith(b"HTTP/1.1 502 ")
    assert proxy.seen.kinds == ["refused"]
    assert b"bank.example" not in b"".join(bank.requests)


async def test_an_answer_by_https_that_is_cut_short_never_looks_whole(
    ours: Authority, tmp_path: Path, open_proxy: OpenProxy
) -> None:
    """Promise 10: as over plain connections."""

    async def part(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")

    bank = Bank()
    bank.part = part
    await bank.open(tls=ours.server(tmp_path, "localhost"))
    proxy = await open_proxy(urls=(f"https://localhost:{bank.port}",), ca=ours.pem)
    client = await proxy.client()
    await client.send(GET)
    assert await is_reset(client)
    await until(lambda: proxy.seen.kinds == ["truncated"])
    await bank.close()


# --- the configuration -----------------------------------------------------------------------------------------------


def with_ca(text: str) -> str:
    return GOOD.replace("[upstreams.bank]", f"[upstreams.bank]\n{text}").replace("http://127", "https://127")


def test_a_ca_file_is_read_with_what_people_write_into_it(tmp_path: Path, ours: Authority) -> None:
    """Section 13: relative to the file that names it; comments between certificates are usual."""
    folder = furnish(tmp_path)
    (folder / "ca.pem").write_text(f"# of the bank, until 2027 · 은행\n{ours.pem}")
    found = load(folder, with_ca('ca_file = "ca.pem"')).upstreams["bank"]
    assert ours.pem in found.ca
    assert load(folder, with_ca("")).upstreams["bank"].ca == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot be read: No such file"), ("", "no certificate"), ("-----BEGIN CERT\n", "no certificate")],
)
def test_a_ca_file_without_a_certificate_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    """Promise 14: not found out by the first visitor, and never taken for trust in everybody."""
    folder = furnish(tmp_path)
    if content is not None:
        (folder / "ca.pem").write_text(content)
    found = only(faults(folder, with_ca('ca_file = "ca.pem"')))
    assert found.startswith('upstreams.bank.ca_file = "ca.pem": ')
    assert said in found
    assert "openssl rand" not in found
