"""What `waitroom edge` prints: accepted by the programs themselves for many a configuration, and careful with secrets."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gateway
from gateway import config as configuration
from gateway.cli import main
from gateway.edges.haproxyroom import claims_form, token_characters_max
from gateway.edges.printing import KINDS, gateway_address, listen_address, printed
from gateway.edges.site import FIELDS, PLAIN_PATH, EdgeError, site_of
from gateway.model import Admission, Config
from gateway.rules import routes
from gateway.rules.keys import load_key_file, new_key_file
from gateway.rules.tokens import Keyring
from tests.authority import Authority
from tests.edges.edgefixture import command, for_this_folder

EXAMPLE = Path(__file__).parent.parent.parent / "deploy" / "waitroom.example.toml"
OPENING = """
[server]
{server}
[redis]
url = "redis://127.0.0.1/0"
[tokens]
signing_key_file = "key.pem"
{tokens}
[upstreams.bank]
urls = ["http://127.0.0.1:9000"]
"""
ROOM = """
[[rooms]]
id = "{id}"
match = [{match}]
upstream = "bank"
drain_rate = "50/s"
active_max = 2000
"""
BESIDE = ROOM.format(id="a", match='{ path = "/a/*" }')
DOCUMENTS = {
    "one room": OPENING.format(server="", tokens="") + BESIDE,
    "every path": OPENING.format(server="", tokens="") + ROOM.format(id="all", match='{ path = "/*" }'),
    "hosts": OPENING.format(server='hosts = ["bank.example", "shop.example", "2001:db8::1"]', tokens="")
    + ROOM.format(id="a.b-c", match='{ host = "bank.example", path = "/a/*" }, { host = "shop.example", path = "/s" }')
    + ROOM.format(id="d", match='{ path = "/d/*" }, { path = "/e.f" }')
    + '[default]\nupstream = "bank"\n',
    "odd paths": OPENING.format(server="", tokens="")
    + ROOM.format(id="a", match='{ path = "/결제/*" }, { path = "/It\'s(1)" }'),
    "odd issuer": OPENING.format(server="", tokens='issuer = "https://gate\'s.example/?a=\\"1\\"&b={2}#x"') + BESIDE,
    "two keys": OPENING.format(server="", tokens='verify_key_files = ["next.json"]') + BESIDE,
    "plain http": OPENING.format(server='scheme = "http"', tokens="") + BESIDE,
    "tls upstreams": (OPENING.format(server="", tokens="") + BESIDE).replace(
        '"http://127.0.0.1:9000"', '"https://localhost:9443", "https://127.0.0.1:9444"'
    ),
    "own ca": (OPENING.format(server="", tokens="") + 'ca_file = "bank\'s ca.pem"' + BESIDE).replace("http:", "https:"),
    "bypass": OPENING.format(server="", tokens="") + BESIDE + 'bypass = [{ path = "/a/x/*" }, { path = "/a/y.png" }, '
    '{ source = "192.0.2.0/24" }, { path = "/a/It\'s" }]\n',
    "twenty rooms": OPENING.format(server="", tokens="")
    + "".join(ROOM.format(id=f"r{n}", match=f'{{ path = "/r{n}/*" }}') for n in range(20)),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    new_key_file(tmp_path / "key.pem")
    new_key_file(tmp_path / "next.json", "HS256")
    (tmp_path / "bank's ca.pem").write_text(Authority("the bank's").pem)
    return tmp_path


def read(folder: Path, text: str, *, dev: bool = True) -> Config:
    file = folder / "waitroom.toml"
    file.write_text(text)
    return configuration.load(str(file), {}, dev=dev, read_key=load_key_file)


def accepted(kind: str, text: str, folder: Path) -> None:
    """The program's own check of a whole configuration."""
    (folder / kind).mkdir(exist_ok=True)
    file = folder / kind / "edge.conf"
    file.write_text(for_this_folder(kind, text, folder / kind))
    found = subprocess.run(command(kind, file, check=True), check=False, capture_output=True, text=True, timeout=30)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_program_accepts_what_is_printed(folder: Path, kind: str, name: str) -> None:
    """`haproxy -c`, `nginx -t`, `caddy validate`, without a word of theirs against it."""
    config = read(folder, DOCUMENTS[name])
    found = printed(kind, config, load_key_file, listen="127.0.0.1:0" if kind == "caddy" else "127.0.0.1:18999")
    for path, content in found.files:
        path.write_bytes(content)
    accepted(kind, found.text, folder)


