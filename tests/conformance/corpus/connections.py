"""Connections: pipelining, slow and stalled sides, early answers, ends and resets at every moment (RFC 9112, 9)."""

from __future__ import annotations

from typing import Final

from tests.conformance.case import HOST, OK, Act, Case, Must, Stall, Trickle, Until, Wait
from tests.conformance.corpus.fields import START

GET: Final = START + HOST + b"\r\n"
POST: Final = b"POST /~/x HTTP/1.1\r\n" + HOST + b"Content-Length: 9\r\n\r\n"
CHUNKED: Final = b"POST /~/x HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY: Final = b"HTTP/1.1 413 Too Much\r\nContent-Length: 4\r\n\r\nstop"
LONG: Final = 30_000_000

PIPELINING: Final = (
    Case("pipelined", "9112 9.3.2", "two requests at once", (GET + GET,), Must.PASS, "200 200, kept, 2", answers=2),
    Case("pipelined-ten", "9112 9.3.2", "ten requests at once", (GET * 10,), Must.PASS, "200 x10, kept, 10", answers=10),
    Case("pipelined-hundred", "9112 9.3.2", "a hundred requests at once", (GET * 100,), Must.PASS, "200 x100, kept, 100", answers=100),
    Case("pipelined-bodies", "9112 9.3.2", "requests with bodies of both kinds between others", (GET + POST + b"123456789" + CHUNKED + b"3\r\nabc\r\n0\r\n\r\n" + GET,), Must.PASS, "200 x3, closed, 3", answers=4),
    Case("pipelined-cut", "9112 9.3.2", "two requests, cut in the middle of the second", (GET + GET[:20], Wait(0.05), GET[20:]), Must.PASS, "200 200, kept, 2", answers=2),
    Case("pipelined-head-get", "9112 9.3.2", "HEAD, then GET: an answer without a body, then one with", (b"HEAD" + GET[3:] + GET,), Must.PASS, "200 200, kept, 2", answers=2, methods=("HEAD",), answer=(Act.BODY, b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")),
    Case("pipelined-then-bad", "9112 9.3.2", "a good request, then nonsense", (GET + b"\x00nonsense\r\n\r\n",), Must.FREE, "400, closed, 0", answers=2),
    Case("pipelined-slow-first", "9112 9.3.2", "the first answer takes longer: order is kept", (GET + GET,), Must.PASS, "200 200, kept, 2", answers=2, answer=(Act.BODY, Wait(0.2), OK.replace(b"ok", b"no"))),
    Case("pipelined-first-fails", "9112 9.3.2", "the first is never answered, the second is", (GET + GET,), Must.FREE, "502 200, kept, 2", answers=2, answer=(Act.BODY, Act.HALF)),
    Case("pipelined-first-cut", "9112 9.3.2", "the first answer is cut: the second must not follow it", (GET + GET,), Must.CUT, "200 cut, closed, 1", answers=2, answer=(Act.BODY, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Act.HALF)),
    Case("half-closed", "9112 9.6", "a client that ends its direction behind a request", (GET, Wait(0.2), Act.HALF), Must.FREE, "nothing, closed, 1", answer=(Act.BODY, Wait(0.6), OK)),
)  # fmt: skip

SLOW: Final = (
    Case("slow-nothing", "9112 9.5", "a connection on which nothing comes", (Wait(0.1),), Must.FREE, "nothing, closed, 0", is_slow=True),
    Case("slow-half-line", "9112 9.5", "half a request line, then nothing", (b"GET /~/x",), Must.FREE, "nothing, closed, 0", is_slow=True),
    Case("slow-half-head", "9112 9.5", "half a head, then nothing", (START + HOST,), Must.FREE, "nothing, closed, 0", is_slow=True),
    Case("slow-head-trickles", "9112 9.5", "a head of one byte every 0.1 s", (Trickle(START + HOST + b"X: " + b"a" * 200),), Must.FREE, "nothing, closed, 0", is_slow=True),
    Case("slow-empty-lines", "9112 9.5", "empty lines for ever", (Trickle(b"\r\n" * 40),), Must.FREE, "nothing, closed, 0", is_slow=True),
    Case("slow-second-head", "9112 9.5", "a second head that trickles in", (GET, Until(b"ok"), Trickle(START + HOST + b"X: " + b"a" * 200)), Must.FREE, "200, closed, 1", is_slow=True, answers=2),
    Case("slow-body", "9112 9.5", "half a body, then nothing", (POST + b"abc",), Must.FREE, "408, closed, 0 and a part", is_slow=True),
    Case("slow-chunk", "9112 9.5", "half a chunk, then nothing", (CHUNKED + b"9\r\nabc",), Must.FREE, "408, closed, 0 and a part", is_slow=True),
    Case("slow-last-chunk", "9112 9.5", "chunks, and never the last one", (CHUNKED + b"3\r\nabc\r\n",), Must.FREE, "408, closed, 0 and a part", is_slow=True),
    Case("slow-body-trickles", "9112 9.5", "a body of one byte every 0.2 s, slower than any time-out but never silent", (POST, Trickle(b"abcdefghi", 0.2)), Must.PASS, "200, kept, 1", is_slow=True),
    Case("slow-reader", "9112 9.5", "a client that does not take its answer", (GET, Stall(2.5)), Must.CUT, "200 cut, closed, 1", is_slow=True, answer=(Act.BODY, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % LONG, b"x" * LONG)),
    Case("slow-upstream-head", "9110 15.6.5", "an upstream that says nothing", (GET,), Must.REFUSE, "504, kept, 1", is_slow=True, answer=(Act.BODY, Wait(2.5), OK)),
    Case("slow-upstream-half-head", "9110 15.6.5", "an upstream that says half a head", (GET,), Must.REFUSE, "504, kept, 1", is_slow=True, answer=(Act.BODY, b"HTTP/1.1 200 OK\r\nContent-", Wait(2.5), OK)),
    Case("slow-upstream-body", "9112 8", "an upstream that stops inside its answer", (GET,), Must.CUT, "200 cut, closed, 1", is_slow=True, answer=(Act.BODY, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", Wait(2.5))),
    Case("slow-upstream-chunk", "9112 8", "the same inside a chunk", (GET,), Must.CUT, "200 cut, closed, 1", is_slow=True, answer=(Act.BODY, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc", Wait(2.5))),
    Case("slow-upstream-trickles", "9112 9.5", "an upstream whose answer trickles, never silent", (GET,), Must.PASS, "200, kept, 1", is_slow=True, answer=(Act.BODY, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", Trickle(b"abcdefghi", 0.2))),
)  # fmt: skip

EARLY_ANSWERS: Final = (
    Case("early-answer", "9112 9.5", "a 413 before the body has come", (POST + b"abc", Until(b"stop"), b"defghi"), Must.FREE, "413, closed, 0 and a part", answer=(EARLY,)),
    Case("early-answer-close", "9112 9.5", "a 413 that ends the upstream's connection", (POST + b"abc",), Must.FREE, "413, closed, 0 and a part", answer=(EARLY, Act.HALF)),
    Case("early-answer-reset", "9112 9.5", "a 413 and a reset right behind it", (POST + b"abc",), Must.FREE, "413, closed, 0 and a part", answer=(EARLY, Wait(0.1), Act.RESET)),
    Case("early-answer-chunked", "9112 9.5", "a 413 inside a chunked body", (CHUNKED + b"3\r\nabc\r\n", Until(b"stop"), b"0\r\n\r\n"), Must.FREE, "413, closed, 0 and a part", answer=(EARLY,)),
    Case("early-answer-large", "9112 9.5", "a 413 to a client that has sent 3 MB without reading", (POST.replace(b"9\r\n", b"5000000\r\n", 1) + b"x" * 3_000_000,), Must.FREE, "413, closed, 0 and a part or nothing, closed, 0 and a part", answer=(Wait(0.1), EARLY, Act.HALF), is_slow=True),
    Case("answer-as-it-reads", "9110 9.3.3", "an upstream that answers while it reads", (CHUNKED, Until(b"\r\n\r\n"), b"3\r\nabc\r\n0\r\n\r\n"), Must.PASS, "200, closed, 1", answer=(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Act.BODY, b"2\r\nok\r\n0\r\n\r\n")),
)  # fmt: skip

ENDS: Final = (
    Case("abort-head", "9112 9.6", "a client that resets inside a head", (GET[:30], Wait(0.2), Act.RESET), Must.FREE, "nothing, closed, 0"),
    Case("abort-body", "9112 9.6", "a client that resets inside a body", (POST + b"abc", Wait(0.2), Act.RESET), Must.FREE, "nothing, closed, 0 and a part"),
    Case("abort-waiting", "9112 9.6", "a client that resets while it waits", (GET, Wait(0.2), Act.RESET), Must.FREE, "nothing, closed, 1", answer=(Act.BODY, Wait(0.6), OK)),
    Case("end-head", "9112 9.6", "a client that ends inside a head", (GET[:30], Act.HALF), Must.REFUSE, "nothing, closed, 0"),
    Case("end-nothing", "9112 9.6", "a client that says nothing and ends", (Act.HALF,), Must.FREE, "nothing, closed, 0"),
    Case("upstream-end", "9110 15.6.3", "an upstream that ends without an answer", (GET,), Must.REFUSE, "502, kept, 1", answer=(Act.BODY, Act.HALF)),
    Case("upstream-reset", "9110 15.6.3", "an upstream that resets without an answer", (GET,), Must.REFUSE, "502, kept, 1", answer=(Act.BODY, Act.RESET)),
    Case("upstream-end-post", "9110 9.2.2", "the same after a POST: it must not be sent twice", (POST + b"123456789",), Must.REFUSE, "502, kept, 1", answer=(Act.BODY, Act.HALF)),
    Case("upstream-reset-post", "9110 9.2.2", "a reset after a POST", (POST + b"123456789",), Must.REFUSE, "502, kept, 1", answer=(Act.BODY, Act.RESET)),
    Case("upstream-end-post-pooled", "9110 9.2.2", "a POST on a connection that was used before, and dies", (GET, Until(b"ok"), POST + b"123456789"), Must.FREE, "200 200, kept, 2", answers=2),
    Case("upstream-close-asked", "9112 9.6", "an upstream that closes after its answer", (GET,), Must.PASS, "200, kept, 1", answer=(Act.BODY, OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"), Act.HALF), lacks=(b"Connection: close\r\nContent",)),
    Case("upstream-close-unsaid", "9112 9.6", "an upstream that closes without saying so", (GET, Until(b"ok"), Wait(0.05), GET), Must.PASS, "200 200, kept, 2", answers=2, answer=(Act.BODY, OK, Act.HALF)),
)  # fmt: skip

CASES: Final = PIPELINING + SLOW + EARLY_ANSWERS + ENDS
