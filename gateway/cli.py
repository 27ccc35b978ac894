"""Owns the `waitroom` command: its arguments, what it prints, its exit codes (0 good, 1 refused, 2 used wrongly)."""

from __future__ import annotations

import argparse
import http.client
import importlib.metadata
import json
import os
import sys
from collections.abc import Sequence
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit

from gateway import config as configuration
from gateway import notation
from gateway.capacity import Event, text_of
from gateway.edges.printing import KINDS, gateway_address, listen_address, printed
from gateway.errors import ConfigError, WaitroomError
from gateway.model import Config, Rate
from gateway.overview import columns, overview
from gateway.part import Part
from gateway.reference import reference
from gateway.rules.keys import load_key_file, new_key_file
from gateway.secretfile import read_token

DEFAULT_FILE: Final = "waitroom.toml"
OPERATOR_TIMEOUT_S: Final = 10.0
# What `rooms --set` may change, as the operator port names it.
WHOLE_SETTINGS: Final = ("burst", "active_max", "stock")
SETTINGS: Final = ("drain_rate", *WHOLE_SETTINGS, "message.LANGUAGE")


class Parser(argparse.ArgumentParser):
    """Options are written out: half of `--void-admissions` is no way to ask for it."""

    def __init__(self, **given: Any) -> None:
        super().__init__(**given, allow_abbrev=False)


