"""deploy/kubernetes: rendered by kubectl, held to Kubernetes' own schema, and to what the gateway is and needs."""

from __future__ import annotations

import copy
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import kubernetes_validate
import pytest
import yaml

from gateway.app import END_S
from gateway.config import load
from gateway.rules.keys import load_key_file, new_key_file
from gateway.web.listener import CLOSE_S
from tests.deploy.prometheus import DEPLOY
from tests.test_docs import metric_names, unknown_metrics

FOLDER: Final = DEPLOY / "kubernetes"
VERSIONS: Final = ("1.27", "1.37")  # the oldest it is written for, and the newest that the tool knows
CUSTOM: Final = ("servicemonitor.yaml", "keda.yaml")  # kinds that a cluster has only with somebody's CRDs
SECRETS: Final = "/etc/waitroom-secrets"
Document = dict[str, Any]


def rendered(folder: Path) -> list[Document]:
    done = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    return rendered(FOLDER)


@pytest.fixture(scope="module")
def customs(tmp_path_factory: pytest.TempPathFactory) -> list[Document]:
    """What comes in with the other lines of kustomization.yaml."""
    folder = tmp_path_factory.mktemp("custom") / "kubernetes"
    shutil.copytree(FOLDER, folder)
    listed = (folder / "kustomization.yaml").read_text()
    assert all(name in listed for name in CUSTOM)
    listed = listed.replace("- autoscaler.yaml #", "- keda.yaml #").replace(
        "# - servicemonitor.yaml", "- servicemonitor.yaml"
    )
    (folder / "kustomization.yaml").write_text(listed)
    return [one for one in rendered(folder) if one["kind"] in {"ScaledObject", "ServiceMonitor"}]


def only(documents: list[Document], kind: str, name: str = "waitroom") -> Document:
    (found,) = (one for one in documents if one["kind"] == kind and one["metadata"]["name"].startswith(name))
    return found


def pod(documents: list[Document]) -> Document:
    found: Document = only(documents, "Deployment")["spec"]["template"]["spec"]
    return found


def is_refused(document: Document, version: str) -> bool:
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError:
        return True
    return False


@pytest.mark.parametrize("version", VERSIONS)
def test_every_document_is_what_kubernetes_allows(documents: list[Document], version: str) -> None:
    """Strictly: a field that it does not know is a fault."""
    kinds = sorted(one["kind"] for one in documents)
    assert kinds == [
        *(
            "ConfigMap",
            "Deployment",
            "HorizontalPodAutoscaler",
            "NetworkPolicy",
            "PodDisruptionBudget",
            "Service",
            "Service",
        )
    ]
    assert [one["kind"] for one in documents if is_refused(one, version)] == []
    planted = copy.deepcopy(only(documents, "Deployment"))
    pod([planted])["terminationGracePeriodSecs"] = 30
    assert is_refused(planted, version)


def test_all_of_it_is_in_one_namespace_and_says_that_it_was_not_run(
    documents: list[Document], customs: list[Document]
) -> None:
    assert len(customs) == 2
    assert {one["metadata"]["namespace"] for one in (*documents, *customs)} == {"bank"}
    for name in ("kustomization.yaml", *CUSTOM):
        assert "NOT RUN" in (FOLDER / name).read_text(), name


def test_the_file_is_one_that_a_gateway_starts_on(documents: list[Document], tmp_path: Path) -> None:
    """And it finds its secrets, its folder and its ports where the pod has them."""
    text = only(documents, "ConfigMap")["data"]["waitroom.toml"]
    new_key_file(tmp_path / "signing.pem", "ES256")
    for name in ("sre.token", "bank.hmac"):
        (tmp_path / name).write_text(f"{name.encode().hex():0<64}\n")
        (tmp_path / name).chmod(0o600)
    file = tmp_path / "waitroom.toml"
    file.write_text(text.replace(SECRETS, str(tmp_path)))
    config = load(file, {}, read_key=load_key_file)
    (container,) = pod(documents)["containers"]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in pod(documents)["volumes"]}
    assert volumes[mounts[config.server.state_dir]]["emptyDir"]
    assert volumes[mounts[SECRETS]]["secret"] == {"secretName": "waitroom", "defaultMode": 0o400}
    assert volumes[mounts["/etc/waitroom"]]["configMap"]["name"] == only(documents, "ConfigMap")["metadata"]["name"]
    assert container["args"] == ["serve", "/etc/waitroom/waitroom.toml"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"public": config.server.public[1], "operator": config.server.operator[1]}
    assert config.operators, "probes come from elsewhere, so the port is open to others"
    for variable in container["env"]:
        assert variable["value"].startswith(f"{SECRETS}/")
    changed = only(documents, "ConfigMap")["metadata"]["name"]
    assert changed != "waitroom", "a changed file has to be a new name, or nobody takes it up"


