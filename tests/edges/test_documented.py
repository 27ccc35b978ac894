"""The configurations under deploy/edges, which nobody runs here: Envoy's against Envoy's own API, all against our contract."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from envoy.config.bootstrap.v3 import bootstrap_pb2
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2
from envoy.extensions.filters.http.jwt_authn.v3 import config_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.transport_sockets.tls.v3 import tls_pb2
from google.protobuf import json_format

from gateway.edges.caddy import SHOWN
from gateway.edges.site import AUTH

FOLDER = Path(__file__).parent.parent.parent / "deploy" / "edges"
FILES = sorted(FOLDER.glob("*.yaml"))
# Importing a type is what lets the reader look into an `Any` of it.
TYPES = (ext_authz_pb2, config_pb2, router_pb2, http_connection_manager_pb2, tls_pb2)


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_one_says_that_it_was_not_run(file: Path) -> None:
    """Issue 3: documented, and marked as not run."""
    assert len(FILES) == 3
    assert "NOT RUN by the project" in file.read_text().splitlines()[0]
    assert "trusted_proxies" in file.read_text()
    assert AUTH in file.read_text()
    assert all(documents(file))


def test_envoy_knows_every_field() -> None:
    """Read strictly as Envoy's bootstrap, filters included: an unknown field or a wrong type is an error."""
    assert all(module.DESCRIPTOR.name.endswith(".proto") for module in TYPES)
    (document,) = documents(FOLDER / "envoy.yaml")
    bootstrap = json_format.ParseDict(document, bootstrap_pb2.Bootstrap())
    assert [cluster.name for cluster in bootstrap.static_resources.clusters] == ["gateways", "bank"]
    manager = document["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    faults: list[dict[str, Any]] = [{"http_filtres": []}, {"merge_slashes": "perhaps"}]
    for planted in faults:
        with pytest.raises(json_format.ParseError):
            json_format.ParseDict(manager | planted, http_connection_manager_pb2.HttpConnectionManager())
    asking = next(one for one in manager["http_filters"] if one["name"].endswith("ext_authz"))["typed_config"]
    allowed = asking["http_service"]["authorization_response"]["allowed_upstream_headers"]["patterns"]
    assert {pattern["exact"] for pattern in allowed} == {name.lower() for name in SHOWN}
    assert asking["failure_mode_allow"] is False


def test_traefik_takes_over_what_a_verdict_promises() -> None:
    (document,) = documents(FOLDER / "traefik.yaml")
    middlewares, routers = document["http"]["middlewares"], document["http"]["routers"]
    assert set(middlewares["waitroom"]["forwardAuth"]["authResponseHeaders"]) == set(SHOWN)
    assert "waitroom" in routers["bank"]["middlewares"]
    assert routers["verdict"]["priority"] > routers["gateways"]["priority"] > routers["bank"]["priority"]


def test_in_kubernetes_nothing_reaches_the_bank_but_gateways() -> None:
    gateway, route, policy = documents(FOLDER / "gateway-api.yaml")
    backends = {ref["name"] for rule in route["spec"]["rules"] for ref in rule["backendRefs"]}
    assert (gateway["kind"], backends) == ("Gateway", {"waitroom"})
    assert policy["spec"]["ingress"] == [{"from": [{"podSelector": {"matchLabels": {"app": "waitroom"}}}]}]
