"""What an intermediary does to fields and meanings: hop-by-hop, Via, Expect, Upgrade, Max-Forwards, our own names (RFC 9110)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import HOST, OK, Act, Case, Must, Until
from tests.conformance.corpus.fields import START, get
from tests.conformance.corpus.framing import CHUNKS, SMUGGLED, post

ACCEPT: Final = b"Sec-WebSocket-Accept: ICX+Yqv66kxgM0FcWaLWlFLwTAI=\r\n\r\n"  # of the key below
SWITCH: Final = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + ACCEPT
WEBSOCKET: Final = b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
H2C: Final = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
EXPECTING: Final = b"POST /~/x HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
GO: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

HOP_BY_HOP: Final = (
    Case("hop-named", "9110 7.6.1", "a field that Connection names", get(b"Connection: X-Hop\r\nX-Hop: a\r\n"), Must.PASS, "200, kept, 1", hides=(b"X-Hop",)),
    Case("hop-named-later", "9110 7.6.1", "the same, Connection behind it and in a list", get(b"X-Hop: a\r\nX-Hip: b\r\nConnection: keep-alive, X-Hop,x-hip\r\n"), Must.PASS, "200, kept, 1", hides=(b"X-Hop", b"X-Hip")),
    Case("hop-keep-alive", "9110 7.6.1", "Keep-Alive", get(b"Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n"), Must.PASS, "200, kept, 1", hides=(b"timeout=5",)),
    Case("hop-proxy-connection", "9110 7.6.1", "Proxy-Connection", get(b"Proxy-Connection: keep-alive\r\n"), Must.PASS, "200, kept, 1", hides=(b"Proxy-Connection:",)),
    Case("hop-te", "9110 10.1.4", "TE, which Connection names", get(b"Connection: TE\r\nTE: trailers\r\n"), Must.PASS, "200, kept, 1", hides=(b"TE: trailers",)),
    Case("hop-te-unnamed", "9110 10.1.4", "TE, which must be named and is not", get(b"TE: trailers\r\n"), Must.PASS, "200, kept, 1", hides=(b"TE: trailers",)),
    Case("hop-proxy-authorization", "9110 11.7.2", "credentials for a proxy", get(b"Proxy-Authorization: Basic eA==\r\n"), Must.FREE, "200, kept, 1"),
    Case("hop-cookie", "9110 7.6.1", "Connection names Cookie, to hide it from the upstream", get(b"Connection: Cookie\r\nCookie: a=b\r\n"), Must.FREE, "200, kept, 1"),
    Case("hop-host", "9110 7.6.1", "Connection names Host", get(b"Connection: Host\r\n"), Must.FREE, "200, kept, 1", sees=(b"Host: ",)),
    Case("hop-authorization", "9110 7.6.1", "Connection names Authorization", get(b"Connection: Authorization\r\nAuthorization: Basic eA==\r\n"), Must.FREE, "200, kept, 1"),
    Case("hop-forwarded-for", "9110 7.6.1", "Connection names X-Forwarded-For", get(b"Connection: X-Forwarded-For\r\nX-Forwarded-For: 192.0.2.1\r\n"), Must.FREE, "200, kept, 1"),
    Case("hop-our-names", "9110 7.6.1", "Connection names what proves an admission", get(b"Connection: Waitroom-Subject, Waitroom-Signature\r\n"), Must.PASS, "200, kept, 1"),
    Case("our-names-forged", "design 8", "a client that calls itself admitted", get(b"Waitroom-Subject: forged\r\nwaitroom_subject: forged\r\n"), Must.FREE, "200, kept, 1", hides=(b": forged",)),
    Case("via-added", "9110 7.6.3", "Via, which a proxy must add to", get(b"Via: 1.0 before\r\n"), Must.FREE, "200, kept, 1", sees=(b"1.0 before", b"Via: 1.1 ")),
    Case("via-loop", "9110 7.6.3", "a request that has been here before", get(b"Via: 1.1 waitroom\r\n"), Must.FREE, "508, kept, 0"),
    Case("close-asked", "9112 9.6", "a client that asks to close", get(b"Connection: close\r\n"), Must.PASS, "200, closed, 1"),
    Case("close-asked-upper-case", "9112 9.6", "the same, in capitals and in a list", get(b"Connection: X-Hop, CLOSE\r\n"), Must.PASS, "200, closed, 1"),
    Case("close-and-keep-alive", "9112 9.3", "close and keep-alive: close has the last word", get(b"Connection: keep-alive, close\r\n"), Must.PASS, "200, closed, 1"),
    Case("close-then-request", "9112 9.6", "a request behind one that asks to close, which no client may send", (get(b"Connection: close\r\n")[0] + SMUGGLED,), Must.FREE, "400, closed, 0"),
    Case("connection-empty", "9110 7.6.1", "an empty Connection", get(b"Connection:\r\n"), Must.PASS, "200, kept, 1"),
    Case("keep-alive-10", "9112 9.3", "HTTP/1.0 with keep-alive", (b"GET /~/x HTTP/1.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n",), Must.FREE, "200, kept, 1"),
)  # fmt: skip

EXPECT: Final = (
    Case("expect-go", "9110 10.1.1", "100-continue: the upstream says go", (EXPECTING, Until(GO), b"hello"), Must.PASS, "100 200, kept, 1", answer=(GO, Act.BODY, OK), sees=(b"hello",), is_slow=True),
    Case("expect-refused", "9110 10.1.1", "100-continue: the upstream refuses at once", (EXPECTING,), Must.FREE, "401, closed, 0 and a part", answer=(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", Act.HALF)),
    Case("expect-ignored", "9110 10.1.1", "100-continue: the client sends at once all the same", (EXPECTING + b"hello",), Must.PASS, "200, kept, 1", sees=(b"hello",)),
    Case("expect-silent", "9110 10.1.1", "100-continue: the upstream says nothing", (EXPECTING, Until(GO), b"hello"), Must.PASS, "100 200, kept, 1", sees=(b"hello",), is_slow=True),
    Case("expect-10", "9110 10.1.1", "100-continue in HTTP/1.0 is to be ignored", (EXPECTING.replace(b"1.1", b"1.0", 1) + b"hello",), Must.PASS, "200, closed, 1", lacks=(GO,)),
    Case("expect-no-body", "9110 10.1.1", "100-continue without a body", get(b"Expect: 100-continue\r\n"), Must.FREE, "200, kept, 1"),
    Case("expect-other", "9110 10.1.1", "an expectation that nobody knows", get(b"Expect: tea\r\n"), Must.FREE, "200, kept, 1"),
)  # fmt: skip

UPGRADES: Final = (
    Case("upgrade-accepted", "9110 7.8", "a WebSocket: bytes flow both ways", (START + HOST + WEBSOCKET + b"\r\n", Until(b"\r\n\r\n"), b"ping", Until(b"pong")), Must.FREE, "101, tunnel, 1", answer=(Act.BODY, SWITCH, Until(b"ping"), b"pong"), gets=(b"pong",)),
    Case("upgrade-declined", "9110 7.8", "a WebSocket that the upstream declines", get(WEBSOCKET), Must.PASS, "200, kept, 1"),
    Case("upgrade-declined-pipelined", "9110 7.8", "the same, with a request behind it", (START + HOST + WEBSOCKET + b"\r\n" + SMUGGLED,), Must.PASS, "200 200, kept, 2", answers=2),
    Case("upgrade-early-bytes", "9110 7.8", "bytes of the new protocol before its 101", (START + HOST + WEBSOCKET + b"\r\nping", Until(b"pong")), Must.FREE, "101, tunnel, 1", answer=(Act.BODY, SWITCH, Until(b"ping"), b"pong")),
    Case("upgrade-unasked", "9110 7.8", "a 101 that nobody asked for", get(), Must.REFUSE, "502, kept, 1", answer=(Act.BODY, SWITCH, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")),
    Case("upgrade-without-connection", "9110 7.8", "Upgrade that Connection does not name", get(b"Upgrade: websocket\r\n"), Must.PASS, "200, kept, 1"),
    Case("upgrade-connection-only", "9110 7.8", "Connection names an Upgrade that is not there", get(b"Connection: upgrade\r\n"), Must.PASS, "200, kept, 1"),
    Case("upgrade-h2c", "9110 7.8", "Upgrade: h2c, which we do not speak", get(H2C), Must.PASS, "200, closed, 1", hides=(b": h2c", b"HTTP2-Settings")),
    Case("upgrade-h2c-pipelined", "9110 7.8", "the same, with a request behind it", (START + HOST + H2C + b"\r\n" + SMUGGLED,), Must.FREE, "200, closed, 1", hides=(b": h2c",)),
    Case("upgrade-h2c-half-pipelined", "9110 7.8", "the same, with half a request behind it and the rest later", (START + HOST + H2C + b"\r\n" + SMUGGLED[:20], Until(b"ok"), SMUGGLED[20:]), Must.FREE, "200, closed, 1", hides=(b": h2c",)),
    Case("upgrade-h2c-answered", "9110 7.8", "an upstream that would speak h2c: it is never asked to", get(H2C), Must.FREE, "502, closed, 1", answer=(Act.BODY, b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n"), hides=(b": h2c",)),
    Case("upgrade-h2c-body", "9110 7.8", "Upgrade: h2c with a body, as Java's client sends it", post(H2C + b"Content-Length: 5\r\n", b"hello"), Must.PASS, "200, closed, 1", sees=(b"hello",), hides=(b": h2c",)),
    Case("upgrade-h2c-chunked", "9110 7.8", "the same, chunked, with a request behind it", post(H2C + b"Transfer-Encoding: chunked\r\n", CHUNKS + SMUGGLED), Must.FREE, "200, closed, 1", hides=(b": h2c",)),
    Case("upgrade-unknown", "9110 7.8", "a protocol that nobody knows, with a request behind it", (START + HOST + b"Connection: Upgrade\r\nUpgrade: foo/1\r\n\r\n" + SMUGGLED,), Must.FREE, "200, closed, 1"),
    Case("upgrade-list", "9110 7.8", "a list of protocols", get(b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n"), Must.PASS, "200, closed, 1", hides=(b": h2c",)),
    Case("upgrade-10", "9110 7.8", "Upgrade in HTTP/1.0 is to be ignored", (b"GET /~/x HTTP/1.0\r\n" + HOST + WEBSOCKET + b"\r\n",), Must.PASS, "200, closed, 1", hides=(b"Upgrade: websocket",)),
    Case("upgrade-websocket-body", "9110 7.8", "a WebSocket with a body", post(WEBSOCKET + b"Content-Length: 5\r\n", b"hello"), Must.FREE, "400, closed, 0"),
)  # fmt: skip

OTHERS: Final = (
    Case("max-forwards-zero", "9110 7.6.2", "OPTIONS with Max-Forwards: 0", (b"OPTIONS /~/x HTTP/1.1\r\n" + HOST + b"Max-Forwards: 0\r\n\r\n",), Must.FREE, "204, kept, 0"),
    Case("max-forwards-one", "9110 7.6.2", "OPTIONS with Max-Forwards: 1", (b"OPTIONS /~/x HTTP/1.1\r\n" + HOST + b"Max-Forwards: 1\r\n\r\n",), Must.FREE, "200, kept, 1", sees=(b"Max-Forwards: 0\r\n",)),
    Case("max-forwards-get", "9110 7.6.2", "GET with Max-Forwards: 0, which is for OPTIONS and TRACE alone", get(b"Max-Forwards: 0\r\n"), Must.PASS, "200, kept, 1", sees=(b"Max-Forwards: 0\r\n",)),
    Case("range", "9110 14.2", "a range, answered in part", get(b"Range: bytes=0-1\r\n"), Must.PASS, "206, kept, 1", answer=(Act.BODY, b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok"), gets=(b"Content-Range: bytes 0-1/9\r\n",)),
    Case("head", "9110 9.3.2", "HEAD: a length and no body", (b"HEAD /~/x HTTP/1.1\r\n" + HOST + b"\r\n",), Must.PASS, "200, kept, 1", answer=(Act.BODY, b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n"), methods=("HEAD",), gets=(b"Content-Length: 999\r\n",)),
    Case("delete", "9110 9.3.5", "DELETE", (b"DELETE /~/x HTTP/1.1\r\n" + HOST + b"\r\n",), Must.PASS, "200, kept, 1"),
    Case("options-path", "9110 9.3.7", "OPTIONS of a path", (b"OPTIONS /~/x HTTP/1.1\r\n" + HOST + b"\r\n",), Must.PASS, "200, kept, 1"),
)  # fmt: skip

CASES: Final = HOP_BY_HOP + EXPECT + UPGRADES + OTHERS
