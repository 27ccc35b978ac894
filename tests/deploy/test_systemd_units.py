"""The units of deploy/systemd: sound by systemd's own judgement, and in step with the example and the gateway."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from gateway.config import load
from gateway.rules.keys import load_key_file, new_key_file
from tests.deploy.prometheus import DEPLOY

UNITS: Final = DEPLOY / "systemd"
NAMES: Final = ["waitroom.service", "waitroom.socket", "waitroom-operator.socket"]


def installed(folder: Path) -> list[str]:
    """The units in a folder, with a program that is there in place of the one that an installation has."""
    for name in NAMES:
        text = (UNITS / name).read_text()
        (folder / name).write_text(text.replace("/opt/waitroom/bin/waitroom", sys.executable))
    return [str(folder / name) for name in NAMES]


def verified(files: list[str]) -> str:
    """What systemd has to say against the units."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *files], capture_output=True, text=True, check=False, timeout=60
    )
    return done.stdout + done.stderr


def test_systemd_finds_no_fault_in_the_units(tmp_path: Path) -> None:
    files = installed(tmp_path)
    assert sorted(path.name for path in UNITS.iterdir()) == sorted(NAMES)
    assert verified(files) == ""
    service = tmp_path / "waitroom.service"
    service.write_text(service.read_text().replace("ProtectSystem=strict", "ProtectSystem=stricter"))
    assert "Failed to parse protect system value" in verified(files)


def test_the_service_is_exposed_as_little_as_a_proxy_can_be(tmp_path: Path) -> None:
    """`systemd-analyze security`: 1.5 of 10 at most, and what is left is that it speaks to others."""
    installed(tmp_path)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=15", "--json=short"]
    done = subprocess.run([*command, str(tmp_path / "waitroom.service")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    left = {one["name"] for one in json.loads(done.stdout) if one["exposure"] and float(one["exposure"]) > 0}
    assert left == {
        *(
            "PrivateNetwork=",
            "IPAddressDeny=",
            "RestrictAddressFamilies=~AF_(INET|INET6)",
            "RestrictAddressFamilies=~AF_UNIX",
        ),
        *("RootDirectory=/RootImage=", "DeviceAllow="),
    }


def test_the_unit_starts_what_the_example_says(tmp_path: Path) -> None:
    """Its variables name settings that there are, and every file they name is a credential that it loads."""
    unit = (UNITS / "waitroom.service").read_text()
    credentials = re.findall(r"^LoadCredential=([\w.]+):/etc/waitroom/keys/\1$", unit, re.MULTILINE)
    new_key_file(tmp_path / "signing.pem", "ES256")
    for name in set(credentials) - {"signing.pem"}:
        secret = "redis://waitroom:secret@10.0.0.11:6379/0" if name == "redis_url" else f"{name.encode().hex():0<64}"
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    found = re.findall(r"^Environment=(\w+)=(\S+)$", unit, re.MULTILINE)
    environ = {name: value.replace("%d", str(tmp_path)).replace("%S", str(tmp_path)) for name, value in found}
    assert len(credentials) == len(environ) == 4
    text = (DEPLOY / "waitroom.example.toml").read_text().replace("keys/sre.token", str(tmp_path / "sre.token"))
    (tmp_path / "waitroom.toml").write_text(text)
    config = load(tmp_path / "waitroom.toml", environ, read_key=load_key_file)
    assert config.server.state_dir == f"{tmp_path}/waitroom"
    assert "10.0.0.11" in config.redis_url
    assert config.upstreams["bank"].signing_key


def test_units_and_example_speak_of_the_same_ports() -> None:
    """Else the gateway refuses the sockets at its first start."""
    example = (DEPLOY / "waitroom.example.toml").read_text()
    for name, key in (("waitroom.socket", "public"), ("waitroom-operator.socket", "operator")):
        unit = (UNITS / name).read_text()
        address = re.search(r"^ListenStream=(\S+)$", unit, re.MULTILINE)
        assert address is not None
        assert f'\n{key} = "{address[1]}"' in example
        assert f"FileDescriptorName={key}\n" in unit
        assert "Service=waitroom.service\n" in unit
