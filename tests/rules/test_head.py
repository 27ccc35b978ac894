"""What counts as one whole, plain GET, and where requests end: held against aiohttp's parser, which the other way uses."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from aiohttp import http_parser
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.rules.head import Boundary, Whereabouts, is_whole_post, plain_fields
from gateway.web.endings import body_bytes_of

LINE = b"GET /_waitroom/room/status HTTP/1.1\r\n"
HOST = b"Host: bank.example\r\n"
END = b"\r\n"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    own = asyncio.new_event_loop()
    yield own
    own.close()


def parser_of(loop: asyncio.AbstractEventLoop) -> http_parser.HttpRequestParser:
    """As the listener makes it."""
    size = 32_768
    return http_parser.HttpRequestParser(
        BaseProtocol(loop),
        loop,
        65_536,
        max_line_size=size,
        max_field_size=size,
        max_headers=100,
        auto_decompress=False,
    )


def test_a_browsers_poll_is_plain() -> None:
    """Names come in lower case, values without the spaces around them."""
    data = LINE + HOST + b"Cookie: a=b; c=\xed\x95\x9c\r\nAccept:*/*\r\nX-Empty: \r\nConnection: Keep-Alive\r\n" + END
    assert plain_fields(data) == {
        b"host": b"bank.example",
        b"cookie": b"a=b; c=\xed\x95\x9c",
        b"accept": b"*/*",
        b"x-empty": b"",
        b"connection": b"Keep-Alive",
    }


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        HOST,
        END,
        HOST + END + b"G",
        HOST + END + END,
        HOST + END + LINE + HOST + END,
        HOST + HOST + END,
        b"Host:\r\n" + END,
        b"Host: a b\r\n" + END,
        b"Host: user@bank.example\r\n" + END,
        HOST + b"Cookie: a\r\nCookie: b\r\n" + END,
        HOST + b"Content-Length: 0\r\n" + END,
        HOST + b"content-length: 5\r\n" + END,
        HOST + b"Transfer-Encoding: chunked\r\n" + END,
        HOST + b"Upgrade: websocket\r\n" + END,
        HOST + b"Expect: 100-continue\r\n" + END,
        HOST + b"Connection: close\r\n" + END,
        HOST + b"Connection: keep-alive, upgrade\r\n" + END,
        HOST + b"X-Folded: a\r\n b\r\n" + END,
        HOST + b"X-Lf: a\nContent-Length: 5\r\n" + END,
        HOST + b"X-Cr: a\rb\r\n" + END,
        HOST + b"X-Nul: a\x00b\r\n" + END,
        HOST + b"X-Del: a\x7fb\r\n" + END,
        HOST + b"X-Space : a\r\n" + END,
        HOST + b" X-Space: a\r\n" + END,
        HOST + b"no colon\r\n" + END,
        HOST + b"nocolon\r\n" + END,
        HOST + b": no name\r\n" + END,
        HOST + b"X-\xed: a\r\n" + END,
        HOST + b"".join(b"X-%d: a\r\n" % i for i in range(70)) + END,
        HOST + b"X-Long: " + b"a" * 20_000 + b"\r\n" + END,
    ],
)
def test_anything_out_of_the_ordinary_is_not(rest: bytes) -> None:
    """Promise 9: whatever two readers might take for different things goes the usual way."""
    assert plain_fields(LINE + rest) is None


NAMES = st.sampled_from(
    [
        b"Cookie",
        b"cookie",
        b"Accept",
        b"X-A",
        b"X-B",
        b"Content-Length",
        b"Connection",
        b"Host",
        b"X A",
        b"X\tA",
        b"",
        b"\xff",
        b"TE",
    ]
)
VALUES = st.one_of(
    st.sampled_from([b"", b"a", b"0", b"keep-alive", b"a\r\n b", b"a\nb", b"\r", b"\x00", b"\x0b"]),
    st.binary(max_size=6),
)
COLONS = st.sampled_from([b":", b": ", b" : ", b"", b":\t", b"::"])
ENDS = st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n", b"\r\n\r\n"])
FIELD_LINES = st.tuples(NAMES, COLONS, VALUES, ENDS).map(b"".join)


@settings(max_examples=600)
@given(lines=st.lists(FIELD_LINES, max_size=4), end=st.sampled_from([b"\r\n", b"", b"\n", b"\r\n\r\n"]))
def test_what_is_plain_is_one_request_to_the_parser_with_the_same_fields(
    loop: asyncio.AbstractEventLoop, lines: list[bytes], end: bytes
) -> None:
    """Promise 9: the express way never sees a request that the usual way would read in another way."""
    data = LINE + HOST + b"".join(lines) + end
    fields = plain_fields(data)
    if fields is None:
        return
    messages, is_upgraded, tail = parser_of(loop).feed_data(data)
    ((message, payload),) = messages
    assert not is_upgraded
    assert not tail
    assert body_bytes_of(message, payload) == 0
    assert not message.should_close
    assert {name.lower(): value.strip(b" \t") for name, value in message.raw_headers} == fields


POST_LINE = b"POST /_waitroom/room/ticket HTTP/1.1\r\n"


@pytest.mark.parametrize(
    ("data", "is_whole"),
    [
        (POST_LINE + HOST + b"Content-Length: 2\r\n\r\n{}", True),
        (POST_LINE + b"content-length:2\r\n" + HOST + b"\r\n{}", True),
        (POST_LINE + HOST + b"Content-Length: 0\r\n\r\n", True),
        (POST_LINE + HOST + b"Content-Length: 4\r\n\r\n\r\n\r\n", True),
        (POST_LINE + HOST + b"\r\n", False),
        (POST_LINE + HOST + b"Content-Length: 2\r\n\r\n{", False),
        (POST_LINE + HOST + b"Content-Length: 2\r\n\r\n{}G", False),
        (POST_LINE + HOST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", False),
        (POST_LINE + HOST + b"Content-Length: 2\r\nContent-Length : 3\r\n\r\n{}", False),
        (POST_LINE + HOST + b"Content-Length: +2\r\n\r\n{}", False),
        (POST_LINE + HOST + b"Content-Length: 2, 2\r\n\r\n{}", False),
        (POST_LINE + HOST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}", False),
        (POST_LINE + HOST + b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}", False),
        (POST_LINE + HOST + b"Content-Length: 2\r\nConnection: close\r\n\r\n{}", False),
        (POST_LINE + HOST + b"X-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", False),
        (POST_LINE + b"Content-Length: 2\r\n\r\n{}", False),
        (LINE + HOST + b"Content-Length: 2\r\n\r\n{}", False),
    ],
)
def test_a_whole_post_is_told_from_all_that_may_not_be_one(data: bytes, is_whole: bool) -> None:
    """Promise 9: only after such a one may the next byte be taken for a request's first."""
    assert is_whole_post(data) is is_whole