def test_the_pod_has_the_time_that_its_end_takes(documents: list[Document], tmp_path: Path) -> None:
    """Promise 11: a pod that is killed in its grace loses what is in flight."""
    text = only(documents, "ConfigMap")["data"]["waitroom.toml"]
    (grace,) = (line.split('"')[1] for line in text.splitlines() if line.startswith("stop_grace"))
    needed_s = float(grace.removesuffix("s")) + CLOSE_S + END_S
    assert pod(documents)["terminationGracePeriodSeconds"] >= needed_s
    (container,) = pod(documents)["containers"]
    assert "lifecycle" not in container
    probe = container["readinessProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] < float(grace.removesuffix("s"))
    assert {container[name]["httpGet"]["path"] for name in ("readinessProbe", "livenessProbe")} == {
        "/readyz",
        "/healthz",
    }


def test_the_pod_meets_the_restricted_standard(documents: list[Document]) -> None:
    """Pod Security Standards, restricted; and what a proxy without an API token needs besides."""
    spec = pod(documents)
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {next(iter(volume.keys() - {"name"})) for volume in spec["volumes"]} <= {"configMap", "secret", "emptyDir"}
    assert (spec["automountServiceAccountToken"], spec["enableServiceLinks"]) == (False, False)
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()


def test_one_gateway_is_never_all_there_are(documents: list[Document], customs: list[Document]) -> None:
    """Promises 5 and 11: two at least, one away at a time, spread, and never fewer than there were in a roll."""
    scaler, deployment = only(documents, "HorizontalPodAutoscaler")["spec"], only(documents, "Deployment")["spec"]
    assert scaler["minReplicas"] == only(customs, "ScaledObject")["spec"]["minReplicaCount"] == 2
    assert only(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    assert "replicas" not in deployment, "an apply would undo what the autoscaler did"
    assert len(pod(documents)["topologySpreadConstraints"]) == 2
    selected = [only(documents, kind)["spec"] for kind in ("PodDisruptionBudget", "Deployment")]
    assert [spec["selector"]["matchLabels"] for spec in selected] == [{"app": "waitroom"}] * 2


def test_the_way_in_that_is_documented_leads_to_these_gateways(documents: list[Document]) -> None:
    """deploy/edges/gateway-api.yaml: its route, and its policy that keeps everybody else from the bank."""
    _, route, policy = yaml.safe_load_all((DEPLOY / "edges" / "gateway-api.yaml").read_text())
    (backend,) = (ref for rule in route["spec"]["rules"] for ref in rule["backendRefs"])
    (service,) = (one for one in documents if one["kind"] == "Service" and one["metadata"]["name"] == backend["name"])
    assert backend["port"] in [port["port"] for port in service["spec"]["ports"]]
    assert route["metadata"]["namespace"] == service["metadata"]["namespace"]
    (allowed,) = policy["spec"]["ingress"][0]["from"]
    labels = only(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert allowed["podSelector"]["matchLabels"].items() <= labels.items()
    assert not is_refused(policy, VERSIONS[-1])


def test_only_edge_and_monitoring_reach_a_gateway(documents: list[Document]) -> None:
    spec = only(documents, "NetworkPolicy")["spec"]
    assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
    for rule in (*spec["ingress"], *spec["egress"]):
        assert rule.get("from") or rule.get("to"), "a rule without peers is for everybody"
        assert rule["ports"]


def test_prometheus_finds_the_gateways_under_the_name_that_alerts_look_for(
    documents: list[Document], customs: list[Document]
) -> None:
    monitor = only(customs, "ServiceMonitor")
    service = only(documents, "Service", "waitroom-operator")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "waitroom"
    (endpoint,), (port,) = monitor["spec"]["endpoints"], service["spec"]["ports"]
    assert (endpoint["port"], endpoint["interval"]) == (port["name"], "15s")


def test_what_keda_asks_for_can_be_asked(customs: list[Document], tmp_path: Path) -> None:
    """The queries parse, and name metrics and kinds of requests that there are."""
    scaled = only(customs, "ScaledObject")
    queries = [one["metadata"]["query"] for one in scaled["spec"]["triggers"] if one["type"] == "prometheus"]
    assert len(queries) == 2
    rules = [{"record": f"keda:{index}", "expr": query} for index, query in enumerate(queries)]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "keda", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert unknown_metrics(" ".join(queries), metric_names()) == []
    assert scaled["spec"]["scaleTargetRef"]["name"] == "waitroom"
