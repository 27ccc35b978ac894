"""Makes docs/conformance.md's generated part of the cases, the reasons and what was observed of the referees."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from tests.conformance.case import Case
from tests.conformance.corpus import CASES
from tests.conformance.programs import REFEREES
from tests.conformance.reasons import REASON_OF, REASONS

PAGE: Final = Path(__file__).parent.parent.parent / "docs" / "conformance.md"
RECORD: Final = Path(__file__).parent / "observed.json"
BEGIN: Final = "<!-- From here on made by `python -m tests.conformance`. -->\n"
SECTIONS: Final = {
    "5789": "PATCH",
    "8297": "early hints",
    "9110": "semantics",
    "9112": "messages",
    "9113": "HTTP/2",
    "design": "our own",
}
CUTS: Final = """\
An upstream's answer that ends, in order or by a reset, behind each of its bytes, the last one included. `refused`: the client got
an error, or an answer that it can tell is not whole. `whole`: it looked whole. A body that ends with the connection can be cut in
order without anyone knowing; every other cut must be told."""
CUTS_DIFFER: Final = """\
nginx and HAProxy take a reset for an end where the body ends with the connection, nginx for HTTP/1.0 clients; to these nginx also
passes chunks on without any way to tell their end. The gateway resets its own connection wherever half an answer would look
whole."""
Observed = dict[str, Any]  # by referee: version, cases and truncations, each with the alternatives that were seen


def read_record() -> Observed:
    record: Observed = json.loads(RECORD.read_text())
    return record


def alternatives(text: str) -> set[str]:
    return set(text.split(" or "))


def is_different(case: Case, observed: Observed) -> bool:
    """True if a referee did what the gateway never does."""
    return any(not set(observed[name]["cases"][case.name]) <= alternatives(case.ours) for name in REFEREES)


def rendered(observed: Observed) -> str:
    """The tables, by section of the RFCs."""
    different = [case for case in CASES if is_different(case, observed)]
    versions = ", ".join(f"{name} {observed[name]['version']}" for name in REFEREES)
    lines = [
        f"{len(CASES)} cases; in {len(different)} a referee does something else, for the reason named. Referees: {versions}.",
        "",
    ]
    ordered = sorted(CASES, key=lambda case: _section(case.rfc))
    for rfc, cases in groupby(ordered, lambda case: case.rfc):
        number, _, section = rfc.partition(" ")
        source = f"RFC {number}" if number.isdigit() else number.capitalize()
        lines += [
            f"## {source}, {section} ({SECTIONS[number]})",
            "",
            "| case | must | gateway | nginx | HAProxy | why |",
        ]
        lines += ["| --- | --- | --- | --- | --- | --- |", *(_row(case, observed) for case in cases), ""]
    lines += ["## Why they differ", ""]
    lines += [f"- **{reason}**: {text}" for reason, (text, _) in REASONS.items()]
    return "\n".join([*lines, "", *_truncations(observed)])


def _section(rfc: str) -> tuple[str, list[int]]:
    number, _, section = rfc.partition(" ")
    return number, [int(part) for part in section.split(".")]


def _row(case: Case, observed: Observed) -> str:
    cells = [f"answer: {case.what}" if case.name.startswith("answer-") else case.what, case.must.value, case.ours]
    for name in REFEREES:
        seen = set(observed[name]["cases"][case.name])
        cells.append("same" if seen <= alternatives(case.ours) else " or ".join(sorted(seen)))
    cells.append(REASON_OF.get(case.name, ""))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _truncations(observed: Observed) -> list[str]:
    lines = [
        "## Cut answers",
        "",
        CUTS,
        "",
        "| answer, client, cut by | gateway | nginx | HAProxy |",
        "| --- | --- | --- | --- |",
    ]
    ours: dict[str, list[str]] = observed["gateway"]["truncations"]
    for kind, seen in ours.items():
        row = [" or ".join(observed[name]["truncations"][kind]) for name in REFEREES]
        own = " or ".join(seen)
        lines.append(f"| {kind} | {own} | " + " | ".join("same" if one == own else one for one in row) + " |")
    lines += [
        "",
        CUTS_DIFFER,
        "",
    ]
    return lines