LENGTHS = st.sampled_from([b"Content-Length: 2\r\n", b"content-length:2\r\n", b"Content-Length: 02\r\n", b""])


@settings(max_examples=600)
@given(
    before=st.lists(FIELD_LINES, max_size=2),
    length=LENGTHS,
    after=st.lists(FIELD_LINES, max_size=2),
    body=st.sampled_from([b"{}", b"", b"{", b"{}{", b"\r\n"]),
)
def test_what_is_a_whole_post_is_one_whole_request_to_the_parser(
    loop: asyncio.AbstractEventLoop, before: list[bytes], length: bytes, after: list[bytes], body: bytes
) -> None:
    """Promise 9: a shed join that went unread never leaves a byte behind that the parser would have taken for its own."""
    data = POST_LINE + HOST + b"".join(before) + length + b"".join(after) + b"\r\n" + body
    if not is_whole_post(data):
        return
    messages, is_upgraded, tail = parser_of(loop).feed_data(data)
    ((message, payload),) = messages
    assert not is_upgraded
    assert not tail
    assert payload.is_eof()
    assert body_bytes_of(message, payload) == len(data.partition(b"\r\n\r\n")[2])
    assert not message.should_close


# --- where requests end ----------------------------------------------------------------------------------------------

BODIES = st.sampled_from([b"ab", b"\r\n\r\n", b"a\r\n\r\nb", LINE + HOST + END, b"x" * 40, b"0\r\n\r\n"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    before = draw(st.sampled_from([b"", b"", b"", b"\r\n", b"\r\n\r\n"]))
    kind = draw(st.sampled_from(["get", "get", "length", "chunked", "empty"]))
    body = draw(BODIES)
    if kind == "get":
        return before + LINE + HOST + END
    head = b"POST /_waitroom/room/ticket HTTP/1.1\r\n" + HOST
    if kind == "chunked":
        return before + head + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    length = 0 if kind == "empty" else len(body)
    return before + head + b"Content-Length: %d\r\n\r\n" % length + body[:length]


@settings(max_examples=600)
@given(stream=st.lists(requests(), min_size=1, max_size=4), data=st.data())
def test_a_boundary_is_told_only_where_one_is(
    loop: asyncio.AbstractEventLoop, stream: list[bytes], data: st.DataObject
) -> None:
    """Promise 9: however the bytes come in pieces, no byte of a body or of a head is ever taken for a request's first."""
    whole = b"".join(stream)
    ends, at = {0}, 0
    for one in stream:
        ends |= {at + len(one)}
        ends |= {at + i for i in (2, 4) if one[:i] in {b"\r\n", b"\r\n\r\n"}}  # empty lines before a request are none
        at += len(one)
    near = sorted({cut for i in range(len(whole)) if whole[i : i + 1] in b"\r\n" for cut in (i, i + 1)} | ends)
    cuts = sorted(
        {
            *data.draw(st.lists(st.sampled_from(near), max_size=6)),
            *data.draw(st.lists(st.integers(0, len(whole)), max_size=2)),
        }
    )
    boundary, parser, start = Boundary(), parser_of(loop), 0
    for cut in [*cuts, len(whole)]:
        piece, start = whole[start:cut], cut
        if not piece:
            continue
        messages, _, _ = parser.feed_data(piece)
        for _ in messages:
            parser.message_consumed()
        boundary.follow(piece, len(messages), body_bytes_of(*messages[-1]) if messages else None)
        assert boundary.at is not Whereabouts.BETWEEN or cut in ends, (piece, whole)


@pytest.mark.parametrize(
    ("pieces", "at"),
    [
        ([LINE + HOST + END], Whereabouts.BETWEEN),
        ([LINE, HOST + END], Whereabouts.BETWEEN),
        ([LINE, HOST, b"Accept: "], Whereabouts.IN_HEAD),
        ([b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + HOST + END + b"abc"], Whereabouts.BETWEEN),
        ([b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + HOST + END, b"a"], Whereabouts.IN_BODY),
        ([b"POST / HTTP/1.1\r\nContent-Length: 3\r\n" + HOST + END, b"a", b"bc"], Whereabouts.BETWEEN),
        ([LINE + HOST + END, b""], Whereabouts.BETWEEN),
        ([LINE + HOST + END + LINE + HOST + END], Whereabouts.UNKNOWN),
        ([b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + HOST + END, b"0\r\n\r\n"], Whereabouts.UNKNOWN),
    ],
    ids=[
        "one",
        "in two pieces",
        "a head",
        "with a body",
        "half a body",
        "a body in pieces",
        "asked to go on",
        "two at once",
        "chunked",
    ],
)
def test_where_a_connection_stands(loop: asyncio.AbstractEventLoop, pieces: list[bytes], at: Whereabouts) -> None:
    """The usual ways of a page that joins and polls on one connection stay known; what is not sure is never known again."""
    boundary, parser = Boundary(), parser_of(loop)
    for piece in pieces:
        messages, _, _ = parser.feed_data(piece)
        boundary.follow(piece, len(messages), body_bytes_of(*messages[-1]) if messages else None)
    assert boundary.at is at


def head_with_body(body_bytes: int, method: bytes = b"POST") -> bytes:
    return method + b" / HTTP/1.1\r\nContent-Length: %d\r\n" % body_bytes + HOST + END


def head_as_long_as_its_body(extra_bytes: int) -> bytes:
    """A head whose Content-Length is its own length and so many bytes more."""
    head = head_with_body(100 + extra_bytes)
    return head.replace(HOST, HOST + b"X: " + b"a" * (100 - len(head) - 5) + b"\r\n")


@pytest.mark.parametrize(
    "pieces",
    [
        # Empty lines before the head: the first of them looks like its end, and the head like its body.
        [b"\r\n\r\n" + head_as_long_as_its_body(0)],
        # A head that is cut within its end: the empty line in the body looks like it, and the next head like the body.
        [head_with_body(10)[:-1], b"\n" + b"ab\r\n\r\n4567" + b"GET / "],
        # Two heads at once: the end of the first would do for the second.
        [LINE + HOST + END + head_as_long_as_its_body(0)],
        # The rest of a body and the beginning of a head.
        [head_with_body(3), b"abcGET / HTTP/1.1\r\n"],
        # A length that aiohttp's parser takes for no body, and one that is no number to Python.
        [head_with_body(2**64 - 1)],
        [head_with_body(5).replace(b": 5", b": " + b"0" * 5000 + b"5")],
        # All of a body and the beginning of a head.
        [head_with_body(3) + b"abcGET / HTTP/1.1\r\n"],
    ],
    ids=[
        "empty lines first",
        "cut within the end",
        "two heads",
        "body and head",
        "no length",
        "no number",
        "all and head",
    ],
)
def test_bytes_made_to_be_mistaken_are_not(loop: asyncio.AbstractEventLoop, pieces: list[bytes]) -> None:
    """Promise 9: each of these would make a body, or the middle of a head, look like the beginning of a request."""
    boundary, parser = Boundary(), parser_of(loop)
    for piece in pieces:
        messages, _, _ = parser.feed_data(piece)
        boundary.follow(piece, len(messages), body_bytes_of(*messages[-1]) if messages else None)
    assert boundary.at is not Whereabouts.BETWEEN