class UsageError(WaitroomError):
    """The command was used in a way that means nothing."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; what goes wrong is one sentence on stderr, never a traceback."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    # The demo reads its own arguments: argparse cannot hand on what begins with an option.
    is_demo = given[:1] == ["demo"]
    asked = argparse.Namespace(run=_demo, arguments=given[1:]) if is_demo else _parser().parse_args(given)
    try:
        run: int = asked.run(asked)
    except UsageError as fault:
        print(f"waitroom: {fault}", file=sys.stderr)
        return 2
    except ConfigError as fault:
        print(fault, file=sys.stderr)
        return 1
    except WaitroomError as fault:
        print(f"waitroom: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # who read it has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return run


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="waitroom",
        description="A virtual waiting room: holds the crowd in a fair line so that what is behind it stands.",
        epilog="Begin with deploy/waitroom.example.toml, then: waitroom keys new, waitroom check, waitroom serve.",
    )
    parser.add_argument("--version", action="version", version=f"waitroom {importlib.metadata.version('waitroom')}")
    commands = parser.add_subparsers(required=True, metavar="command")

    serve = commands.add_parser("serve", help="run a gateway")
    _add_file(serve)
    serve.add_argument("--dev", action="store_true", help="allow plain http: for development only")
    serve.add_argument("--worker", help=argparse.SUPPRESS)  # what the parent process tells a worker
    serve.set_defaults(run=_serve)

    check = commands.add_parser("check", help="show every fault of a configuration, or what it comes to")
    _add_file(check)
    check.add_argument("--dev", action="store_true", help="check it as `serve --dev` would")
    check.add_argument("--settings", action="store_true", help="instead: every setting, its default, what is allowed")
    check.set_defaults(run=_check)

    keys = commands.add_parser("keys", help="make signing keys, or list those of a configuration")
    actions = keys.add_subparsers(required=True, metavar="action")
    new = actions.add_parser("new", help="write a new key file, readable by its owner only; never overwrites")
    new.add_argument("path", type=Path)
    new.add_argument("--algorithm", choices=["ES256", "HS256"], default="ES256", help="ES256 unless speed is all")
    new.set_defaults(run=_new_key)
    listed = actions.add_parser("list", help="the kids of the keys that a configuration names")
    _add_file(listed)
    listed.set_defaults(run=_list_keys)

    _add_rooms(commands.add_parser("rooms", help="look at rooms, or change one, through the operator port"))

    edge = commands.add_parser("edge", help="print the configuration of an edge proxy (docs/edges.md)")
    kinds = edge.add_subparsers(required=True, metavar="kind")
    for kind in KINDS:
        _add_edge(kinds.add_parser(kind, help=f"for {kind}"), kind)

    _add_capacity(commands.add_parser("capacity", help="what a crowd needs: gateways, edge, Redis (docs/capacity.md)"))
    audit = commands.add_parser("audit", help="judge the record of what rooms did (docs/audit.md)")
    questions = audit.add_subparsers(required=True, metavar="action")
    _add_audit_check(questions.add_parser("check", help="promises 1 to 4: 0 kept, 1 broken, 2 cannot be judged"))

    commands.add_parser("demo", help="a crowd, a bank, and a gateway between them; --help for its own arguments")
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", default=DEFAULT_FILE, help=f"the configuration ({DEFAULT_FILE})")


def _add_edge(parser: argparse.ArgumentParser, kind: str) -> None:
    _add_file(parser)
    parser.add_argument("--dev", action="store_true", help="for gateways that run with `serve --dev`")
    where = "where it listens (80, or 443 with a certificate)"
    parser.add_argument("--listen", metavar="[ADDRESS:]PORT", type=listen_address, help=where)
    parser.add_argument("--certificate", metavar="FILE", help="certificate and key, if TLS ends at this edge")
    parser.add_argument(
        "--gateway",
        metavar="HOST:PORT",
        type=gateway_address,
        action="append",
        default=[],
        help="a gateway as the edge reaches it; repeatable (default: [server] public, on this machine)",
    )
    parser.set_defaults(run=_edge, kind=kind)


def _add_capacity(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--arrivals", type=_crowd_size, required=True, metavar="N", help="how many come: 180000, 180k, 10M"
    )
    parser.add_argument("--within", type=_span, required=True, metavar="TIME", help="in which time, evenly: 60s, 3h")
    parser.add_argument(
        "--drain-rate", type=_rate, default="50/s", metavar="RATE", help="entries: 50/s, 3000/min (%(default)s)"
    )
    parser.add_argument("--requests", type=int, default=10, help="of each visit, to what is protected (%(default)s)")
    parser.add_argument("--edge", action="store_true", help="with HAProxy before the gateways (waitroom edge haproxy)")
    parser.add_argument("--price", type=float, default=0.04, help="of a core for an hour (%(default)s)")
    parser.set_defaults(run=_capacity)


def _crowd_size(text: str) -> int:
    number, unit = (text[:-1], text[-1]) if text.endswith(("k", "M")) else (text, "")
    try:
        size = int(float(number) * {"": 1, "k": 1_000, "M": 1_000_000}[unit])
    except (ValueError, OverflowError):
        size = 0
    if not 0 < size <= 10**9:
        raise argparse.ArgumentTypeError(f"{text}: a number of people from 1 to 1000M is wanted: 180000, 180k, 10M")
    return size


def _span(text: str) -> float:
    try:
        seconds = notation.parse_duration(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{text}: {fault}") from None
    if not 1 <= seconds <= 30 * 86_400:
        raise argparse.ArgumentTypeError(f"{text}: from 1s to 720h is wanted")
    return seconds


def _rate(text: str) -> Rate:
    try:
        return notation.parse_rate(text)
    except ValueError as fault:
        raise argparse.ArgumentTypeError(f"{text}: {fault}") from None


def _add_audit_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="[audit] file of each gateway")
    parser.add_argument("--redis", metavar="URL", help="also the stream in this Redis; goes with --room")
    parser.add_argument("--room", help="this room alone")
    parser.set_defaults(run=_audit_check)


def _add_rooms(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("room", nargs="?", help="the room to show or to change; without: all")
    parser.add_argument("--url", default="http://127.0.0.1:9090", help="the operator port (%(default)s)")
    parser.add_argument("--token-file", type=Path, help="the file of the operator's bearer token")
    settings = ", ".join(SETTINGS)
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help=f"one of {settings}; repeatable"
    )
    parser.add_argument("--unset", action="append", default=[], metavar="NAME", help="back to what the file says")
    pause = parser.add_mutually_exclusive_group()
    pause.add_argument("--pause", dest="paused", action="store_const", const=True, help="let nobody in")
    pause.add_argument("--resume", dest="paused", action="store_const", const=False, help="let people in again")
    parser.add_argument("--reset", action="store_true", help="void every ticket: a new line; numbers go on")
    parser.add_argument("--void-admissions", action="store_true", help="with --reset: those inside have to leave, too")
    parser.set_defaults(run=_rooms)


# --- configuration and keys ------------------------------------------------------------------------------------------


def load(file: str, *, dev: bool = False) -> Config:
    """The configuration as a gateway would start on it, keys included."""
    return configuration.load(file, os.environ, dev=dev, read_key=load_key_file)


def _serve(asked: argparse.Namespace) -> int:
    from gateway import app, workers  # noqa: PLC0415 - `check` and `keys` start in a moment because they do not need it

    if asked.worker is not None:
        part = Part.parse(asked.worker)
        return app.serve(part.config(), part)
    config = load(asked.file, dev=asked.dev)
    if config.server.workers == 1:
        return app.serve(config)
    # -P: not a folder `gateway` that happens to lie where this was started.
    dev = ["--dev"] if asked.dev else []
    command = [sys.executable, "-P", "-m", "gateway", "serve", asked.file, *dev, "--worker"]
    return workers.run(config, command, partial(load, asked.file, dev=asked.dev))


def _capacity(asked: argparse.Namespace) -> int:
    if not 0 <= asked.requests <= 100_000 or not 0 <= asked.price < 1e6:
        raise WaitroomError("--requests from 0 to 100000 and --price from 0 to 1000000 are wanted")
    event = Event(asked.arrivals, asked.within, asked.drain_rate, asked.requests, asked.edge, asked.price)
    print(text_of(event))
    return 0


def _check(asked: argparse.Namespace) -> int:
    print(reference() if asked.settings else overview(load(asked.file, dev=asked.dev)))
    return 0


def _new_key(asked: argparse.Namespace) -> int:
    key = new_key_file(asked.path, asked.algorithm)
    print(f"{asked.path}: {key.algorithm}, kid {key.kid}, readable by its owner only")
    print("Name it in [tokens]: signing_key_file for a first key; verify_key_files on every gateway for the next one.")
    return 0


def _list_keys(asked: argparse.Namespace) -> int:
    tokens = load(asked.file, dev=True).tokens
    for use, file in (("signs", tokens.signing_key_file), *(("verifies", name) for name in tokens.verify_key_files)):
        key = load_key_file(Path(file))
        print(f"{key.kid}  {key.algorithm}  {use:8}  {file}")
    return 0


def _edge(asked: argparse.Namespace) -> int:
    config = load(asked.file, dev=asked.dev)
    where = {"listen": asked.listen, "certificate": asked.certificate, "gateways": asked.gateway}
    found = printed(asked.kind, config, load_key_file, **where)
    remarks = list(found.remarks)
    for path, public_key in found.files:
        try:
            path.write_bytes(public_key)
        except OSError as fault:
            raise WaitroomError(
                f"{path} cannot be written: {fault.strerror}; the edge reads the public key there."
            ) from None
        remarks.append(f"{path}: the public key that the edge reads; put a copy there on the edge's own machine")
    for remark in remarks:
        print(f"waitroom: {remark}", file=sys.stderr)
    sys.stdout.write(found.text)
    return 0


def _audit_check(asked: argparse.Namespace) -> int:
    from gateway.inquiry import inquire  # noqa: PLC0415 - no other command needs what it reads with

    if asked.redis is not None and asked.room is None:
        raise UsageError("--redis goes with --room: a stream is one room's")
    if not asked.files and asked.redis is None:
        raise UsageError("what is to be judged? Name files, or --redis URL --room ROOM")
    told, code = inquire(asked.files, asked.redis, asked.room)
    print(told)
    return code


def _demo(asked: argparse.Namespace) -> int:
    from gateway.demo import scene  # noqa: PLC0415 - a gateway never loads the demo

    return scene.main(asked.arguments) or 0


# --- the operator port -----------------------------------------------------------------------------------------------


def _rooms(asked: argparse.Namespace) -> int:
    change = _change(asked)
    if not asked.room and (asked.room is not None or change or asked.reset):
        raise UsageError("which room? Name it before what is to be changed: waitroom rooms ROOM --pause")
    if asked.reset and change:
        raise UsageError("--reset stands alone: change the settings before or after it")
    if asked.void_admissions and not asked.reset:
        raise UsageError("--void-admissions goes with --reset")
    path = "/api/rooms" if asked.room is None else f"/api/rooms/{quote(asked.room, safe='')}"
    if asked.reset:
        answer = _ask(asked, "POST", f"{path}/reset", {"admissions": asked.void_admissions})
    else:
        answer = _ask(asked, "PATCH" if change else "GET", path, change or None)
    rooms = answer.get("rooms") if isinstance(answer, dict) and asked.room is None else answer
    print(_table(rooms) if isinstance(rooms, list) else json.dumps(answer, indent=2, ensure_ascii=False))
    return 0


def _change(asked: argparse.Namespace) -> dict[str, Any]:
    """The JSON merge patch (RFC 7396) that the arguments come to; null takes an override back."""
    change: dict[str, Any] = {} if asked.paused is None else {"paused": asked.paused}
    for name, value in [*(_setting(text) for text in asked.set), *((name, None) for name in asked.unset)]:
        parent, _, language = name.partition(".")
        if language and parent == "message":
            change.setdefault("message", {})[language] = value
        elif name in SETTINGS or (value is None and name in {"paused", "message"}):
            change[name] = value
        else:
            raise UsageError(f"there is no setting {name}; allowed: {', '.join(SETTINGS)}")
    return change


def _setting(text: str) -> tuple[str, str | int]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"--set {text}: NAME=VALUE is wanted, such as drain_rate=80/s")
    if name not in WHOLE_SETTINGS:
        return name, value
    if not (value.isascii() and value.isdigit()):
        raise UsageError(f"--set {text}: a whole number is wanted")
    return name, int(value)


def _ask(asked: argparse.Namespace, method: str, path: str, document: dict[str, Any] | None) -> Any:
    """What the operator port answers; anything but success is a sentence."""
    url: str = asked.url
    connection = _connection(url)
    headers = {"Accept": "application/json"}
    if asked.token_file is not None:
        try:
            headers["Authorization"] = f"Bearer {read_token(asked.token_file)}"
        except ValueError as fault:
            raise WaitroomError(f"{asked.token_file} {fault}.") from None
    body = None if document is None else json.dumps(document)
    if body is not None:
        headers["Content-Type"] = "application/merge-patch+json" if method == "PATCH" else "application/json"
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as fault:
        raise WaitroomError(f"{url} cannot be asked: {fault}.") from None
    finally:
        connection.close()
    try:
        told = json.loads(content) if content else None
    except ValueError:
        told = None
    if not 200 <= answer.status < 300 or told is None:
        detail = told.get("detail") or told.get("title") if isinstance(told, dict) else None
        faults = told.get("errors", []) if isinstance(told, dict) else []
        if answer.status == HTTPStatus.UNAUTHORIZED:
            how = "what --token-file names is no token of this gateway's" if asked.token_file else "give --token-file"
            detail = f"{detail or answer.reason}: {how} ([[operators]] of its configuration)"
        lines = "".join(f"\n  - {fault['detail']}" for fault in faults if isinstance(fault, dict) and "detail" in fault)
        raise WaitroomError(f"{url}{path} answered {answer.status}: {detail or answer.reason}{lines}")
    return told


def _connection(url: str) -> http.client.HTTPConnection:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"} or "@" in parts.netloc or parts.path.strip("/") or parts.query:
        raise UsageError(f"--url {url}: http://host:port is wanted")
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return connect(host, port, timeout=OPERATOR_TIMEOUT_S)


def _table(rows: list[dict[str, Any]]) -> str:
    """One line a room; what is nested is left to the view of one room."""
    names = [name for name, value in rows[0].items() if not isinstance(value, dict | list)] if rows else []
    lines = [names, *(["" if row.get(name) is None else str(row[name]) for name in names] for row in rows)]
    return columns(lines)
