"""Field lines: how they may be written, Host above all, and how many there may be (RFC 9112, 3.2 and 5; RFC 9110, 5)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import HOST, PASS, Case, Must

START: Final = b"GET /~/x HTTP/1.1\r\n"


def get(fields: bytes = b"") -> tuple[bytes]:
    return (START + HOST + fields + b"\r\n",)


def host(line: bytes) -> tuple[bytes]:
    return (START + line + PASS + b"\r\n",)


HOSTS: Final = (
    Case("host-missing", "9112 3.2", "no Host", host(b""), Must.REFUSE, "400, closed, 0"),
    Case("host-missing-10", "9112 3.2", "no Host in HTTP/1.0, where none is asked for", (b"GET /~/x HTTP/1.0\r\n" + PASS + b"\r\n",), Must.FREE, "400, closed, 0"),
    Case("host-twice", "9112 3.2", "two Hosts", host(b"Host: bank.example\r\nHost: other.example\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-twice-same", "9112 3.2", "the same Host twice", host(b"Host: bank.example\r\nHost: bank.example\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-list", "9112 3.2", "two names in one Host", host(b"Host: bank.example, other.example\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-empty", "9112 3.2", "an empty Host, for URIs without an authority", host(b"Host:\r\n"), Must.FREE, "400, closed, 0"),
    Case("host-space", "9112 3.2", "a space inside Host", host(b"Host: bank example\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-path", "9112 3.2", "a path behind Host", host(b"Host: bank.example/x\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-userinfo", "9112 3.2", "a user before Host", host(b"Host: u@bank.example\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-port", "9112 3.2", "Host with a port", host(b"Host: bank.example:8080\r\n"), Must.PASS, "200, kept, 1", sees=(b"Host: bank.example:8080\r\n",)),
    Case("host-port-empty", "9112 3.2", "Host with a colon and no port, legal by RFC 3986", host(b"Host: bank.example:\r\n"), Must.FREE, "400, closed, 0"),
    Case("host-port-word", "9112 3.2", "a port that is no number", host(b"Host: bank.example:http\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-port-two", "9112 3.2", "two ports", host(b"Host: bank.example:80:80\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-upper-case", "9110 4.2.3", "hosts compare without case", host(b"Host: BANK.Example\r\n"), Must.PASS, "200, kept, 1"),
    Case("host-final-dot", "9110 4.2.3", "a final dot", host(b"Host: bank.example.\r\n"), Must.PASS, "200, kept, 1"),
    Case("host-foreign", "9110 7.4", "a host that is not ours", host(b"Host: other.example\r\n"), Must.FREE, "421, kept, 0"),
    Case("host-nul", "9112 3.2", "a NUL inside Host", host(b"Host: bank.exa\x00mple\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-non-ascii", "9112 3.2", "bytes above 127 in Host", host(b"Host: b\xc3\xa4nk.example\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-underscore", "9112 3.2", "an underscore, which registered names may have", host(b"Host: a_b.bank.example\r\n"), Must.FREE, "421, kept, 0"),
    Case("host-ipv6", "9112 3.2", "an address in brackets", host(b"Host: [::1]:80\r\n"), Must.FREE, "421, kept, 0"),
    Case("host-bracket-open", "9112 3.2", "a bracket that is never closed", host(b"Host: [::1\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("host-space-before-colon", "9112 5.1", "a space between Host and its colon", host(b"Host : bank.example\r\n"), Must.REFUSE, "400, closed, 0"),
)  # fmt: skip

SYNTAX: Final = (
    Case("field-space-before-colon", "9112 5.1", "a space before a colon", get(b"X-A : b\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("field-tab-before-colon", "9112 5.1", "a tab before a colon", get(b"X-A\t: b\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("field-no-space", "9112 5", "no space behind a colon", get(b"X-A:b\r\n"), Must.PASS, "200, kept, 1", sees=(b"b\r\n",)),
    Case("field-empty-value", "9110 5.5", "an empty value", get(b"X-A:\r\nX-B: b\r\n"), Must.PASS, "200, kept, 1", sees=(b"X-A:", b"X-B: b\r\n")),
    Case("field-no-colon", "9112 5", "a line without a colon", get(b"X-A\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("field-no-name", "9112 5", "a line that begins with a colon", get(b": b\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("field-space-in-name", "9112 5", "a space inside a name", get(b"X A: b\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("field-parenthesis-in-name", "9110 5.1", "a name that is no token", get(b"X(A): b\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("field-non-ascii-name", "9110 5.1", "a byte above 127 in a name", get(b"X-\xe4: b\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("field-underscore", "9110 5.1", "an underscore in a name, which is a token", get(b"X_A: b\r\n"), Must.FREE, "200, kept, 1"),
    Case("field-folded", "9112 5.2", "a folded line", get(b"X-A: a\r\n b\r\n"), Must.FREE, "400, closed, 0"),
    Case("field-folded-first", "9112 2.2", "white space before the first field", (START + b" X-A: b\r\n" + HOST + b"\r\n",), Must.FREE, "400, closed, 0"),
    Case("field-folded-coding", "9112 5.2", "Transfer-Encoding, folded", (b"POST /~/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",), Must.FREE, "400, closed, 0"),
    Case("field-bare-lf", "9112 2.2", "a line that ends in LF alone", get(b"X-A: a\nX-B: b\r\n"), Must.FREE, "400, closed, 0"),
    Case("field-bare-cr", "9112 2.2", "a CR inside a value", get(b"X-A: a\rX-B: b\r\n"), Must.FREE, "400, closed, 0", hides=(b"a\rX-B",)),
    Case("field-cr-at-end", "9112 2.2", "a line that ends in CR CR LF", get(b"X-A: a\r\r\n"), Must.FREE, "400, closed, 0"),
    Case("field-nul", "9110 5.5", "a NUL inside a value", get(b"X-A: a\x00b\r\n"), Must.FREE, "400, closed, 0", hides=(b"\x00",)),
    Case("field-control", "9110 5.5", "another control byte inside a value", get(b"X-A: a\x01b\r\n"), Must.FREE, "400, closed, 0"),
    Case("field-delete", "9110 5.5", "a DEL inside a value", get(b"X-A: a\x7fb\r\n"), Must.FREE, "400, closed, 0"),
    Case("field-tab", "9110 5.5", "a tab inside a value", get(b"X-A: a\tb\r\n"), Must.PASS, "200, kept, 1", sees=(b"a\tb",)),
    Case("field-non-ascii", "9110 5.5", "bytes that are not UTF-8 in a value", get(b"X-A: \xb0\xa1\xff\r\n"), Must.PASS, "200, kept, 1", sees=(b"\xb0\xa1\xff\r\n",)),
    Case("field-end-lf-lf", "9112 2.2", "a head that ends in LF LF", (b"GET /~/x HTTP/1.1\nHost: bank.example\nX-Case: ~\n\n",), Must.FREE, "400, closed, 0"),
    Case("field-end-crlf-lf", "9112 2.2", "a head that ends in CR LF LF", (START + HOST + b"\n",), Must.FREE, "400, closed, 0"),
    Case("field-twice", "9110 5.3", "a field twice keeps its order", get(b"X-A: 1\r\nX-A: 2\r\n"), Must.PASS, "200, kept, 1", sees=(b"X-A: 1\r\nX-A: 2\r\n",)),
    Case("field-long", "9110 5.4", "a field of 40 kB", get(b"X-A: " + b"a" * 40_000 + b"\r\n"), Must.REFUSE, "431, closed, 0"),
    Case("field-long-enough", "9110 5.4", "a cookie of 16 kB", get(b"Cookie: a=" + b"a" * 16_000 + b"\r\n"), Must.PASS, "200, kept, 1", sees=(b"a" * 16_000,)),
    Case("field-many", "9110 5.4", "two hundred fields", get(b"".join(b"X-%d: a\r\n" % n for n in range(200))), Must.FREE, "400, closed, 0"),
    Case("field-many-enough", "9110 5.4", "ninety fields", get(b"".join(b"X-%d: a\r\n" % n for n in range(90))), Must.PASS, "200, kept, 1", sees=(b"X-89: a\r\n",)),
)  # fmt: skip

CASES: Final = HOSTS + SYNTAX
