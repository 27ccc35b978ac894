"""What upstreams answer: status lines, fields, framing, interim answers, statuses without a body (RFC 9112, 4 and 6; RFC 9110, 15)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import HOST, OK, Act, Case, Must, Step
from tests.conformance.corpus.connections import GET

HEAD: Final = b"HTTP/1.1 200 OK\r\n"
EVIL: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"


def says(*parts: Step) -> tuple[Step, ...]:
    return (Act.BODY, *parts)


def answered(name: str, rfc: str, what: str, parts: tuple[Step, ...], must: Must, ours: str, **more: object) -> Case:
    return Case(name, rfc, what, (GET,), must, ours, answer=parts, **more)  # type: ignore[arg-type]  # names of fields


def fields(lines: bytes, body: bytes = b"ok") -> tuple[Step, ...]:
    """A 200 with these lines and a length; the upstream then ends the connection, so that nothing waits for more."""
    return says(HEAD + b"Content-Length: 2\r\n" + lines + b"\r\n" + body, Act.HALF)


STATUS_LINES: Final = (
    answered("answer-no-reason", "9112 4", "a status line without a reason, its space there", says(b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok"), Must.PASS, "200, kept, 1"),
    answered("answer-no-space", "9112 4", "a status line that ends with the status", says(b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"), Must.FREE, "200, kept, 1"),
    answered("answer-10", "9112 2.3", "HTTP/1.0 with a length", says(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.PASS, "200, kept, 1"),
    answered("answer-unknown-status", "9110 15", "a status that nobody knows", says(b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok"), Must.PASS, "299, kept, 1"),
    answered("answer-status-600", "9110 15", "a status above 599", says(b"HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.FREE, "600, kept, 1"),
    answered("answer-status-099", "9112 4", "a status below 100", says(b"HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1", is_slow=True),
    answered("answer-status-four-digits", "9112 4", "a status of four digits", says(b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1"),
    answered("answer-status-word", "9112 4", "a status that is a word", says(b"HTTP/1.1 OK\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1", is_slow=True),
    answered("answer-version-2", "9112 2.3", "HTTP/2.0 in a status line", says(b"HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1"),
    answered("answer-version-12", "9110 2.5", "HTTP/1.2", says(b"HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-09", "9112 2.3", "an answer without a head", says(b"hello", Act.HALF), Must.REFUSE, "502, kept, 1", is_slow=True),
    answered("answer-other-protocol", "9112 2.3", "another protocol", says(b"SSH-2.0-OpenSSH_9.2\r\n\r\n", Act.HALF), Must.REFUSE, "502, kept, 1", is_slow=True),
    answered("answer-empty-line-before", "9112 2.2", "an empty line before the status line", says(b"\r\n" + OK, Act.HALF), Must.REFUSE, "502, kept, 1", is_slow=True),
    answered("answer-reason-bytes", "9112 4", "a reason in EUC-KR", says(b"HTTP/1.1 200 \xb0\xa1\r\nContent-Length: 2\r\n\r\nok"), Must.FREE, "200, kept, 1"),
    answered("answer-reason-nul", "9112 4", "a NUL inside a reason", says(b"HTTP/1.1 200 O\x00K\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1"),
)  # fmt: skip

FIELDS: Final = (
    answered("answer-bare-lf-head", "9112 2.2", "a head with LF alone", says(b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-bare-lf-field", "9112 2.2", "an LF alone inside a field", fields(b"X-A: a\nSet-Cookie: b=c\r\n"), Must.FREE, "502, kept, 1"),
    answered("answer-bare-cr-field", "9112 2.2", "a CR alone inside a field", fields(b"X-A: a\rSet-Cookie: b=c\r\n"), Must.FREE, "502, kept, 1", lacks=(b"a\rSet",)),
    answered("answer-folded", "9112 5.2", "a folded line", fields(b"X-A: a\r\n b\r\n"), Must.FREE, "502, kept, 1", lacks=(b"\r\n b",)),
    answered("answer-nul", "9110 5.5", "a NUL inside a field", fields(b"X-A: a\x00b\r\n"), Must.FREE, "502, kept, 1", lacks=(b"\x00",)),
    answered("answer-no-colon", "9112 5", "a line without a colon", fields(b"X-A\r\n"), Must.FREE, "502, kept, 1"),
    answered("answer-space-before-colon", "9112 5.1", "a space before a colon, which a proxy must remove", fields(b"X-A : b\r\n"), Must.FREE, "502, kept, 1", lacks=(b"X-A :",)),
    answered("answer-coding-space-before-colon", "9112 5.1", "the same in Transfer-Encoding", says(HEAD + b"Transfer-Encoding : chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-bytes", "9110 5.5", "bytes that are not UTF-8", fields(b"Content-Disposition: attachment; filename=\xb0\xa1\r\n"), Must.PASS, "200, kept, 1", gets=(b"filename=\xb0\xa1\r\n",)),
    answered("answer-set-cookie-twice", "9110 5.3", "two Set-Cookie", fields(b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n"), Must.PASS, "200, kept, 1", gets=(b"Set-Cookie: a=b\r\n", b"Set-Cookie: c=d\r\n")),
    answered("answer-many-fields", "9110 5.4", "ninety fields", fields(b"".join(b"X-%d: a\r\n" % n for n in range(90))), Must.PASS, "200, kept, 1", gets=(b"X-89: a\r\n",)),
    answered("answer-too-many-fields", "9110 5.4", "two hundred fields", fields(b"".join(b"X-%d: a\r\n" % n for n in range(200))), Must.FREE, "200, kept, 1"),
    answered("answer-long-field", "9110 5.4", "a field of 100 kB", fields(b"X-A: " + b"a" * 100_000 + b"\r\n"), Must.FREE, "502, kept, 1"),
    answered("answer-hop-by-hop", "9110 7.6.1", "a field that Connection names", fields(b"Connection: X-Hop\r\nX-Hop: a\r\nKeep-Alive: timeout=9\r\n"), Must.PASS, "200, kept, 1", lacks=(b"X-Hop", b"timeout=9")),
    answered("answer-our-names", "design 8", "the names of ours that no client may see", fields(b"Waitroom-Release: 0\r\nWaitroom-Remaining: 7\r\n"), Must.FREE, "200, kept, 1", lacks=(b"Waitroom-Re",)),
)  # fmt: skip

FRAMING: Final = (
    answered("answer-chunked", "9112 7.1", "chunks", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), Must.PASS, "200, kept, 1"),
    answered("answer-chunk-extension", "9112 7.1.1", "chunks with extensions", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2;a=b\r\nok\r\n0;c\r\n\r\n"), Must.PASS, "200, kept, 1"),
    answered("answer-trailer", "9110 6.5", "a trailer", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Trailer: a\r\n\r\n"), Must.PASS, "200, kept, 1"),
    answered("answer-until-close", "9112 6.3", "a body that ends with the connection", says(HEAD + b"\r\nok", Act.HALF), Must.PASS, "200, kept, 1"),
    answered("answer-until-reset", "9112 8", "the same, but the connection is reset", says(HEAD + b"\r\nok", Act.RESET), Must.CUT, "200 cut, closed, 1"),
    answered("answer-length-and-chunked", "9112 6.3", "a length and a coding", says(HEAD + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-chunked-10", "9112 6.1", "chunks in HTTP/1.0", says(b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-gzip-chunked", "9112 6.1", "another coding before chunked", says(HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-identity", "9112 7", "identity, which is gone", says(HEAD + b"Transfer-Encoding: identity\r\n\r\nok", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-chunked-not-last", "9112 6.3", "chunked, but not last: read to the end", says(HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n2\r\nok\r\n0\r\n\r\n", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-two-lengths", "9112 6.3", "two lengths", says(HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nokk", Act.HALF), Must.REFUSE, "502, kept, 1"),
    answered("answer-length-twice", "9112 6.3", "the same length twice", says(HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", Act.HALF), Must.FREE, "200, kept, 1"),
    answered("answer-length-list", "9112 6.3", "the same length twice in a list", says(HEAD + b"Content-Length: 2, 2\r\n\r\nok", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-length-minus", "9112 6.3", "a negative length", says(HEAD + b"Content-Length: -2\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1"),
    answered("answer-length-plus", "9112 6.3", "a length with a plus", says(HEAD + b"Content-Length: +2\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1"),
    answered("answer-length-word", "9112 6.3", "a length that is a word", says(HEAD + b"Content-Length: two\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1"),
    answered("answer-length-huge", "9112 6.3", "a length that 64 bits cannot hold", says(HEAD + b"Content-Length: 18446744073709551618\r\n\r\nok", Act.HALF), Must.REFUSE, "502, kept, 1", is_slow=True),
    answered("answer-longer", "9112 6.3", "more than the length says: nobody's answer", says(HEAD + b"Content-Length: 2\r\n\r\nok" + EVIL), Must.PASS, "200, kept, 1", lacks=(b"evil",)),
    answered("answer-shorter", "9112 8", "less than the length says", says(HEAD + b"Content-Length: 3\r\n\r\nok", Act.HALF), Must.CUT, "200 cut, closed, 1"),
    answered("answer-chunk-cut", "9112 8", "an end inside a chunk", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n9\r\nok", Act.HALF), Must.CUT, "200 cut, closed, 1"),
    answered("answer-chunk-last-missing", "9112 8", "an end before the last chunk", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", Act.HALF), Must.CUT, "200 cut, closed, 1"),
    answered("answer-chunk-size-word", "9112 7.1", "a size that is none", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\nx\r\nok\r\n0\r\n\r\n", Act.HALF), Must.CUT, "502, kept, 1"),
    answered("answer-chunk-size-later", "9112 7.1", "the same behind a good chunk", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\nx\r\n0\r\n\r\n", Act.HALF), Must.CUT, "502, kept, 1"),
    answered("answer-chunk-size-huge", "9112 7.1", "a size that 64 bits cannot hold", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n10000000000000002\r\nok\r\n0\r\n\r\n", Act.HALF), Must.CUT, "502, kept, 1"),
    answered("answer-chunk-bare-lf", "9112 7.1", "sizes that end in LF alone", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n", Act.HALF), Must.FREE, "502, kept, 1"),
    answered("answer-chunk-long", "9112 7.1", "data longer than its size", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n", Act.HALF), Must.CUT, "502, kept, 1"),
    answered("answer-second-behind-chunks", "9112 6.3", "a second answer behind the last chunk", says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + EVIL), Must.PASS, "200, kept, 1", lacks=(b"evil",)),
)  # fmt: skip

INTERIM: Final = (
    answered("answer-103", "8297 2", "early hints before the answer", says(b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n" + OK), Must.FREE, "103 200, kept, 1", is_slow=True),
    answered("answer-102", "9110 15.2", "two interim answers", says(b"HTTP/1.1 102 Processing\r\n\r\n" * 2 + OK), Must.FREE, "102 102 200, kept, 1", is_slow=True),
    answered("answer-100-unasked", "9110 15.2.1", "a 100 that nobody asked for", says(b"HTTP/1.1 100 Continue\r\n\r\n" + OK), Must.PASS, "200, kept, 1", is_slow=True),
    Case("answer-103-10", "9110 15.2", "interim answers are not for HTTP/1.0 clients", (GET.replace(b"1.1", b"1.0"),), Must.PASS, "200, closed, 1", answer=says(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK), is_slow=True),
    answered("answer-103-for-ever", "9110 15.2", "interim answers without end", says(b"HTTP/1.1 102 Processing\r\n\r\n" * 1000, Act.HALF), Must.REFUSE, "102 x15 502, kept, 1", is_slow=True),
    answered("answer-103-length", "9110 8.6", "an interim answer with a length", says(b"HTTP/1.1 103 Early Hints\r\nContent-Length: 2\r\n\r\n" + OK), Must.FREE, "103 200, kept, 1", lacks=(b"Hints\r\nContent-Length",), is_slow=True),
)  # fmt: skip

BODILESS: Final = (
    answered("answer-204", "9110 15.3.5", "204", says(b"HTTP/1.1 204 No Content\r\n\r\n"), Must.PASS, "204, kept, 1"),
    answered("answer-204-length", "9110 8.6", "204 with a length, which must not be there", says(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n"), Must.PASS, "204, kept, 1", lacks=(b"Content-Length: 4",)),
    answered("answer-204-body", "9112 6.3", "204 with a body: it is nobody's", says(b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil"), Must.PASS, "204, kept, 1", lacks=(b"evil",)),
    answered("answer-204-chunked", "9112 6.1", "204 with a coding", says(b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), Must.PASS, "204, kept, 1", lacks=(b"chunked",)),
    answered("answer-304", "9110 15.4.5", "304 with the length of what it stands for", says(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\n\r\n"), Must.PASS, "304, kept, 1"),
    answered("answer-304-body", "9112 6.3", "304 with a body", says(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil"), Must.PASS, "304, kept, 1", lacks=(b"evil",)),
    Case("answer-head-body", "9112 6.3", "a body behind the answer to a HEAD", (b"HEAD /~/x HTTP/1.1\r\n" + HOST + b"\r\n",), Must.PASS, "200, kept, 1", answer=says(EVIL), methods=("HEAD",), lacks=(b"\r\n\r\nevil",)),
    Case("answer-head-chunked", "9112 6.3", "a coding and no body for a HEAD", (b"HEAD /~/x HTTP/1.1\r\n" + HOST + b"\r\n",), Must.PASS, "200, kept, 1", answer=says(HEAD + b"Transfer-Encoding: chunked\r\n\r\n"), methods=("HEAD",)),
    answered("answer-205-body", "9110 15.3.6", "205 with a body", says(b"HTTP/1.1 205 Reset Content\r\nContent-Length: 2\r\n\r\nok"), Must.FREE, "205, kept, 1"),
)  # fmt: skip

CASES: Final = STATUS_LINES + FIELDS + FRAMING + INTERIM + BODILESS
