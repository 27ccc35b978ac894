"""Servers that are there and will not have us are refused with a sentence, not waited for."""

from __future__ import annotations

import pytest

from gateway.errors import Unreachable
from gateway.queue.connect import open_redis, refusal
from tests.conftest import free_port, redis_server


@pytest.mark.parametrize("kind", ["valkey", "redis"])
@pytest.mark.parametrize("login", ["", "?password=wrong"])
async def test_a_password_that_is_missing_or_wrong_is_refused(kind: str, login: str) -> None:
    """Promise 14: bad configuration never starts."""
    server = redis_server(kind, options=("--requirepass", "right"))
    server.start()
    try:
        connection = await open_redis(server.url + login, "state")
        assert "does not let us in" in str(await refusal(connection))
        await connection.close()
        welcome = await open_redis(f"{server.url}?password=right", "state")
        assert await refusal(welcome) is None
        await welcome.close()
    finally:
        server.remove()


@pytest.mark.parametrize("kind", ["valkey", "redis"])
async def test_a_database_that_is_not_there_is_refused(kind: str) -> None:
    """Promise 14: the same for a number of no database."""
    server = redis_server(kind)
    server.start()
    try:
        connection = await open_redis(f"{server.url}?db=77", "state")
        assert "redis.url" in str(await refusal(connection))
        await connection.close()
    finally:
        server.remove()


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_a_server_that_is_not_there_is_unreachable_whatever_the_client_calls_it(scheme: str) -> None:
    """Section 9: all failures of Redis are one thing; redis-py's Cluster client has an exception of a family of its own."""
    connection = await open_redis(f"{scheme}://127.0.0.1:{free_port()}", "state")
    with pytest.raises(Unreachable):
        await refusal(connection)
    await connection.close()
