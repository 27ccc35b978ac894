"""Where a request ends, as Content-Length and Transfer-Encoding say it, or seem to (RFC 9112, 6)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import HOST, Case, Must

# What a reader who framed the body otherwise would take for a request.
SMUGGLED: Final = b"GET /~/smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
CHUNKS: Final = b"5\r\nhello\r\n0\r\n\r\n"


def post(fields: bytes, body: bytes, version: bytes = b"1.1") -> tuple[bytes]:
    return (b"POST /~/x HTTP/" + version + b"\r\n" + HOST + fields + b"\r\n" + body,)


def length(value: bytes) -> tuple[bytes]:
    return post(b"Content-Length:" + value + b"\r\n", b"hello")


def coding(value: bytes, body: bytes = CHUNKS + SMUGGLED) -> tuple[bytes]:
    return post(b"Transfer-Encoding:" + value + b"\r\n", body)


LENGTHS: Final = (
    Case("length", "9112 6.2", "a body by its length", length(b" 5"), Must.PASS, "200, kept, 1", sees=(b"\r\n\r\nhello",)),
    Case("length-zero", "9112 6.2", "a length of 0", post(b"Content-Length: 0\r\n", b""), Must.PASS, "200, kept, 1"),
    Case("length-none", "9112 6.3", "neither length nor coding: no body", post(b"", b""), Must.PASS, "200, kept, 1"),
    Case("length-none-body", "9112 6.3", "neither, and another request behind it", post(b"", SMUGGLED), Must.PASS, "200 200, kept, 2", answers=2),
    Case("length-crlf-behind", "9112 2.2", "an empty line behind a body, as old clients send it", post(b"Content-Length: 5\r\n", b"hello\r\n"), Must.FREE, "200, kept, 1", sees=(b"\r\n\r\nhello",)),
    Case("length-crlf-behind-close", "9112 2.2", "the same, asking to close", post(b"Content-Length: 5\r\nConnection: close\r\n", b"hello\r\n"), Must.FREE, "200, closed, 1", sees=(b"\r\n\r\nhello",)),
    Case("length-zeros", "9110 8.6", "leading zeros", length(b" 0005"), Must.FREE, "200, kept, 1"),
    Case("length-spaces", "9110 5.5", "white space around a length", length(b" \t5 \t"), Must.PASS, "200, kept, 1"),
    Case("length-plus", "9110 8.6", "a length with a plus", length(b" +5"), Must.REFUSE, "400, closed, 0"),
    Case("length-minus", "9110 8.6", "a negative length", length(b" -5"), Must.REFUSE, "400, closed, 0"),
    Case("length-hex", "9110 8.6", "a length in hexadecimal", length(b" 0x5"), Must.REFUSE, "400, closed, 0"),
    Case("length-fraction", "9110 8.6", "a length with a point", length(b" 5.0"), Must.REFUSE, "400, closed, 0"),
    Case("length-exponent", "9110 8.6", "a length with an exponent", length(b" 5e0"), Must.REFUSE, "400, closed, 0"),
    Case("length-empty", "9110 8.6", "an empty length", length(b""), Must.REFUSE, "400, closed, 0"),
    Case("length-word", "9110 8.6", "a length that is a word", length(b" five"), Must.REFUSE, "400, closed, 0"),
    Case("length-inner-space", "9110 8.6", "a space inside a length", length(b" 5 0"), Must.REFUSE, "400, closed, 0"),
    Case("length-digits-of-others", "9110 8.6", "a digit that is not ASCII", length(b" \xd9\xa5"), Must.REFUSE, "400, closed, 0"),
    Case("length-64-bits", "9112 6.3", "a length that 64 bits cannot hold", length(b" 18446744073709551621"), Must.REFUSE, "400, closed, 0"),
    Case("length-huge", "9112 6.3", "a length of 40 digits", length(b" " + b"9" * 40), Must.REFUSE, "400, closed, 0"),
    Case("length-list-same", "9112 6.3", "the same length twice in a list", length(b" 5, 5"), Must.FREE, "400, closed, 0"),
    Case("length-list-other", "9112 6.3", "two lengths in a list", length(b" 5, 6"), Must.REFUSE, "400, closed, 0"),
    Case("length-twice-same", "9112 6.3", "the same length in two fields", length(b" 5\r\nContent-Length: 5"), Must.FREE, "400, closed, 0"),
    Case("length-twice-other", "9112 6.3", "two lengths", length(b" 5\r\nContent-Length: 6"), Must.REFUSE, "400, closed, 0"),
    Case("length-zero-and-other", "9112 6.3", "a length of 0 and another", length(b" 0\r\nContent-Length: 5"), Must.REFUSE, "400, closed, 0"),
    Case("length-underscore", "9110 5.1", "Content_Length is another field: what follows is a request", post(b"Content_Length: 5\r\n", SMUGGLED), Must.FREE, "200 200, kept, 2", answers=2),
    Case("length-name-nul", "9112 5.1", "a NUL behind the name", post(b"Content-Length\x00: 5\r\n", b"hello"), Must.REFUSE, "400, closed, 0"),
    Case("length-on-get", "9110 9.3.1", "a GET with a body", (b"GET /~/x HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",), Must.PASS, "200, kept, 1", sees=(b"\r\n\r\nhello",)),
    Case("length-on-head", "9110 9.3.2", "a HEAD with a body", (b"HEAD /~/x HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello",), Must.FREE, "200, kept, 1", methods=("HEAD",), answer=(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",)),
    Case("length-body-is-request", "9112 6.2", "a body that looks like a request is a body", post(b"Content-Length: %d\r\n" % 500, b"GET /open/smuggled HTTP/1.1\r\nHost: bank.example\r\n\r\n".ljust(500)), Must.PASS, "200, kept, 1"),
)  # fmt: skip

CODINGS: Final = (
    Case("chunked", "9112 7.1", "a chunked body", coding(b" chunked", CHUNKS), Must.PASS, "200, kept, 1", sees=(b"hello",)),
    Case("chunked-upper-case", "9112 7", "codings have no case", coding(b" CHUNKED", CHUNKS), Must.PASS, "200, kept, 1", sees=(b"hello",)),
    Case("chunked-and-length", "9112 6.3", "a coding and a length: attack or mistake", post(b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", CHUNKS + SMUGGLED), Must.FREE, "400, closed, 0"),
    Case("length-and-chunked", "9112 6.3", "the same, the length first", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", CHUNKS + SMUGGLED), Must.FREE, "400, closed, 0"),
    Case("length-and-chunked-10", "9112 6.1", "the same in HTTP/1.0", post(b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", CHUNKS, b"1.0"), Must.FREE, "400, closed, 0"),
    Case("chunked-10", "9112 6.1", "chunked in HTTP/1.0, which has no codings", post(b"Transfer-Encoding: chunked\r\n", CHUNKS, b"1.0"), Must.FREE, "400, closed, 0"),
    Case("chunked-twice", "9112 6.1", "chunked applied twice", coding(b" chunked, chunked"), Must.REFUSE, "400, closed, 0"),
    Case("chunked-two-fields", "9112 6.1", "chunked in two fields", coding(b" chunked\r\nTransfer-Encoding: chunked"), Must.REFUSE, "400, closed, 0"),
    Case("chunked-not-last", "9112 6.3", "chunked, but not last", coding(b" chunked, gzip"), Must.REFUSE, "400, closed, 0"),
    Case("chunked-two-fields-not-last", "9112 6.3", "chunked, then identity in a field of its own", coding(b" chunked\r\nTransfer-Encoding: identity"), Must.REFUSE, "400, closed, 0"),
    Case("coding-gzip-chunked", "9112 6.1", "another coding before chunked", coding(b" gzip, chunked"), Must.FREE, "400, closed, 0"),
    Case("coding-identity-chunked", "9112 7", "identity, which is gone, before chunked", coding(b" identity, chunked"), Must.FREE, "400, closed, 0"),
    Case("coding-identity", "9112 6.3", "identity alone", coding(b" identity"), Must.REFUSE, "400, closed, 0"),
    Case("coding-gzip", "9112 6.3", "gzip alone: no end", coding(b" gzip"), Must.REFUSE, "400, closed, 0"),
    Case("coding-unknown", "9112 6.1", "a coding that nobody knows", coding(b" xchunked"), Must.REFUSE, "400, closed, 0"),
    Case("coding-empty", "9112 6.1", "an empty coding", coding(b""), Must.REFUSE, "400, closed, 0"),
    Case("coding-comma", "9110 5.6.1", "an empty element before chunked", coding(b" , chunked", CHUNKS), Must.FREE, "400, closed, 0"),
    Case("coding-quoted", "9112 7", "chunked in quotes", coding(b' "chunked"'), Must.REFUSE, "400, closed, 0"),
    Case("coding-parameter", "9112 7", "chunked with a parameter", coding(b" chunked;a=b"), Must.REFUSE, "400, closed, 0"),
    Case("coding-vertical-tab", "9112 6.1", "a vertical tab before chunked", coding(b"\x0bchunked"), Must.REFUSE, "400, closed, 0"),
    Case("coding-tab", "9110 5.5", "a tab before chunked", coding(b"\tchunked", CHUNKS), Must.PASS, "200, kept, 1"),
    Case("coding-space-before-colon", "9112 5.1", "a space before the colon of Transfer-Encoding", post(b"Transfer-Encoding : chunked\r\n", CHUNKS + SMUGGLED), Must.REFUSE, "400, closed, 0"),
    Case("coding-underscore", "9110 5.1", "Transfer_Encoding is another field", post(b"Transfer_Encoding: chunked\r\nContent-Length: 5\r\n", b"hello"), Must.FREE, "200, kept, 1"),
    Case("coding-named-by-connection", "9110 7.6.1", "Connection names Transfer-Encoding", post(b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n", CHUNKS), Must.PASS, "200, kept, 1", sees=(b"hello",)),
    Case("length-named-by-connection", "9110 7.6.1", "Connection names Content-Length", post(b"Connection: Content-Length\r\nContent-Length: 5\r\n", b"hello"), Must.PASS, "200, kept, 1", sees=(b"hello",)),
    Case("chunked-on-get", "9110 9.3.1", "a GET with a chunked body", (b"GET /~/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + CHUNKS,), Must.PASS, "200, kept, 1", sees=(b"hello",)),
)  # fmt: skip

CASES: Final = LENGTHS + CODINGS
