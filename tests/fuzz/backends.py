"""Whether a backend might serve a path out of a room: known backends as pipelines, each written as that backend reads.

An oracle for promise 9 that shares nothing with `gateway/rules/routes.py`: there, a set closed under steps; here, what servers
are known to do, in their order, with the standard library's own functions where there are some, and every order of the steps
besides, for the one that nobody has written down.
"""

from __future__ import annotations

import ntpath
import posixpath
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from itertools import permutations
from typing import Final
from urllib.parse import unquote, urlsplit

Step = Callable[[str], str]


def decoded(path: str) -> str:
    """As UTF-8 where it is; else byte by byte, as servers do that know no characters."""
    text = unquote(path, "utf-8", "replace")
    return unquote(path, "latin-1") if "\ufffd" in text else text


def bytewise(path: str) -> str:
    """Percent codes of two bytes that decoders before 2010 took for one ASCII character, and the others."""
    lenient = re.sub(
        r"(?i)%c([01])%([89ab][0-9a-f])", lambda it: chr((int(it[1], 16) & 1) << 6 | int(it[2], 16) & 0x3F), path
    )
    return decoded(lenient)


def resolved(path: str) -> str:
    return posixpath.normpath(path) + ("/" if path.endswith("/") else "")


def resolved_as_windows(path: str) -> str:
    return ntpath.normpath(path).replace("\\", "/")


def without_parameters(path: str) -> str:
    """Tomcat, Jetty, Spring: segment by segment."""
    return "/".join(segment.split(";", 1)[0] for segment in path.split("/"))


def cut_at_query(path: str) -> str:
    return path.split("?", 1)[0].split("#", 1)[0]


def without_authority(path: str) -> str:
    """Who hands the path to a URL parser takes `//host/x` for a host and `/x`."""
    try:
        return urlsplit(path).path if path.startswith("//") else path
    except ValueError:
        return path


def merged(path: str) -> str:
    return "/" + "/".join(part for part in path.split("/") if part) + ("/" if path.endswith("/") else "")


def forward_slashes(path: str) -> str:
    return "/".join(path.split("\\"))


def compatible(path: str) -> str:
    return unicodedata.normalize("NFKC", path)


BACKENDS: Final[dict[str, Sequence[Step]]] = {
    "as sent": (),
    "nginx": (decoded, merged, resolved),
    "apache": (resolved, decoded, merged, resolved),
    "tomcat": (without_parameters, decoded, forward_slashes, resolved),
    "tomcat behind nginx": (decoded, merged, resolved, without_parameters, decoded, resolved),
    "jetty": (decoded, without_parameters, resolved, merged),
    "spring": (without_parameters, decoded, merged),
    "iis": (decoded, decoded, forward_slashes, resolved_as_windows),
    "asp.net": (decoded, forward_slashes, resolved, cut_at_query),
    "node": (without_authority, cut_at_query),
    "express": (without_authority, decoded, merged),
    "php": (without_authority, decoded, cut_at_query, resolved),
    "old java": (bytewise, resolved),
    "cgi on windows": (bytewise, decoded, compatible, resolved_as_windows),
    "python": (decoded, compatible, posixpath.normpath),
    "rewriting twice": (decoded, cut_at_query, merged, decoded, cut_at_query, resolved),
}
_ANY_ORDER: Final = tuple(permutations((decoded, forward_slashes, merged, resolved, without_parameters, cut_at_query)))


@lru_cache(4096)
def served_as(path: str) -> frozenset[str]:
    """Every path, in lower case, that one of them would look for."""
    found = set()
    for steps in (*BACKENDS.values(), *_ANY_ORDER):
        reading = path
        for step in steps:
            reading = step(reading)
        found |= {reading.lower(), reading.casefold()}
    for steps in ((decoded, *order) for order in _ANY_ORDER[::7]):  # and behind a proxy that decodes before
        reading = path
        for step in steps:
            reading = step(reading)
        found.add(reading.lower())
    return frozenset(found)


def might_serve(path: str, folder: str) -> bool:
    """Whether some backend would serve this path out of the folder, `/a/b` for `/a/b/*`."""
    return any(reading == folder or reading.startswith(folder + "/") for reading in served_as(path))
