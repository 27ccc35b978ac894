"""Inside a chunked body: sizes, extensions, line ends, trailers (RFC 9112, 7.1)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import Act, Case, Must, Wait
from tests.conformance.corpus.framing import SMUGGLED, coding


def chunks(body: bytes) -> tuple[bytes]:
    return coding(b" chunked", body)


CASES: Final = (
    Case("chunk-hex", "9112 7.1", "sizes in both cases", chunks(b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"), Must.PASS, "200, kept, 1"),
    Case("chunk-zeros", "9112 7.1", "a size with leading zeros", chunks(b"0005\r\nhello\r\n000\r\n\r\n"), Must.PASS, "200, closed, 1", sees=(b"hello",)),
    Case("chunk-size-missing", "9112 7.1", "no size", chunks(b"\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-size-word", "9112 7.1", "a size that is none", chunks(b"x\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-size-minus", "9112 7.1", "a negative size", chunks(b"-5\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-size-0x", "9112 7.1", "a size with 0x", chunks(b"0x5\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-size-plus", "9112 7.1", "a size with a plus", chunks(b"+5\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-size-huge", "9112 7.1", "a size that 64 bits cannot hold", chunks(b"10000000000000005\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-size-space-before", "9112 7.1", "a space before a size", chunks(b" 5\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-size-space-behind", "9112 7.1", "a space behind a size", chunks(b"5 \r\nhello\r\n0\r\n\r\n"), Must.FREE, "400, closed, 0"),
    Case("chunk-size-bare-lf", "9112 7.1", "a size that ends in LF alone", chunks(b"5\nhello\r\n0\r\n\r\n"), Must.FREE, "400, closed, 0"),
    Case("chunk-size-cr", "9112 7.1", "a size that ends in CR alone", chunks(b"5\rhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-data-bare-lf", "9112 7.1", "data that ends in LF alone", chunks(b"5\r\nhello\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-data-short", "9112 7.1", "data shorter than its size", chunks(b"6\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-data-long", "9112 7.1", "data longer than its size", chunks(b"4\r\nhello\r\n0\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-extension", "9112 7.1.1", "an extension, to be ignored", chunks(b"5;a=b\r\nhello\r\n0\r\n\r\n"), Must.PASS, "200, kept, 1", sees=(b"hello",)),
    Case("chunk-extension-quoted", "9112 7.1.1", "an extension in quotes", chunks(b'5;a="b;c"\r\nhello\r\n0\r\n\r\n'), Must.PASS, "200, kept, 1", sees=(b"hello",)),
    Case("chunk-extension-bare-lf", "9112 7.1.1", "an LF alone inside an extension", chunks(b"5;a\nb\r\nhello\r\n0\r\n\r\n"), Must.FREE, "400, closed, 0"),
    Case("chunk-extension-nul", "9112 7.1.1", "a NUL inside an extension", chunks(b"5;a\x00\r\nhello\r\n0\r\n\r\n"), Must.FREE, "400, closed, 0"),
    Case("chunk-extension-long", "9112 7.1.1", "an extension of 48 kB", chunks(b"5;" + b"a" * 48_000 + b"\r\nhello\r\n0\r\n\r\n"), Must.FREE, "200, kept, 1"),
    Case("chunk-trailer", "9112 7.1.2", "a trailer", chunks(b"5\r\nhello\r\n0\r\nX-Trailer: a\r\n\r\n"), Must.PASS, "200, closed, 1", sees=(b"hello",)),
    Case("chunk-trailer-framing", "9110 6.5.1", "a length among the trailers", chunks(b"5\r\nhello\r\n0\r\nContent-Length: 9\r\n\r\n"), Must.FREE, "400, closed, 0", hides=(b"Content-Length: 9",)),
    Case("chunk-trailer-host", "9110 6.5.1", "a Host among the trailers", chunks(b"5\r\nhello\r\n0\r\nHost: other.example\r\n\r\n"), Must.FREE, "200, closed, 1", hides=(b"other.example",)),
    Case("chunk-trailer-malformed", "9112 7.1.2", "a trailer without a colon", chunks(b"5\r\nhello\r\n0\r\nX-Trailer\r\n\r\n"), Must.REFUSE, "400, closed, 0"),
    Case("chunk-trailer-long", "9112 7.1.2", "trailers of 48 kB", chunks(b"5\r\nhello\r\n0\r\n" + b"X-A: a\r\n" * 6_000 + b"\r\n"), Must.FREE, "400, closed, 0"),
    Case("chunk-last-bare-lf", "9112 7.1", "a last chunk that ends in LF alone", chunks(b"5\r\nhello\r\n0\n\n"), Must.FREE, "400, closed, 0"),
    Case("chunk-then-request", "9112 7.1", "a request behind the last chunk", chunks(b"5\r\nhello\r\n0\r\n\r\n" + SMUGGLED), Must.PASS, "200, closed, 1", answers=2),
    Case("chunk-in-pieces", "9112 7.1", "chunks that arrive byte by byte", (*(bytes((byte,)) for byte in chunks(b"5\r\nhello\r\n0\r\n\r\n")[0][:30]), chunks(b"5\r\nhello\r\n0\r\n\r\n")[0][30:]), Must.PASS, "200, kept, 1", sees=(b"hello",)),
    Case("chunk-none-then-end", "9112 8", "a client that ends inside a chunk", (*chunks(b"9\r\nhello"), Wait(0.2), Act.HALF), Must.REFUSE, "nothing, closed, 0 and a part"),
    Case("length-then-end", "9112 8", "a client that ends inside a body", (chunks(b"")[0].replace(b"Transfer-Encoding: chunked", b"Content-Length: 9") + b"hello", Wait(0.2), Act.HALF), Must.REFUSE, "nothing, closed, 0 and a part"),
)  # fmt: skip
