"""Opens Redis: every URL form, what is refused, and the one meaning of all its failures."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, Self
from urllib.parse import unquote, urlsplit

import redis.asyncio as redis_asyncio
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisClusterException, RedisError

from gateway.errors import StartError, Unreachable
from gateway.queue.embedded import EmbeddedServer

CALL_TIMEOUT_S: Final = 1.0  # a script runs a few milliseconds: one second without an answer is a stall
POOL_MAX: Final = 8  # scripts are serial in Redis; more connections only queue there
POOL_WAIT_S: Final = 0.25
REDIS_PORT: Final = 6379
SENTINEL_PORT: Final = 26379
# How servers say that they are there and will not have us: no waiting mends that.
NOT_LET_IN: Final = (
    *("NOAUTH", "WRONGPASS", "NOPERM", "already authenticated"),
    *("invalid username-password", "invalid password", "DB index"),
)
FAILURES: Final = (RedisError, OSError, TimeoutError, RedisClusterException)  # the last is none of the first
VERSION_MIN: Final = {"redis": (6, 2), "valkey": (7, 2)}

Value = bytes | str | int | float


class Client(Protocol):
    """What the store needs of a redis-py client, alone, behind Sentinel or of a Cluster."""

    def evalsha(self, sha: str, numkeys: int, *keys_and_args: Value) -> Awaitable[Any]: ...

    def eval(self, script: str, numkeys: int, *keys_and_args: Value) -> Awaitable[Any]: ...

    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Connection:
    """An open client and, with `embedded`, the server it belongs to. All failures leave here as `Unreachable`."""

    client: Client
    url: str
    server: EmbeddedServer | None = None
    sentinels: Sequence[Client] = ()  # who is asked for the master: connections of their own
    pool: Any = None  # with Sentinel: what knows the master's address
    _master: tuple[str, int] | None = None  # whom Sentinel named last

    async def run(self, sha: str, source: str, keys: Sequence[Value], args: Sequence[Value]) -> Any:
        """Run a script by its SHA-1, sending its source where the server does not know it.

        Never repeated by the library: a lost reply would run it again (`facts.md`: one INCR ran 11 times).
        """
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                try:
                    return await self.client.evalsha(sha, len(keys), *keys, *args)
                except NoScriptError:
                    return await self.client.eval(source, len(keys), *keys, *args)
        except FAILURES as fault:
            raise _unreachable(fault) from fault

    async def follow(self) -> None:
        """Leave a master that Sentinel has replaced: it answers on for up to ten seconds, and what it is told is lost."""
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                master = await self.pool.get_master_address()  # closes what is idle if it is another
                if master != self._master:
                    await self.pool.update_active_connections_for_reconnect()
                self._master = master
        except FAILURES as fault:
            raise _unreachable(fault) from fault

    async def close(self) -> None:
        for client in (self.client, *self.sentinels):
            with contextlib.suppress(TimeoutError):  # it ends with the process at the latest
                async with asyncio.timeout(CALL_TIMEOUT_S):
                    await client.aclose()
        if self.server is not None:
            await asyncio.to_thread(self.server.stop)


def _unreachable(fault: Exception) -> Unreachable:
    return Unreachable(f"Redis: {type(fault).__name__}: {str(fault)[:200]}")


def _options() -> dict[str, Any]:
    return {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": None,  # `run` has the deadline; the library's own would cost a task for every command
        "socket_connect_timeout": CALL_TIMEOUT_S,
        "health_check_interval": 0,
        "client_name": "waitroom",
        "driver_info": None,  # else each connection tells its library, which servers before 7.2 cannot even forbid by name
    }


def _single(url: str) -> Client:
    pool = redis_asyncio.BlockingConnectionPool.from_url(
        url, max_connections=POOL_MAX, timeout=POOL_WAIT_S, **_options()
    )
    return redis_asyncio.Redis.from_pool(pool)


@dataclass(frozen=True, slots=True)
class SentinelAddress:
    """redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/name[/db]: not a form redis-py knows."""

    hosts: tuple[tuple[str, int], ...]
    name: str
    db: int = 0
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises StartError with the form that is meant."""
        parts = urlsplit(url)
        login, _, hosts = parts.netloc.rpartition("@")
        user, _, password = login.partition(":")
        name, _, db = parts.path.strip("/").partition("/")
        found = _addresses(hosts, SENTINEL_PORT)
        if not name or not re.fullmatch("[0-9]*", db) or not found:
            form = "redis+sentinel://[[user]:password@]host[:port][,host[:port]...]/name[/db]"
            raise StartError(f"redis.url: Sentinel is written {form}, not {parts._replace(netloc=hosts).geturl()}")
        return cls(tuple(found), name, int(db or 0), unquote(user), unquote(password))


