"""Why the gateway differs from a referee: every difference that was observed, by its reason."""

from __future__ import annotations

from typing import Final

# reason -> what it is, and the cases it explains
REASONS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "line-end": (
        ("The RFC lets a recipient take LF alone for a line end. Two readers in a row that do not agree on it see different messages, so the "
        "gateway never takes it. The referees do, in heads as in chunks."),
        (
            "line-bare-lf", "field-bare-lf", "field-end-lf-lf", "field-end-crlf-lf", "field-cr-at-end", "chunk-size-bare-lf",
            "chunk-data-bare-lf", "chunk-data-short", "chunk-last-bare-lf", "answer-bare-lf-head", "answer-bare-lf-field",
            "answer-chunk-bare-lf",
        ),
    ),
    "white-space": (
        "White space where the grammar has none, which a recipient may or may not forgive. The gateway forgives only what all three do.",
        ("tab-between", "space-after-version", "chunk-size-space-behind"),
    ),
    "version": (
        ("The gateway speaks HTTP/1.0 and 1.1 and takes nothing else for one of them. The referees read other minor versions as 1.1, HAProxy "
        "2.0 also, nginx HTTP/0.9; nginx has 505 for what it refuses. HAProxy answers the preface of HTTP/2 in HTTP/2."),
        ("version-09", "version-12", "version-2", "version-11-long", "preface-http2", "answer-version-2", "answer-version-12"),
    ),
    "status": (
        "Another status for the same refusal, which the RFC leaves open.",
        (
            "line-too-long", "field-long", "connect-path", "chunked-twice", "chunked-not-last", "coding-gzip-chunked",
            "coding-identity-chunked", "coding-identity", "coding-gzip", "coding-unknown", "coding-empty", "coding-comma", "coding-quoted",
            "coding-parameter", "coding-vertical-tab",
        ),
    ),
    "method": (
        ("aiohttp's parser knows the registered methods and refuses all others, where a proxy should pass them on: a limit of the gateway. The "
        "answer to a TRACE would show its sender what the gateway adds for the upstream alone, so neither the gateway nor nginx "
        "passes one on."),
        ("method-unknown", "method-lower-case", "method-trace"),
    ),
    "hops": (
        "An OPTIONS with no hop left must be answered, and one with some counted down (RFC 9110, 7.6.2). The referees pass both on as they came.",
        ("max-forwards-zero", "max-forwards-one"),
    ),
    "target": (
        ("Whether a request is protected depends on its target and its host, so a target of more than one reading is refused: a fragment, an "
        "encoded NUL, bytes that are no URI's, a port that is none, an authority that is not Host's, a user before it, a scheme that is "
        "not HTTP's, `*`. The referees route by less. HAProxy passes an absolute form on as it came."),
        (
            "target-fragment", "target-raw-bytes", "target-percent-00", "target-absolute-other-host", "target-absolute-userinfo",
            "target-absolute-ftp", "target-absolute-bad-port", "target-asterisk", "target-asterisk-get", "target-absolute-no-path",
        ),
    ),
    "not-ours": (
        "`hosts` lists what is ours; any other host gets 421. The referees were told of no hosts.",
        ("host-foreign", "host-underscore", "host-ipv6", "target-absolute-foreign"),
    ),
    "host": (
        ("Host must be there once, and be a name or an address with an optional port (RFC 9112, 3.2). HAProxy looks at none of this, nginx at some. "
        "An empty one, a colon without a port, and none in HTTP/1.0 are legal, but name no host of ours."),
        (
            "host-missing", "host-missing-10", "host-twice-same", "host-list", "host-empty", "host-space", "host-path", "host-userinfo",
            "host-port-empty", "host-port-word", "host-port-two", "host-nul", "host-non-ascii", "host-bracket-open",
        ),
    ),
    "field": (
        ("A line that is no field, or bytes that no field may have: the gateway refuses the whole message, as the RFC lets it. nginx drops such "
        "lines of requests and passes control bytes on; HAProxy joins folded lines, and passes NUL and control bytes on."),
        (
            "field-no-colon", "field-parenthesis-in-name", "field-non-ascii-name", "field-folded", "field-folded-coding", "field-nul",
            "field-control", "field-delete", "chunk-extension-nul", "chunk-trailer-malformed", "answer-folded", "answer-nul",
            "answer-no-colon", "answer-reason-nul",
        ),
    ),
    "status-line": (
        ("What is no status line is no answer: 502. nginx passes it on as an answer of HTTP/0.9 or cuts the number; HAProxy passes 099 on "
        "as an interim answer, cuts longer numbers, and skips empty lines."),
        (
            "answer-status-four-digits", "answer-status-word", "answer-status-099", "answer-09", "answer-other-protocol",
            "answer-empty-line-before",
        ),
    ),
    "limit": (
        ("Each has limits of its own, none of them the RFC's: the gateway 100 fields and 32 KiB a request's head, 64 KiB an answer's, and 15 "
        "interim answers. Extensions of chunks are read and dropped, however long, within the deadline of a body."),
        ("field-many", "chunk-extension-long", "chunk-trailer-long", "answer-too-many-fields", "answer-103-for-ever"),
    ),
    "length": (
        ("A length must be one decimal number, once, in requests; the RFC also lets a recipient take a repeated one. Of answers the gateway takes a "
        "repeated field (many old servers send it), not a list. nginx does not look at what it cannot read in an answer and takes "
        "it for a body that ends with the connection, and the last of two. It refuses a tab before a value, which is legal."),
        (
            "length-spaces", "coding-tab", "length-list-same", "length-twice-same", "answer-two-lengths", "answer-length-list",
            "answer-length-minus", "answer-length-plus", "answer-length-word", "answer-length-huge",
        ),
    ),
    "coding": (
        ("Length and coding together, any coding but chunked, and codings in HTTP/1.0 are refused, both ways, as the RFC allows: they are how requests "
        "are smuggled. HAProxy drops the length, goes by the chunks and closes; nginx does so in answers."),
        (
            "chunked-and-length", "length-and-chunked", "length-and-chunked-10", "chunked-10", "answer-length-and-chunked",
            "answer-chunked-10", "answer-gzip-chunked", "answer-identity", "answer-chunked-not-last",
        ),
    ),
    "trailer": (
        ("aiohttp's parser takes the last trailer of a chunked request for the first field of the next one on its connection. So the connection ends "
        "with the answer to a chunked request unless its body was seen to end in `0`, without trailers, and with nothing behind it: a "
        "client that pipelines behind one sends the rest again. Trailers are dropped, as the RFC allows; HAProxy passes them on."),
        (
            "chunk-zeros", "chunk-trailer", "chunk-trailer-framing", "chunk-trailer-host", "chunk-then-request", "pipelined-bodies",
        ),
    ),
    "hop-by-hop": (
        ("Fields for one hop end at the gateway, those that Connection names among them, both ways (RFC 9110, 7.6.1, a MUST that neither referee "
        "keeps); Via is added and read, as 7.6.3 asks; `Waitroom-*` is ours alone."),
        (
            "hop-named", "hop-named-later", "hop-keep-alive", "hop-proxy-connection", "hop-te", "hop-te-unnamed", "our-names-forged",
            "via-added", "via-loop", "answer-hop-by-hop", "answer-our-names",
        ),
    ),
    "expect": (
        ("The gateway passes the expectation on and the upstream's 100 back, and says it itself after a second of silence; a refusal before the body "
        "ends the connection. nginx always says it at once, HAProxy never by itself."),
        ("expect-go", "expect-refused", "expect-ignored", "expect-silent", "expect-no-body"),
    ),
    "upgrade": (
        ("WebSocket is the one upgrade there is. Any other is ignored and not passed on, since an upstream that takes it makes a tunnel past every "
        "rule (h2c smuggling); the answer ends the connection, because aiohttp's parser loses what came behind such a request. Both "
        "referees pass on whatever is asked for. An upgrade that nobody asked for is a 502, a WebSocket with a body a 400."),
        (
            "upgrade-unasked", "upgrade-h2c", "upgrade-h2c-pipelined", "upgrade-h2c-half-pipelined", "upgrade-h2c-answered",
            "upgrade-h2c-body", "upgrade-h2c-chunked", "upgrade-unknown", "upgrade-list", "upgrade-10", "upgrade-websocket-body",
        ),
    ),
    "segment": (
        ("aiohttp parses what has come as a whole: nonsense behind a good request, in one segment with it, makes the answer to the good one a 400, and "
        "it is not passed on. No client may send anything behind `Connection: close`."),
        ("pipelined-then-bad", "close-then-request"),
    ),
    "time-out": (
        ("A head that does not come in time gets no answer from the gateway and from nginx, and a 408 from HAProxy; a body a 408 from the gateway, "
        "which is the client's fault, nothing from nginx, and HAProxy's 504."),
        (
            "slow-nothing", "slow-half-line", "slow-half-head", "slow-head-trickles", "slow-empty-lines", "slow-second-head", "slow-body",
            "slow-chunk", "slow-last-chunk",
        ),
    ),
    "early": (
        ("An answer that comes before the request's end closes the connection: what is left of the body is nobody's. HAProxy reads it away, or "
        "answers it again. The gateway decides this when the answer's head is there."),
        ("early-answer", "early-answer-close", "early-answer-reset", "early-answer-chunked", "answer-as-it-reads"),
    ),
    "end": (
        "A client that ends its direction has gone, for the gateway as for nginx; HAProxy answers it, with 400 if it said nothing whole.",
        ("half-closed", "end-head", "end-nothing"),
    ),
    "until-close": (
        ("A body that ends with the upstream's connection gets chunks, so that its end can be told from a cut. HAProxy closes, and takes a reset for "
        "an end: half an answer looks whole."),
        ("answer-until-close", "answer-until-reset"),
    ),
    "interim": (
        ("Interim answers reach HTTP/1.1 clients only, but for a 100 that nobody asked for, and without a length. nginx 1.22 does not know them "
        "and takes one for the answer; HAProxy sends them to HTTP/1.0 clients, too."),
        ("answer-103", "answer-102", "answer-100-unasked", "answer-103-10", "answer-103-length"),
    ),
    "chunk-fault": (
        ("Malformed chunks that are there when the head is make the answer a 502, since nothing of it was sent; nginx ends the connection without "
        "an answer."),
        ("answer-chunk-size-word", "answer-chunk-size-later", "answer-chunk-size-huge", "answer-chunk-long"),
    ),
    "no-body": ("A 204 may have no length (RFC 9110, 8.6); nginx passes it on.", ("answer-204-length",)),
}  # fmt: skip
REASON_OF: Final = {name: reason for reason, (_, names) in REASONS.items() for name in names}
assert len(REASON_OF) == sum(len(names) for _, names in REASONS.values()), "a case is explained twice"
