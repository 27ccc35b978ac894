"""Owns the configuration: waitroom.toml and the environment in, a `model.Config` out, or all faults at once.

    document (TOML) -> environment.overlay -> draft.read -> relations.faults -> secret files -> Config

Each step adds its faults to one list and goes on with what is good, so that a person corrects the file once.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import ssl
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, TypeVar

from gateway import environment, model, relations
from gateway.draft import Checked, Draft, read, shown
from gateway.errors import ConfigError, KeyFileError
from gateway.notation import burst_default, folder_of
from gateway.notes import notes
from gateway.schema import BypassTable, RoomTable, ServerTable, UpstreamTable
from gateway.secretfile import read_hmac_key, read_token

__all__ = ["digest_of", "load", "notes"]

T = TypeVar("T")

TRACING: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
DOCUMENT_BYTES_MAX: Final = 4 * 1024 * 1024
ROOM_SHARE_PERCENT: Final = 60  # of the upstream's requests in flight, where a room does not say: others keep the rest


def load(
    path: str | Path,
    environ: Mapping[str, str],
    *,
    dev: bool = False,
    read_key: Callable[[Path], object] = lambda path: None,
) -> model.Config:
    """The configuration in a file, as the environment changes it; `ConfigError` with all faults.

    `dev` allows plain http, and makes it the default. `read_key` tries a token key's file and raises `KeyFileError`:
    the rules that read keys stand above this module, so they are passed in.
    """
    file = Path(path)
    document = _document(file)
    if dev and isinstance(server := document.setdefault("server", {}), dict):
        server.setdefault("scheme", "http")
    faults: list[str] = []
    origins = environment.overlay(document, environ, faults)
    draft = read(document, origins)
    faults += draft.faults
    faults += relations.faults(draft, dev=dev)
    config = _Build(file, faults, read_key).config(draft)
    if faults:
        raise ConfigError(str(file), faults)
    return replace(config, digest=digest_of(config))


def digest_of(config: model.Config) -> str:
    """SHA-256 of what must be equal on every gateway of a site. It is published, so no guessable secret is in it."""
    shared = (
        sorted(config.server.hosts),
        sorted(config.server.trusted_proxies),
        config.server.https,
        config.tokens.issuer,
        config.rooms,
        [room.customer_secret for room in config.rooms],
        sorted(config.upstreams.items()),
        [config.upstreams[name].signing_key for name in sorted(config.upstreams)],
        sorted((one.name, one.role, one.rooms) for one in config.operators),
        config.default_upstream,
    )
    return hashlib.sha256(repr(shared).encode()).hexdigest()


def _document(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as stream:
            content = stream.read(DOCUMENT_BYTES_MAX + 1)
        if len(content) > DOCUMENT_BYTES_MAX:
            raise ConfigError(str(file), [f"is longer than {DOCUMENT_BYTES_MAX} bytes"])
        return tomllib.loads(content.decode("utf-8-sig"))  # some editors begin a file with a mark that TOML has not
    except (FileNotFoundError, IsADirectoryError) as fault:
        start = "name the file you mean, or start one from deploy/waitroom.example.toml"
        raise ConfigError(str(file), [f"cannot be read: {fault.strerror}; {start}"]) from None
    except OSError as fault:
        raise ConfigError(str(file), [f"cannot be read: {fault.strerror}"]) from None
    except UnicodeDecodeError as fault:
        raise ConfigError(str(file), [f"is not UTF-8 at byte {fault.start}; allowed: TOML 1.0"]) from None
    except RecursionError:
        raise ConfigError(str(file), ["is nested too deeply; allowed: TOML 1.0"]) from None
    except tomllib.TOMLDecodeError as fault:
        raise ConfigError(str(file), [f"is not TOML: {fault}; allowed: TOML 1.0"]) from None
    except ValueError:  # Python reads no more digits than that
        raise ConfigError(str(file), ["has a number of thousands of digits; allowed: TOML 1.0"]) from None


def _can_trace() -> bool:
    """Whether the extra is installed; nothing of it is loaded yet."""
    try:
        return all(find_spec(name) is not None for name in TRACING)
    except ModuleNotFoundError:  # not even the folder it would be in
        return False


class _Build:
    """Turns good tables into the model, reading the files they name; what is wrong with those goes to the faults.

    It also runs over drafts with faults, on specimens, so that missing files are told in the same breath.
    """

    def __init__(self, file: Path, faults: list[str], read_key: Callable[[Path], object]) -> None:
        self._source = str(file)
        self._folder = file.absolute().parent
        self._faults = faults
        self._read_key = read_key

    def config(self, draft: Draft) -> model.Config:
        return model.Config(
            server=self._server(draft.server),
            redis_url=draft.redis.table.url,
            tokens=self._tokens(draft),
            rooms=tuple(self._room(room, draft) for room in draft.rooms),
            upstreams={name: self._upstream(name, upstream) for name, upstream in draft.upstreams.items()},
            operators=self._operators(draft),
            default_upstream=None if draft.default is None else draft.default.table.upstream,
            audit_file=self._audit_file(draft),
            source=self._source,
        )

    def _path(self, name: str) -> Path:
        """Files are relative to the file that names them, wherever the process was started."""
        return self._folder / name

    def _content(self, checked: Checked[Any], key: str, read_file: Callable[[Path], T], missing: T) -> T:
        name = getattr(checked.table, key)
        if name is None or not checked.has(key):
            return missing
        try:
            return read_file(self._path(name))
        except ValueError as fault:
            cure = (
                ""
                if os.path.exists(self._path(name)) or key == "ca_file"
                else f"; make one: (umask 077; {self._openssl(name)})"
            )
            self._faults.append(f"{checked.key}.{key} = {shown(name)}: {fault}{cure}")
            return missing

    def _openssl(self, name: str) -> str:
        """What makes the file, typed where the person who reads it typed the command."""
        path = self._typed(name)
        folder = "" if path.parent.is_dir() else f"mkdir -p {shlex.quote(str(path.parent))}; "
        return f"{folder}openssl rand -hex 32 > {shlex.quote(str(path))}"

    def _typed(self, name: str) -> Path:
        return Path(self._source).parent / name

    def _server(self, checked: Checked[ServerTable]) -> model.Server:
        table = checked.table
        if checked.has("state_dir") and (fault := _folder_fault(self._path(table.state_dir))) is not None:
            self._faults.append(f"{checked.key}.state_dir = {shown(table.state_dir)}: {fault}; allowed: a folder")
        if table.traces and checked.has("traces") and not _can_trace():
            self._faults.append(
                f'{checked.key}.traces = {shown(table.traces)} needs the extra: pip install "waitroom[otel]"'
            )
        return model.Server(
            public=table.public,
            operator=table.operator,
            hosts=tuple(table.hosts),
            trusted_proxies=tuple(table.trusted_proxies),
            https=table.scheme == "https",
            workers=table.workers,
            state_dir=str(self._path(table.state_dir)),
            stop_grace_s=table.stop_grace,
            header_bytes_max=table.header_bytes_max,
            connections_max=table.connections_max,
            log_format=table.log_format,
            access_log=table.access_log,
            makes_request_ids=table.request_id == "make",
            traces=table.traces,
        )

    def _tokens(self, draft: Draft) -> model.Tokens:
        table = draft.tokens.table
        files = {"signing_key_file": [table.signing_key_file], "verify_key_files": table.verify_key_files}
        for key, names in files.items():
            for name in dict.fromkeys(names) if draft.tokens.has(key) else ():
                if (fault := self._key_fault(name)) is not None:
                    self._faults.append(f"tokens.{key} = {shown(name)}: {fault}")
        return model.Tokens(
            signing_key_file=str(self._path(table.signing_key_file)),
            verify_key_files=tuple(str(self._path(name)) for name in table.verify_key_files),
            issuer=table.issuer,
        )

    def _key_fault(self, name: str) -> str | None:
        if not os.path.exists(self._path(name)):
            return f"no such file; make one: waitroom keys new {shlex.quote(str(self._typed(name)))}"
        try:
            self._read_key(self._path(name))
        except KeyFileError as fault:
            return str(fault)
        return None

    def _audit_file(self, draft: Draft) -> str | None:
        name = draft.audit.table.file
        if name is None or not draft.audit.has("file"):
            return None
        path, why = self._path(name), ""
        if not path.parent.is_dir():
            why = f"there is no folder {path.parent}"
        elif path.exists() and not path.is_file():  # a pipe that nobody reads would hold everybody up
            why = "is a folder" if path.is_dir() else "is no plain file"
        if why:
            self._faults.append(f"audit.file = {shown(name)}: {why}; allowed: a file in a folder that is there")
        return str(path)

    def _operators(self, draft: Draft) -> tuple[model.Operator, ...]:
        operators: list[model.Operator] = []
        for checked in draft.operators:
            table = checked.table
            token = self._content(checked, "token_file", read_token, "")
            if token and token in {other.token for other in operators}:
                self._faults.append(f"{checked.key}.token_file: another operator's token; allowed: a token for each")
            operators.append(model.Operator(table.name, model.Role(table.role), token, tuple(table.rooms)))
        return tuple(operators)

    def _upstream(self, name: str, checked: Checked[UpstreamTable]) -> model.Upstream:
        table = checked.table
        return model.Upstream(
            name=name,
            urls=tuple(table.urls),
            max_in_flight=table.max_in_flight,
            connect_timeout_s=table.connect_timeout,
            read_timeout_s=table.read_timeout,
            write_timeout_s=table.write_timeout,
            idle_timeout_s=table.idle_timeout,
            signing_key=self._content(checked, "signing_key_file", read_hmac_key, b""),
            ca=self._content(checked, "ca_file", _read_certificates, ""),
            ca_file=None if table.ca_file is None else str(self._path(table.ca_file).absolute()),
        )

    def _room(self, checked: Checked[RoomTable], draft: Draft) -> model.Room:
        table = checked.table
        upstream = draft.upstreams.get(table.upstream)
        whole = 1 if upstream is None else upstream.table.max_in_flight
        return model.Room(
            id=table.id,
            match=tuple(model.Match(path=match.path, host=match.host) for match in table.match),
            entry=table.entry or _first_path(table),
            upstream=table.upstream,
            max_in_flight=table.max_in_flight or max(1, whole * ROOM_SHARE_PERCENT // 100),
            settings=model.RoomSettings(
                drain_rate=table.drain_rate,
                burst=table.burst or burst_default(table.drain_rate),
                active_max=table.active_max,
                paused=table.paused,
                stock=table.stock,
                message=dict(table.message),
            ),
            session_s=table.session,
            session_max_s=table.session_max,
            claim_window_s=table.claim_window,
            absence_max_s=table.absence_max,
            waiting_max=table.waiting_max,
            joins_per_s=table.joins_per_s,
            audit_bytes=draft.audit.table.stream,
            bypass=tuple(_bypass(rule) for rule in table.bypass),
            queueing_status=table.queueing_status,
            origins=tuple(table.origins),
            opens_at_s=None if table.opens_at is None else int(table.opens_at.timestamp()),
            closes_at_s=None if table.closes_at is None else int(table.closes_at.timestamp()),
            board_poll_s=table.board_poll,
            customer_header=table.customer_header,
            customer_secret=self._content(checked, "customer_secret_file", read_hmac_key, b""),
        )


def _folder_fault(path: Path) -> str | None:
    """Why this cannot be a folder that is there or is made at the start."""
    nearest = next(one for one in (path, *path.parents) if os.path.exists(one))  # a name that is too long, too
    return None if os.path.isdir(nearest) else f"{nearest} is no folder"


def _read_certificates(path: Path) -> str:
    """The file's text, which must hold certificates that can be used. `ValueError` is a clause about the file."""
    try:
        content = path.read_text("ascii", "ignore")  # people write comments between certificates
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content)
    except (ssl.SSLError, ValueError):
        raise ValueError("holds no certificate in PEM form") from None
    except OSError as fault:
        raise ValueError(f"cannot be read: {fault.strerror}") from None
    return content


def _bypass(rule: BypassTable) -> model.Bypass:
    return model.Bypass(name=relations.bypass_name(rule), path=rule.path, source=rule.source)


def _first_path(table: RoomTable) -> str:
    """Where a visitor goes who came without a page to return to: the start of the room's first route."""
    pattern = table.match[0].path
    folder = folder_of(pattern)
    plain = pattern if folder is None else folder
    return re.sub(r"[^!-~]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), plain)