@pytest.mark.parametrize("kind", KINDS)
def test_the_command_prints_the_manuals_example(folder: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Section 8: `waitroom edge KIND waitroom.toml`; what is said besides goes to stderr."""
    (folder / "keys").mkdir()
    new_key_file(folder / "keys" / "2026-11.pem")
    for name in ("sre.token", "bank.hmac"):
        (folder / "keys" / name).write_text("0123456789abcdef" * 4)
        (folder / "keys" / name).chmod(0o600)
    (folder / "waitroom.toml").write_text(EXAMPLE.read_text())
    where = ["--listen", "127.0.0.1:18999", "--gateway", "127.0.0.1:8080", "--gateway", "10.0.0.7:8080"]
    assert main(["edge", kind, str(folder / "waitroom.toml"), *where]) == 0
    text, said = capsys.readouterr()
    assert text.startswith("# ")
    assert "10.0.0.7:8080" in text
    assert "__Host-waitroom-admission-point-cashout" in text or kind != "haproxy"
    assert ("secret keys" in said, "SECRET KEYS" in text) == (kind == "haproxy",) * 2
    secret = "3031323334353637"  # "01234567", as hex of the key would begin
    assert secret not in text
    accepted(kind, text, folder)


def test_public_keys_lie_beside_their_private_halves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """HAProxy reads keys from files alone; a public one is for nobody to hide, and no private one is ever copied."""
    read(folder, DOCUMENTS["two keys"])
    assert main(["edge", "haproxy", "--dev", str(folder / "waitroom.toml")]) == 0
    text, said = capsys.readouterr()
    public = folder / "key.pem.pub"
    assert str(public) in text
    assert str(public) in said
    assert public.read_text().startswith("-----BEGIN PUBLIC KEY-----")
    assert not (folder / "next.json.pub").exists()
    (folder / "key.pem.pub").unlink()
    (folder / "key.pem.pub").mkdir()
    assert main(["edge", "haproxy", "--dev", str(folder / "waitroom.toml")]) == 1
    assert "cannot be written" in capsys.readouterr().err


def test_only_haproxy_is_told_secrets(folder: Path) -> None:
    """The others leave signing to gateways; HAProxy's file says at its top how it must be kept."""
    config = read(folder, DOCUMENTS["two keys"])
    hidden = load_key_file(folder / "next.json").private
    assert isinstance(hidden, bytes)
    texts = {kind: printed(kind, config, load_key_file) for kind in KINDS}
    found = {kind for kind, one in texts.items() if base64.b64encode(hidden).decode() in one.text}
    assert found == {"haproxy"}
    assert "0600" in texts["haproxy"].text.partition("global")[0]
    assert any("umask" in remark for remark in texts["haproxy"].remarks)
    public_only = printed("haproxy", read(folder, DOCUMENTS["one room"]), load_key_file)
    assert "SECRET" not in public_only.text
    private = (folder / "key.pem").read_text().splitlines()[1]
    assert not [kind for kind, one in texts.items() if private in one.text]


def test_a_gateway_at_an_unknown_port_must_be_named(folder: Path) -> None:
    config = read(folder, OPENING.format(server='public = "127.0.0.1:0"', tokens="") + BESIDE)
    with pytest.raises(EdgeError, match="name the gateways"):
        printed("haproxy", config, load_key_file)
    gateway = gateway_address("[::1]:8080")
    assert "[::1]:8080" in printed("nginx", config, load_key_file, gateways=[gateway]).text
    for text in ("gateway", "gateway:0", "gateway:70000", "a b:80", "http://a:80"):
        with pytest.raises(ValueError, match="wanted"):
            gateway_address(text)
    good = ["80", "127.0.0.1:80", "[::1]:443"]
    assert [listen_address(text) for text in good] == good
    for text in ("", "http", "80;", ":80", "bank.example:", "70000", "1.2.3.4:"):
        with pytest.raises(ValueError, match="wanted"):
            listen_address(text)


def test_an_edge_that_trusts_nobody_is_told_so(folder: Path) -> None:
    for kind in KINDS:
        found = printed(kind, read(folder, DOCUMENTS["one room"]), load_key_file)
        assert any("trusted_proxies" in remark for remark in found.remarks)
        assert "trusted_proxies" in found.text


def test_the_edges_idea_of_plain_is_a_part_of_the_gateways() -> None:
    """Promise 9: what an edge judges by itself has one reading for `rules/routes.py`, too, and no upper case."""
    plain = re.compile(PLAIN_PATH)
    seen = 0
    for first in (chr(code) for code in range(0x20, 0x7F)):
        for text in (f"/{first}", f"/a{first}", f"/a/{first}", f"/a/{first}b/", f"/{first}{first}", f"/a/b{first}c"):
            if plain.fullmatch(text):
                seen += 1
                assert routes.is_plain(text), text
                assert text == text.lower()
                assert routes.readings(text) == frozenset({text})
    assert seen > 200
    assert not [
        text for text in ("/a//b", "/a/./b", "/a/../b", "//a", "/a\\b", "/%61", "/a;b", "/A") if plain.fullmatch(text)
    ]


def test_admissions_have_the_form_that_the_edge_reads(folder: Path) -> None:
    """The claims' form and the longest token are written down twice: here and in `Keyring.mint_admission`."""
    for name in ("odd issuer", "two keys", "hosts"):
        config = read(folder, DOCUMENTS[name])
        keys = [load_key_file(Path(file)) for file in (config.tokens.signing_key_file, *config.tokens.verify_key_files)]
        site = site_of(config, keys)
        for room in config.rooms:
            opening, form = claims_form(site, room)
            for instant in (False, True):
                for key in keys:
                    ring = Keyring(key, issuer=config.tokens.issuer)
                    admission = Admission(
                        room.id, b"i" * 16, 999_999_999, 1_795_000_000, 1_795_000_000, 1_795_000_600, instant
                    )
                    text = ring.mint_admission(admission)
                    claims = claims_of(text)
                    assert claims.startswith(opening)
                    assert re.search(form, claims), (form, claims)
                    assert claims[len(opening) :][:36] == "69696969-6969-6969-6969-696969696969"
                    assert len(text) <= token_characters_max(site, room) <= 800


def claims_of(text: str) -> str:
    payload = text.split(".")[1]
    return base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)).decode()


def test_every_field_of_ours_is_known_to_edges_that_remove_by_name() -> None:
    """A new `Waitroom-...` field must be named in `site.FIELDS`, or nginx and Caddy let it through."""
    package = Path(gateway.__file__).parent
    sources = [path for path in package.rglob("*.py") if path.relative_to(package).parts[0] not in {"demo", "edges"}]
    named = {name for path in sources for name in re.findall(r'b?"(Waitroom-[A-Z][a-z]+)"', path.read_text())}
    assert len(named) >= 8
    assert named <= set(FIELDS)


def test_the_command_is_quick_to_say_what_is_wrong(tmp_path: Path) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "gateway", "edge", "haproxy", str(tmp_path / "none.toml")],
        check=False,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 1
    assert "none.toml" in found.stderr
    assert "Traceback" not in found.stderr