def _addresses(hosts: str, port: int) -> list[tuple[str, int]]:
    """host[:port][,host[:port]...] taken apart; [] if one of them is none."""
    found = [re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^\[\]:]*)(?::([0-9]+))?", text) for text in hosts.split(",")]
    addresses = [(one[1].strip("[]") or "127.0.0.1", int(one[2] or port)) for one in found if one]
    return addresses if len(addresses) == len(found) else []


def _sentinel(url: str) -> Connection:
    address, options = SentinelAddress.parse(url), _options()
    if address.password:
        options |= {"password": address.password} | ({"username": address.user} if address.user else {})
    own = {"socket_timeout": CALL_TIMEOUT_S, "retry": Retry(NoBackoff(), 0)}
    sentinel = Sentinel(list(address.hosts), sentinel_kwargs=own)  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
    client = sentinel.master_for(address.name, db=address.db, **options)
    return Connection(client, url, sentinels=sentinel.sentinels, pool=client.connection_pool)


def _cluster(url: str) -> Client:
    """The library reads one host: the others are who may be asked for the slots besides."""
    options = _options()
    options["retry"] = Retry(NoBackoff(), 1)  # 0 would keep it from following a slot that moved
    options.pop("client_name")
    parts = urlsplit(url)
    login, at, hosts = parts.netloc.rpartition("@")
    first, _, others = hosts.partition(",")
    nodes = [ClusterNode(host, port) for host, port in (_addresses(others, REDIS_PORT) if others else ())]
    scheme = "rediss" if parts.scheme == "rediss+cluster" else "redis"
    single = parts._replace(scheme=scheme, netloc=login + at + first).geturl()
    return RedisCluster.from_url(single, startup_nodes=nodes, max_connections=POOL_MAX, **options)


async def open_redis(url: str, state_dir: str) -> Connection:
    """Open the client of `url`; it connects when first used. `embedded` starts a Valkey whose data outlives a restart.

    Raises StartError where the embedded server is not installed or does not start.
    """
    if url == "embedded":
        server = await asyncio.to_thread(EmbeddedServer.start, Path(state_dir) / "valkey")
        return Connection(_single(f"unix://{server.socket}"), f"unix://{server.socket}", server)
    if url.startswith("redis+sentinel://"):
        return _sentinel(url)
    if url.startswith(("redis+cluster://", "rediss+cluster://")):
        return Connection(_cluster(url), url)
    return Connection(_single(url), url)


async def refusal(connection: Connection) -> str | None:
    """Why this server may not be used (version, eviction policy), as a sentence; None when it may.

    Raises Unreachable where it cannot be asked; managed services that hide CONFIG are believed from INFO memory.
    """
    source = "return {redis.call('INFO', 'server'), redis.call('INFO', 'memory')}"
    try:
        async with asyncio.timeout(CALL_TIMEOUT_S):
            server, memory = await connection.client.eval(source, 1, "waitroom:{probe}")
    except FAILURES as fault:
        if any(sign in str(fault) for sign in NOT_LET_IN):
            return f"it does not let us in ({str(fault)[:120]}): see the user, password and database of redis.url"
        raise _unreachable(fault) from fault
    facts = dict(line.split(":", 1) for line in (server + memory).decode().splitlines() if ":" in line)
    return judge_server(facts)


def judge_server(facts: dict[str, str]) -> str | None:
    """The same, from the fields of INFO: pure, so that versions that are not at hand can be tested."""
    kind = "valkey" if "valkey_version" in facts else "redis"
    text = facts.get(f"{kind}_version", "0")
    version = tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
    if version < VERSION_MIN[kind]:
        wanted = ".".join(map(str, VERSION_MIN[kind]))
        return f"{kind} {text} is too old: {kind} {wanted} or newer is needed"
    policy = facts.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        return f"maxmemory-policy is {policy!r}, which may evict the queue: set it to noeviction"
    return None
