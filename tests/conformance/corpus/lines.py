"""Request lines and targets: what is not quite one, and which forms of a target there are (RFC 9112, 2 and 3)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import HOST, Case, Must


def line(start: bytes, rest: bytes = b"") -> tuple[bytes]:
    return (start + b"\r\n" + HOST + rest + b"\r\n",)


LINES: Final = (
    Case("plain", "9112 3", "a plain GET", line(b"GET /~/x HTTP/1.1"), Must.PASS, "200, kept, 1"),
    Case("empty-line-before", "9112 2.2", "one empty line before the request", (b"\r\n" + line(b"GET /~/x HTTP/1.1")[0],), Must.PASS, "200, kept, 1"),
    Case("two-empty-lines-before", "9112 2.2", "two empty lines before the request", (b"\r\n\r\n" + line(b"GET /~/x HTTP/1.1")[0],), Must.FREE, "200, kept, 1"),
    Case("space-before-line", "9112 3", "a space before the method", line(b" GET /~/x HTTP/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("two-spaces-before-target", "9112 3", "two spaces before the target", line(b"GET  /~/x HTTP/1.1"), Must.FREE, "200, kept, 1", hides=(b"GET  ",)),
    Case("two-spaces-before-version", "9112 3", "two spaces before the version", line(b"GET /~/x  HTTP/1.1"), Must.FREE, "200, kept, 1", hides=(b"  HTTP",)),
    Case("tab-between", "9112 3", "tabs in the place of spaces", line(b"GET\t/~/x\tHTTP/1.1"), Must.FREE, "400, closed, 0"),
    Case("space-in-target", "9112 3.2", "a space inside the target", line(b"GET /~/a b HTTP/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("space-after-version", "9112 3", "a space behind the version", line(b"GET /~/x HTTP/1.1 "), Must.FREE, "400, closed, 0"),
    Case("line-bare-lf", "9112 2.2", "a request line that ends in LF alone", (b"GET /~/x HTTP/1.1\n" + HOST + b"\r\n",), Must.FREE, "400, closed, 0"),
    Case("line-bare-cr", "9112 2.2", "a CR inside the request line", line(b"GET /~/x\r HTTP/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("line-nul", "9112 3", "a NUL inside the target", line(b"GET /~/a\x00b HTTP/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("version-09", "9112 2.3", "HTTP/0.9: no version", (b"GET /~/x\r\n\r\n",), Must.FREE, "400, closed, 0"),
    Case("version-10", "9112 2.3", "HTTP/1.0: the connection ends with the answer", line(b"GET /~/x HTTP/1.0"), Must.PASS, "200, closed, 1"),
    Case("version-12", "9110 2.5", "HTTP/1.2, which does not exist", line(b"GET /~/x HTTP/1.2"), Must.FREE, "400, closed, 0"),
    Case("version-2", "9112 2.3", "HTTP/2.0 in a request line", line(b"GET /~/x HTTP/2.0"), Must.REFUSE, "400, closed, 0"),
    Case("version-11-long", "9112 2.3", "HTTP/1.10", line(b"GET /~/x HTTP/1.10"), Must.REFUSE, "400, closed, 0"),
    Case("version-lower-case", "9112 2.3", "http/1.1 in lower case", line(b"GET /~/x http/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("version-of-others", "9112 2.3", "another protocol's name", line(b"GET /~/x HTPP/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("preface-http2", "9113 3.4", "the preface of HTTP/2", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",), Must.REFUSE, "400, closed, 0"),
    Case("tls-hello", "9112 2.2", "TLS spoken to a plain port", (b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03\r\n\r\n",), Must.REFUSE, "400, closed, 0"),
    Case("line-too-long", "9112 3", "a target of 40 kB", line(b"GET /~/" + b"a" * 40_000 + b" HTTP/1.1"), Must.REFUSE, "431, closed, 0"),
    Case("method-unknown", "9110 9.1", "a method that nobody has heard of", line(b"FROB /~/x HTTP/1.1"), Must.FREE, "400, closed, 0"),
    Case("method-lower-case", "9110 9.1", "methods are case-sensitive: get is none", line(b"get /~/x HTTP/1.1"), Must.FREE, "400, closed, 0"),
    Case("method-no-token", "9110 9.1", "a method with a byte that no token has", line(b"GE(T /~/x HTTP/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("method-webdav", "9110 9.1", "a registered method of WebDAV", line(b"PROPFIND /~/x HTTP/1.1"), Must.PASS, "200, kept, 1"),
    Case("method-trace", "9110 9.3.8", "TRACE", line(b"TRACE /~/x HTTP/1.1"), Must.FREE, "501, kept, 0"),
    Case("method-patch", "5789 2", "PATCH with a body", (b"PATCH /~/x HTTP/1.1\r\n" + HOST + b"Content-Length: 2\r\n\r\nhi",), Must.PASS, "200, kept, 1", sees=(b"\r\n\r\nhi",)),
)  # fmt: skip

TARGETS: Final = (
    Case("target-query", "9112 3.2.1", "a query with odd, legal bytes", line(b"GET /~/x?a=b;c&d=%20+%zz HTTP/1.1"), Must.PASS, "200, kept, 1", sees=(b"/x?a=b;c&d=%20+%zz HTTP/1.1",)),
    Case("target-bare-question-mark", "9112 3.2.1", "an empty query is not no query", line(b"GET /~/x? HTTP/1.1"), Must.PASS, "200, kept, 1", sees=(b"/x? HTTP/1.1",)),
    Case("target-encoded", "9110 4.2.3", "percent-encoded letters stay so", line(b"GET /~/%78%79 HTTP/1.1"), Must.PASS, "200, kept, 1", sees=(b"/%78%79 HTTP/1.1",)),
    Case("target-dots", "9112 3.2.1", "dot segments", line(b"GET /~/a/../b HTTP/1.1"), Must.FREE, "200, kept, 1"),
    Case("target-double-slash", "9112 3.2.1", "a doubled slash", line(b"GET /~/a//b HTTP/1.1"), Must.PASS, "200, kept, 1", sees=(b"/a//b HTTP/1.1",)),
    Case("target-fragment", "9112 3.2", "a fragment, which no request may carry", line(b"GET /~/x#top HTTP/1.1"), Must.FREE, "400, kept, 0", hides=(b"#top",)),
    Case("target-raw-bytes", "9112 3.2", "bytes above 127 in the target", line(b"GET /~/\xb0\xa1 HTTP/1.1"), Must.FREE, "400, closed, 0"),
    Case("target-control", "9112 3.2", "a control byte in the target", line(b"GET /~/\x01 HTTP/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("target-quote", "9112 3.2", "a quote and braces, which URIs do not have", line(b'GET /~/"{}" HTTP/1.1'), Must.FREE, "200, kept, 1"),
    Case("target-backslash", "9112 3.2", "a backslash", line(b"GET /~/a\\b HTTP/1.1"), Must.FREE, "200, kept, 1"),
    Case("target-percent-00", "9112 3.2.1", "an encoded NUL", line(b"GET /~/%00 HTTP/1.1"), Must.FREE, "400, kept, 0"),
    Case("target-missing", "9112 3.2", "no target at all", (b"GET HTTP/1.1\r\n" + HOST + b"\r\n",), Must.REFUSE, "400, closed, 0"),
    Case("target-relative", "9112 3.2", "a target without its slash", (b"GET open/x HTTP/1.1\r\n" + HOST + b"\r\n",), Must.REFUSE, "400, closed, 0"),
    Case("target-absolute", "9112 3.2.2", "absolute form, which every server must accept", line(b"GET http://bank.example/~/x HTTP/1.1"), Must.PASS, "200, kept, 1"),
    Case("target-absolute-other-host", "9112 3.2.2", "absolute form: Host is to be ignored", (b"GET http://bank.example/~/x HTTP/1.1\r\nHost: other.example\r\nX-Case: ~\r\n\r\n",), Must.FREE, "400, kept, 0", hides=(b"other.example",)),
    Case("target-absolute-foreign", "9112 3.2.2", "absolute form for a host that is not ours", (b"GET http://other.example/~/x HTTP/1.1\r\nHost: other.example\r\nX-Case: ~\r\n\r\n",), Must.FREE, "421, kept, 0"),
    Case("target-absolute-no-path", "9112 3.2.1", "absolute form without a path", (b"GET http://bank.example HTTP/1.1\r\n" + HOST + b"\r\n",), Must.PASS, "200, kept, 1", sees=(b"GET / HTTP/1.1",)),
    Case("target-absolute-userinfo", "9110 4.2.4", "absolute form with a user in it", line(b"GET http://u:p@bank.example/~/x HTTP/1.1"), Must.FREE, "400, kept, 0", hides=(b"u:p@",)),
    Case("target-absolute-ftp", "9112 3.2.2", "absolute form of another scheme", line(b"GET ftp://bank.example/~/x HTTP/1.1"), Must.FREE, "400, kept, 0"),
    Case("target-absolute-bad-port", "9112 3.2.2", "absolute form with a port that is none", line(b"GET http://bank.example:99999/~/x HTTP/1.1"), Must.REFUSE, "400, closed, 0"),
    Case("target-asterisk", "9112 3.2.4", "OPTIONS *", (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n",), Must.FREE, "400, kept, 0", sees=(b"OPTIONS * HTTP/1.1",)),
    Case("target-asterisk-get", "9112 3.2.4", "GET *", (b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",), Must.REFUSE, "400, closed, 0"),
    Case("target-authority-get", "9112 3.2.3", "authority form with GET", (b"GET bank.example:80 HTTP/1.1\r\n" + HOST + b"\r\n",), Must.REFUSE, "400, closed, 0"),
    Case("connect", "9110 9.3.6", "CONNECT to somewhere else", (b"CONNECT other.example:443 HTTP/1.1\r\n" + HOST + b"\r\n",), Must.REFUSE, "400, closed, 0", methods=("CONNECT",)),
    Case("connect-path", "9112 3.2.3", "CONNECT with a path", line(b"CONNECT /~/x HTTP/1.1"), Must.REFUSE, "400, closed, 0", methods=("CONNECT",)),
)  # fmt: skip

CASES: Final = LINES + TARGETS
