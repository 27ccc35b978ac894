"""What is handed in with a request that goes on to an upstream: the gate's decisions, and who counts what happens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from gateway.rules.headers import Header

OnHead = Callable[[int, list[Header], Mapping[bytes, list[bytes]]], None]


class Plan(NamedTuple):
    """What the gate has decided about one request.

    `headers` are added for the upstream. `on_head(status, to_client, known)` runs before the head is sent and may change
    `to_client`; `known` has the values of the upstream's fields that a rule knows (`Head.known`), `Waitroom-*` among them. It
    also runs for answers of ours that stand in for a failed upstream, with nothing known. `on_alive` is called every 20 s
    while the exchange lasts.
    """

    upstream: str
    room: str | None = None
    room_in_flight_max: int = 0
    headers: tuple[Header, ...] = ()
    on_head: OnHead | None = None
    on_alive: Callable[[], None] | None = None
    peer: str = ""  # the address that connected; added to X-Forwarded-For
    is_peer_trusted: bool = False
    scheme: str = "http"
    replaced: tuple[Header, ...] = ()  # in place of the client's own of these names: a request's id, its trace


class Observer(Protocol):
    """Who counts what happens here; labels are names from configuration and kinds from `FAILURES`."""

    def answered(self, upstream: str, seconds: float) -> None: ...
    def failed(self, upstream: str, kind: str) -> None: ...
