"""Binds the sockets that a gateway listens on, or takes those that systemd holds; says in a sentence what is wrong with one."""

from __future__ import annotations

import errno
import socket
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from gateway.errors import StartError
from gateway.model import Server
from gateway.notation import address_text

NOBODYS: Final[Mapping[str, socket.socket]] = MappingProxyType({})


def bind(host: str, port: int, *, backlog: int = 4096) -> socket.socket:
    """A listening-to-be socket; `StartError` says in a sentence why there is none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(backlog)
    except OSError as fault:
        sock.close()
        if fault.errno == errno.EADDRINUSE:
            raise StartError(f"port {port} on {host} is in use by another process") from None
        raise StartError(f"cannot listen on {host}:{port}: {fault.strerror or fault}") from None
    sock.setblocking(False)
    return sock


def bind_both(server: Server, held: Mapping[str, socket.socket] = NOBODYS) -> tuple[socket.socket, socket.socket]:
    """The public and the operator port, those that systemd holds among them; `StartError` names the key to change."""
    public = _bound(server.public, "public", held)
    try:
        return public, _bound(server.operator, "operator", held)
    except StartError:
        public.close()
        raise


def _bound(address: tuple[str, int], key: str, held: Mapping[str, socket.socket]) -> socket.socket:
    if (sock := held.get(key)) is not None:
        # What was checked of the file (who may reach the operator port, above all) must be true of the socket, too.
        there = sock.getsockname()[:2]
        if there != ("127.0.0.1" if address[0] == "localhost" else address[0], address[1]):
            here = f"{key} of [server] is {address_text(address)}"
            raise StartError(f"systemd listens on {address_text(there)} as {key}, and {here}: make them one")
        return sock
    try:
        return bind(*address)
    except StartError as fault:
        raise StartError(f"{fault}: see {key} of [server]") from None
