"""Makes docs/errors.md: every refusal as the source has it, and beside it what a person does about it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from sentences import Said, said, yielded

from gateway import errors
from gateway.web.answers import TITLES
from gateway.web.gate import refused
from gateway.web.upstream import FAILURES

HERE = Path(__file__).parent
HEAD: Final = """# Every error

Made by `make references` from the source; a test compares. What is computed stands in `{}`. What each failure of the
whole looks like, and what the log says, is in [failures.md](failures.md#log-events); what an alert asks for in
[runbooks.md](runbooks.md).

Who met the error?

- **A visitor or an app**: [the gateway's own answers](#the-gateways-own-answers), [what stands in for the
  backend](#what-stands-in-for-the-backend).
- **An operator**: [the operator port](#the-operator-port), [the command](#the-command).
- **Nobody yet, it does not start**: [the configuration](#the-configuration), [the start](#the-start).
"""
OWN: Final = """## The gateway's own answers

Problem documents (RFC 9457, `application/problem+json`): `type` is the first column, `detail` one of the sentences.
To browsers the same is said by a page. Besides, a request whose framing could be read in two ways, or whose headers
exceed `header_bytes_max`, gets 400 or 431 in plain text and the connection ends.
"""
BACKEND: Final = """## What stands in for the backend

When an admitted or unprotected request cannot be served by its upstream: `about:blank` with this sentence, or a page
with it; counted in `waitroom_upstream_failures_total{kind}`. 503 and 504 bear Retry-After.
"""
OPERATOR: Final = """## The operator port

`about:blank` with the sentence in `detail`; 422 has a list `errors` besides, each with the place, the value and what
is allowed. Nothing was changed after any of them.
"""
COMMAND: Final = """## The command

Exit codes: 0 good, 1 refused, 2 used wrongly, 130 ended by Ctrl-C. Always a sentence on standard error, never a
traceback.
"""
CONFIGURATION: Final = """## The configuration

Every fault at once, as `waitroom check` shows them. A single key out of its bounds reads `KEY = VALUE: allowed: ...`,
with what stands in the [table of settings](configuration.md#every-setting); an unknown one `KEY: unknown key; did you
mean ...?`; a missing one `KEY: missing; allowed: ...`. What must hold between keys:
"""
NOTES: Final = """Not faults, but what follows from the figures; `waitroom check` says so and the gateway starts:
"""
START: Final = """## The start

"""


def page() -> str:
    """The whole of docs/errors.md."""
    texts = tomllib.loads((HERE / "errors.toml").read_text())
    parts = [
        HEAD,
        OWN + "\n" + "\n".join(_problems(texts["problems"])),
        BACKEND + "\n" + "\n".join(_failures(texts["failures"])),
        OPERATOR + "\n" + "\n".join(_operator()),
        COMMAND + "\n" + "\n".join(_listed(_sentences(said("cli.py", "UsageError", "WaitroomError")))),
        CONFIGURATION + "\n" + "\n".join(_listed([*yielded("relations.py"), *_sentences(said(".", "ConfigError"))])),
        NOTES + "\n" + "\n".join(_listed(yielded("notes.py"))),
        START + "\n".join(_listed(_sentences(said(".", "StartError", "KeyFileError")))),
        "## Classes of errors in the log\n\n" + "\n".join(_exceptions(texts["exceptions"])),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _problems(texts: dict[str, str]) -> Iterator[str]:
    _same("problem types", texts, TITLES)
    rows = _answers()
    _same("answers", {kind for kind, _ in rows}, TITLES)
    yield "| type | title | status and `detail` | what it means, what to do |"
    yield "| --- | --- | --- | --- |"
    for kind, title in TITLES.items():
        details: dict[str, list[str]] = {}
        for one, (status, detail) in rows:
            if one == kind and detail not in details.setdefault(status, []):
                details[status].append(detail)
        told = "<br>".join(f"{status} {_code(detail)}" for status, told in details.items() for detail in told)
        yield f"| `{kind}` | {title} | {told} | {_cell(texts[kind])} |"


def _answers() -> list[tuple[str, tuple[str, str]]]:
    """Type, and status with sentence, of every problem document; those that are put together by their parts."""
    of_targets = said("rules/routes.py", "Refused")
    later = [one.arguments[1] for one in said("web/lobby.py", "retry_later")]
    full = [one.arguments[1] for one in said("web/lobby.py", "full")]
    found: list[tuple[str, tuple[str, str]]] = []
    for one in said("web", "problem"):
        status, kind, detail = one.arguments[:3]
        if kind == "{kind}":
            for code, reason in (target.arguments for target in of_targets):
                found.append((json.loads(refused(int(code), reason).text or "")["type"], (code, reason)))
        elif detail == "{detail}":
            found += [(kind, (status, sentence)) for sentence in later]
        elif "{why}" in detail:
            found += [(kind, (status, detail.replace("{why}", why))) for why in full]
        else:
            found.append((kind, (status, detail)))
    # Told by *status* itself, whose `cause` it is.
    return [*found, ("admission-ended", ("410", "*status*: `state` is `ended`, `cause` is `admission-ended`"))]


def _failures(texts: dict[str, str]) -> Iterator[str]:
    _same("failures of upstreams", texts, FAILURES)
    yield "| kind | status | sentence | what to do |"
    yield "| --- | --- | --- | --- |"
    for kind, (status, sentence) in FAILURES.items():
        yield f"| `{kind}` | {status} | {sentence} | {_cell(texts[kind])} |"


def _operator() -> Iterator[str]:
    yield "| status | sentence |"
    yield "| --- | --- |"
    rows = {(one.arguments[0], one.arguments[1]) for one in said("web/operator.py", "Problem")}
    for status, sentence in sorted(rows):
        yield f"| {status} | {_code(sentence)} |"


def _sentences(calls: list[Said]) -> list[str]:
    """What these exceptions say; those that only pass another one's sentence on are told where that one is."""
    whole = (" ".join(one.arguments[1:] if one.name == "ConfigError" else one.arguments) for one in calls)
    return [sentence for sentence in dict.fromkeys(whole) if not sentence.startswith("{") or " " in sentence]


def _listed(sentences: list[str]) -> Iterator[str]:
    for sentence in dict.fromkeys(sentences):
        yield f"- {_code(sentence)}"


def _exceptions(texts: dict[str, str]) -> Iterator[str]:
    classes = {
        name: one
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, errors.WaitroomError) and one is not errors.WaitroomError
    }
    _same("classes of errors", texts, classes)
    yield "| class | is | what to do |"
    yield "| --- | --- | --- |"
    for name, one in classes.items():
        yield f"| `{name}` | {(one.__doc__ or '').strip()} | {_cell(texts[name])} |"


def _same(what: str, told: object, known: object) -> None:
    """Both name the very same, or the page would lie."""
    assert isinstance(told, dict | set)
    assert isinstance(known, dict | set)
    if differing := set(told) ^ set(known):
        raise SystemExit(f"errors.toml and the source differ in {what}: {', '.join(sorted(map(str, differing)))}")


def _code(sentence: str) -> str:
    return _cell(sentence) if "`" in sentence else f"`{_cell(sentence)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
