"""Real edges for tests: Debian's HAProxy, nginx and Caddy on what `waitroom edge` prints, before real gateways."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.edges.printing import printed
from gateway.edges.site import Address
from gateway.model import Config
from gateway.rules.headers import signature
from gateway.rules.keys import load_key_file
from gateway.rules.tokens import subject_of
from tests.conftest import free_port
from tests.web.gatewayfixture import House, Visitor, until, until_answer

TRUSTED: Final = ("127.0.0.1/32",)
KEY: Final = b"0123456789abcdef0123456789abcdef"  # of Waitroom-Signature
OpenEdge = Callable[..., Awaitable["Edge"]]


def command(kind: str, file: Path, *, check: bool = False) -> list[str]:
    """How the program is run on a configuration, in the foreground; or how it only judges one."""
    match kind:
        case "haproxy":
            return ["haproxy", "-c", "-f", str(file)] if check else ["haproxy", "-db", "-f", str(file)]
        case "nginx":
            options = ["-p", str(file.parent), "-e", str(file.parent / "error.log"), "-c", str(file)]
            return ["nginx", *options, "-t"] if check else ["nginx", *options, "-g", "daemon off;"]
        case _:
            return ["caddy", "validate" if check else "run", "--config", str(file), "--adapter", "caddyfile"]


def written(kind: str, config: Config, folder: Path, **options: Any) -> Path:
    """What `waitroom edge` prints, in a file of its own, with the public keys where it says."""
    found = printed(kind, config, load_key_file, **options)
    for path, content in found.files:
        path.write_bytes(content)
    file = folder / kind / {"haproxy": "haproxy.cfg", "nginx": "nginx.conf", "caddy": "Caddyfile"}[kind]
    file.parent.mkdir(exist_ok=True)
    file.write_text(for_this_folder(kind, found.text, file.parent))
    return file


def for_this_folder(kind: str, text: str, folder: Path) -> str:
    """The same with its working files here, so that tests share nothing; all else is as printed."""
    if kind == "nginx":
        # Started by root, its workers would be nobody, who may not look into our folder.
        home = ("user root; " if os.geteuid() == 0 else "") + "pid nginx.pid; worker_processes 1;"
        kept = " ".join(f"{name}_temp_path {name};" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
        assert "/var/cache/waitroom-edge" in text
        text = text.replace("/var/cache/waitroom-edge", str(folder / "cache"))
        return (
            f"{home}\n{text}"
            if "http {" in text
            else f"{home}\nevents {{}}\nhttp {{ {kept} access_log off;\n{text}\n}}\n"
        )
    if kind == "caddy":
        assert text.lstrip().startswith(("#", "{"))
        return text.replace("admin off", f"admin off\n\tstorage file_system {folder}", 1)
    return text


@dataclass
class Edge:
    """A running edge; `visitor` comes in through it."""

    kind: str
    port: int
    file: Path
    house: House
    process: subprocess.Popen[bytes] = field(repr=False)

    def visitor(self, **headers: str) -> Visitor:
        visitor = Visitor(self.house.session, self.port)
        visitor.headers = headers
        return visitor

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def said(self) -> str:
        return (self.file.parent / "said").read_text()


async def start(kind: str, house: House, folder: Path, **options: Any) -> Edge:
    """An edge before all gateways of the house, once it answers and has found them."""
    port = free_port()
    gateways = tuple(Address("127.0.0.1", gateway.ports[0]) for gateway in house.gateways)
    file = written(kind, house.config, folder, listen=f"127.0.0.1:{port}", gateways=gateways, **options)
    with (file.parent / "said").open("wb") as said:
        process = subprocess.Popen(  # noqa: ASYNC220 - it starts in no time, and its pid is ours to end
            command(kind, file), stdout=said, stderr=said, env={**os.environ, "HOME": str(folder)}
        )
    edge = Edge(kind, port, file, house, process)
    try:
        await until(lambda: process.poll() is not None or listens(port), 15)
        assert process.poll() is None, edge.said
        if options.get("certificate") is None:
            ask = edge.visitor().get
            await until_answer(lambda: ask("/_waitroom/health"), lambda answer: answer.status == 200)
    except BaseException:
        edge.stop()
        raise
    return edge


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


async def edge_opener(tmp_path: Path) -> AsyncIterator[OpenEdge]:
    """As a fixture: opens edges before a house."""
    async with AsyncExitStack() as stack:

        async def open_edge(kind: str, house: House, **options: Any) -> Edge:
            assert shutil.which(kind), f"{kind} is not installed: make install-test"
            edge = await start(kind, house, tmp_path, **options)
            stack.callback(edge.stop)
            return edge

        yield open_edge


def admitted(edge: Edge, room_id: str, gateway: int = 0, **admission: Any) -> Visitor:
    """A visitor with an admission that the house's gateway signed just now, in its cookie."""
    desk = edge.house.gateways[gateway]._desks[room_id]
    entered_at_s = admission.pop("entered_at_s", desk.now_s())
    text, _ = desk.new_admission(admission.pop("identity", desk.random_id()), entered_at_s, **admission)
    visitor = edge.visitor()
    visitor.cookies = {desk.admission_cookie: text}
    return visitor


def assert_ours(headers: Mapping[str, str], room_id: str, identity: bytes) -> None:
    """Of our fields the bank got what the contract names, signed just now, and nothing else."""
    ours = {name.lower(): value for name, value in headers.items() if name.lower().startswith("waitroom")}
    stamp = int(ours["waitroom-signature"].partition(",")[0].removeprefix("t="))
    assert abs(stamp - time.time()) < 5
    assert ours == {
        "waitroom-subject": subject_of(identity),
        "waitroom-room": room_id,
        "waitroom-signature": signature(KEY, room_id, subject_of(identity), stamp),
    }


async def kill_all(edge: Edge) -> None:
    """Every gateway dies; answers once the edge has noticed."""
    for gateway in list(edge.house.gateways):
        await edge.house.kill(gateway)
    ask = edge.visitor().get
    await until_answer(lambda: ask("/_waitroom/health"), lambda answer: answer.status in {500, 502, 503})
