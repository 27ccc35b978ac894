"""deploy/Dockerfile and deploy/compose.yaml: judged by hadolint and the Compose schema, and what they start run natively."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import gateway
from tests.conftest import free_port, valkey_binary
from tests.deploy.prometheus import DEPLOY

ROOT: Final = DEPLOY.parent
# Where the packages are, not where the repository is: the suite also runs against the installed wheel.
PACKAGES: Final = Path(gateway.__file__).parent.parent
TOOLS: Final = Path(sys.executable).parent
DOCKERFILE: Final = DEPLOY / "Dockerfile"
COMPOSE: Final = DEPLOY / "compose.yaml"
DEADLINE_S: Final = 20.0
LOCK: Final = "deploy/requirements.lock"


def instructions() -> list[tuple[str, str]]:
    """Of the Dockerfile, in order, continued lines joined."""
    text = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()))
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line]


def copied() -> list[str]:
    """What the first stage takes from the repository."""
    lines = [rest.split() for name, rest in instructions() if name == "COPY" and not rest.startswith("--from")]
    return [source for *sources, _ in lines for source in sources]


def last_stage() -> dict[str, str]:
    """Its instructions; of several of one kind the last."""
    *_, begin = (index for index, (name, _) in enumerate(instructions()) if name == "FROM")
    return dict(instructions()[begin:])


def complaints(dockerfile: Path) -> list[str]:
    done = subprocess.run(
        [str(TOOLS / "hadolint"), "--no-color", "--format", "json", str(dockerfile)], capture_output=True, check=False
    )
    return [f"{one['code']} {one['message']}" for one in json.loads(done.stdout)]


def refused(compose: Path) -> bool:
    command = [str(TOOLS / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec", str(compose)]
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return found


# --- the image -------------------------------------------------------------------------------------------------------


def test_hadolint_finds_no_fault_in_the_dockerfile(tmp_path: Path) -> None:
    assert complaints(DOCKERFILE) == []
    planted = tmp_path / "Dockerfile"
    planted.write_text(DOCKERFILE.read_text().replace('ENTRYPOINT ["waitroom"]', "ENTRYPOINT waitroom\nUSER root"))
    assert {one.split()[0] for one in complaints(planted)} >= {"DL3025", "DL3002"}


def test_the_image_is_nobodys_and_says_how_it_ends_and_how_it_is() -> None:
    stage = last_stage()
    assert stage["USER"] == "10001:10001"
    assert (stage["STOPSIGNAL"], stage["ENTRYPOINT"]) == ("SIGTERM", '["waitroom"]')
    assert "/healthz" in stage["HEALTHCHECK"]
    assert len([one for one in instructions() if one[0] == "FROM"]) == 2
    assert "--require-hashes" in DOCKERFILE.read_text()
    assert "NOT BUILT" in DOCKERFILE.read_text()
    assert not [
        rest for name, rest in instructions() if name in {"ENV", "ARG"} and re.search("(?i)secret|token|pass", rest)
    ]


def test_nothing_is_sent_to_the_builder_but_what_it_copies() -> None:
    """An allow-list: a key that lies in the folder does not get into an image."""
    first, *lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert first == "*"
    assert sorted(line[1:] for line in lines if line[0] == "!") == sorted(copied())


@dataclass(frozen=True)
class Installed:
    """What the image has under /opt/waitroom, but for the dependencies, which are those of this environment."""

    bin: Path


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The Dockerfile's steps: from what it copies, and nothing else, a wheel, and that in a new environment."""
    source, home = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in copied():
        if name == LOCK:  # of the image only: the dependencies are those of this environment
            continue
        origin = ROOT / name if (ROOT / name).exists() else PACKAGES / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, source / name)
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*wheel, "--wheel-dir", str(home), "."], cwd=source, check=True)
    venv.create(home / "venv", symlinks=True)
    packages = next((home / "venv" / "lib").glob("python*")) / "site-packages"
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (file,) = home.glob("waitroom-*.whl")
    install = [sys.executable, "-m", "pip", "--python", str(home / "venv" / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", "--ignore-installed", str(file)], check=True)
    return Installed(home / "venv" / "bin")


# --- compose ---------------------------------------------------------------------------------------------------------


def test_compose_is_what_its_schema_allows(tmp_path: Path) -> None:
    assert not refused(COMPOSE)
    planted = tmp_path / "compose.yaml"
    planted.write_text(COMPOSE.read_text().replace("read_only: true\n  cap_drop", "readonly: true\n  cap_drop"))
    assert refused(planted)
    assert "NOT RUN" in COMPOSE.read_text()


def test_every_service_may_do_little_and_says_how_it_is() -> None:
    assert len(services()) == 7
    for name, service in services().items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["mem_limit"], name
        assert "healthcheck" in service or service["image"] == "waitroom", name
        assert not {"privileged", "cap_add", "pid", "network_mode"} & service.keys(), name
        secret = re.compile("PASSWORD|TOKEN|KEY|URL")
        assert not [key for key in service.get("environment", {}) if secret.search(key) and key[-5:] != "_FILE"], name
        for needed in service.get("depends_on", {}).values():
            assert needed == {"condition": "service_healthy"}
    published = [port for service in services().values() for port in service.get("ports", [])]
    assert [port for port in published if not port.startswith("127.0.0.1:")] == ["8443:8443"]


@dataclass(frozen=True)
class Prepared:
    """A copy of deploy/ in which prepare.sh was run."""

    folder: Path

    def secret(self, name: str) -> Path:
        return self.folder / "compose" / "secrets" / name


@pytest.fixture(scope="module")
def prepared(installed: Installed, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    folder = tmp_path_factory.mktemp("compose") / "deploy"
    shutil.copytree(DEPLOY, folder, ignore=shutil.ignore_patterns("secrets", "state", "__pycache__", ".env"))
    for _ in range(2):  # a second time changes no key
        environ = os.environ | {"WAITROOM": str(installed.bin / "waitroom")}
        before = {path: path.read_bytes() for path in folder.glob("compose/secrets/*.*")}
        subprocess.run([folder / "compose" / "prepare.sh"], env=environ, check=True, capture_output=True)
    assert {path: path.read_bytes() for path in before if path.name != "haproxy.cfg"} == {
        path: content for path, content in before.items() if path.name != "haproxy.cfg"
    }
    return Prepared(folder)


def test_all_that_compose_mounts_is_there_and_none_of_it_is_open_to_others(prepared: Prepared) -> None:
    document = yaml.safe_load(COMPOSE.read_text())
    mounted = [volume["source"] for service in services().values() for volume in service.get("volumes", [])]
    secrets = [secret["file"] for secret in document["secrets"].values()]
    assert len(mounted) > 8
    assert [name for name in (*mounted, *secrets) if not (prepared.folder / name).exists()] == []
    assert {oct((prepared.folder / name).stat().st_mode & 0o077) for name in secrets} == {"0o0"}
    assert re.fullmatch(r"WAITROOM_USER=\d+:\d+\n", (prepared.folder / ".env").read_text())


def answer(url: str, prepared: Prepared, **headers: str) -> tuple[int, str]:
    context = ssl.create_default_context(cafile=str(prepared.secret("site.crt")))
    try:
        request = urllib.request.Request(url, headers=headers)  # noqa: S310  our own ports
        with urllib.request.urlopen(request, timeout=5, context=context if url[:5] == "https" else None) as told:  # noqa: S310
            return told.status, told.read().decode()
    except urllib.error.HTTPError as fault:
        return fault.code, fault.read().decode()
    except OSError as fault:
        return 0, str(fault)


def until_well(url: str, prepared: Prepared) -> None:
    end = time.monotonic() + DEADLINE_S
    while (last := answer(url, prepared))[0] != 200:
        assert time.monotonic() < end, f"{url}: {last}"
        time.sleep(0.05)


class Stage:
    """The services of compose.yaml as processes of this machine: equal files and commands, other ports and folders."""

    def __init__(self, installed: Installed, prepared: Prepared, stack: ExitStack) -> None:
        self._installed, self._prepared, self._stack = installed, prepared, stack
        self._ports = {name: free_port() for name in ("gateway-1:8080", "gateway-2:8080", "valkey:6379", "bank:9000")}
        self._operators = {name: free_port() for name in ("gateway-1", "gateway-2")}
        self.edge = free_port()
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def here(self, text: str) -> str:
        for name, port in self._ports.items():
            text = text.replace(name, f"127.0.0.1:{port}")
        text = text.replace("/etc/waitroom/", f"{self._prepared.folder}/compose/")
        return text.replace("bind :8443", f"bind 127.0.0.1:{self.edge}").replace("log /dev/log", "# log /dev/log")

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self._ports[name]}"

    def operator(self, name: str) -> str:
        return f"http://127.0.0.1:{self._operators[name]}"

    def start(self, name: str, command: list[str], environ: dict[str, str] | None = None) -> None:
        with (self._prepared.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | (environ or {}), cwd="/")
        self.processes[name] = process
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)

    def start_all(self) -> None:
        folder, state = self._prepared.folder, self._prepared.folder / "compose" / "state"
        config = (folder / "redis" / "valkey.conf").read_text()
        config = config.replace("/etc/valkey/users.acl", str(self._prepared.secret("users.acl")))
        (folder / "valkey.conf").write_text(config.replace("/var/lib/valkey", str(state / "valkey")))
        port = str(self._ports["valkey:6379"])
        self.start("valkey", [valkey_binary(), str(folder / "valkey.conf"), "--port", port, "--bind", "127.0.0.1"])
        bank = [str(self._installed.bin / "python"), *services()["bank"]["entrypoint"][1:], "--port"]
        bank += [str(self._ports["bank:9000"]), "--folder", str(state / "bank")]
        self.start("bank", [*bank, "--signing-key-file", str(self._prepared.secret("bank.hmac"))])
        for name in ("gateway-1", "gateway-2"):
            self.start_gateway(name)
        for name in ("gateway-1", "gateway-2"):
            until_well(f"{self.operator(name)}/readyz", self._prepared)
        until_well(f"{self.url('bank:9000')}/stats", self._prepared)
        edge = folder / "haproxy.cfg"
        edge.write_text(self.here(self._prepared.secret("haproxy.cfg").read_text()))
        self.start("haproxy", ["haproxy", "-db", "-f", str(edge)])

    def start_gateway(self, name: str) -> None:
        folder = self._prepared.folder
        url_file = folder / "redis_url"
        url_file.write_text(self.here(self._prepared.secret("redis_url").read_text()))
        url_file.chmod(0o600)
        environ = {
            "WAITROOM_REDIS_URL_FILE": str(url_file),
            "WAITROOM_SERVER_PUBLIC": f"127.0.0.1:{self._ports[f'{name}:8080']}",
            "WAITROOM_SERVER_OPERATOR": f"127.0.0.1:{self._operators[name]}",
            "WAITROOM_SERVER_TRUSTED_PROXIES": "127.0.0.1",
            "WAITROOM_SERVER_STATE_DIR": str(folder / "compose" / "state" / name),
            "WAITROOM_UPSTREAMS_BANK_URLS": self.url("bank:9000"),
        }
        file = str(folder / "compose" / "waitroom.toml")
        checked = subprocess.run(
            [self._installed.bin / "waitroom", "check", file],
            env=os.environ | environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert checked.returncode == 0, checked.stderr
        self.start(name, [str(self._installed.bin / "waitroom"), "serve", file], environ)


@pytest.fixture
def stage(installed: Installed, prepared: Prepared) -> Iterator[Stage]:
    with ExitStack() as stack:
        made = Stage(installed, prepared, stack)
        made.start_all()
        yield made


def test_what_compose_starts_serves_a_visitor(stage: Stage, prepared: Prepared) -> None:
    """The wheel, the secrets, the users of Valkey, HAProxy's file and the bank fit together; promise 9 at the bank's end."""
    site = f"https://localhost:{stage.edge}"
    until_well(f"{site}/balance", prepared)
    end = time.monotonic() + DEADLINE_S
    while (found := answer(f"{site}/points/cashout/", prepared, Accept="text/html"))[0] == 429:
        assert time.monotonic() < end, "the room never became idle"  # both gateways have to read its first board
        time.sleep(0.2)
    status, page = found
    assert (status, "/points/cashout/pay" in page) == (200, True)
    status, told = answer(f"{site}/points/cashout/", prepared, Accept="application/json")
    assert (status, json.loads(told)["room"]) == (429, "cashout")
    seen = json.loads(answer(f"{stage.url('bank:9000')}/stats", prepared)[1])
    assert (seen["unsigned"], seen["entries"]) == (0, 1)
    lines = [json.loads(line) for line in (prepared.folder / "gateway-1.log").read_text().splitlines()]
    assert "serving" in {line["event"] for line in lines}


def test_the_images_health_check_tells_life_from_death(stage: Stage, installed: Installed, prepared: Prepared) -> None:
    """Run as it stands, but for the port; SIGTERM ends it within its grace."""
    program, *arguments = json.loads(last_stage()["HEALTHCHECK"].partition("CMD ")[2])
    assert program == "python"
    check = [str(installed.bin / program), *arguments]
    check[-1] = check[-1].replace("127.0.0.1:9090", stage.operator("gateway-2").removeprefix("http://"))
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    process = stage.processes["gateway-2"]
    process.send_signal(signal.SIGTERM)
    allowed_s = float(services()["gateway-2"]["stop_grace_period"].removesuffix("s"))
    assert process.wait(allowed_s) == 0
    assert subprocess.run(check, capture_output=True, check=False).returncode != 0
    assert answer(f"https://localhost:{stage.edge}/balance", prepared)[0] == 200  # the other one is there


def test_the_prometheus_of_compose_watches_both_gateways(prepared: Prepared) -> None:
    config = yaml.safe_load((prepared.folder / "compose" / "state" / "prometheus.yml").read_text())
    assert config["scrape_configs"][0]["static_configs"] == [{"targets": ["gateway-1:9090", "gateway-2:9090"]}]
    command = services()["prometheus"]["command"]
    assert shlex.join(command).count("--config.file=/etc/prometheus/prometheus.yml") == 1
