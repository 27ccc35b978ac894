"""Keys of each kind, made once for all tests of rules."""

from __future__ import annotations

import pytest

from gateway.rules.keys import Key, new_key_file
from gateway.rules.tokens import Keyring
from tests.rules.glancing import Glancing


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Key]:
    """An ES256 key, an HS256 one, and a second ES256 one to rotate to."""
    folder = tmp_path_factory.mktemp("keys")
    return {
        "ec": new_key_file(folder / "ec.pem"),
        "hs": new_key_file(folder / "hs.jwk", "HS256"),
        "new": new_key_file(folder / "new.pem"),
    }


@pytest.fixture(scope="session")
def ec_ring(keys: dict[str, Key]) -> Keyring:
    return Glancing(keys["ec"], issuer="https://gate.example")
