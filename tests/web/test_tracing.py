"""OpenTelemetry: what a collector gets of a request, and what its upstream is told of the trace."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from gateway.errors import StartError
from gateway.model import Room
from gateway.web.tracing import Tracer
from tests.web.gatewayfixture import House, ManualBank, OpenHouse, house_opener, protecting, until

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
WANTED = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-01", "tracestate": "bank=7"}
UNWANTED = {"traceparent": f"00-{TRACE_ID}-00f067aa0ba902b7-00"}
TRUSTED = {"trusted_proxies": ("127.0.0.0/8",)}
TOLD = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
open_house = pytest.fixture(house_opener)


@dataclass
class Collector:
    """Takes OTLP over HTTP, as Jaeger, Tempo and the OpenTelemetry collector do."""

    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)

    async def take(self, request: web.BaseRequest) -> web.Response:
        sent = ExportTraceServiceRequest.FromString(await request.read())
        for group in sent.resource_spans:
            self.resources.append(attributes_of(group.resource))
            self.spans += [span for scope in group.scope_spans for span in scope.spans]
        return web.Response()

    async def pair(self) -> tuple[Span, Span]:
        """The spans of the one request that was forwarded: the gateway's, and the upstream's inside it."""
        await until(lambda: len(self.spans) == 2)
        inner, outer = sorted(self.spans, key=lambda span: span.kind == Span.SPAN_KIND_SERVER)
        assert (outer.kind, inner.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
        assert (inner.parent_span_id, inner.trace_id) == (outer.span_id, outer.trace_id)
        return outer, inner


def attributes_of(carrier: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in carrier.attributes}


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    made = Collector()
    runner = web.ServerRunner(web.Server(made.take), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{runner.addresses[0][1]}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
    yield made
    await runner.cleanup()


def told_to(bank: ManualBank) -> tuple[str, str, bool]:
    """Trace, span and whether it is recorded, as the bank was told, once."""
    (told,) = bank.last.getall("traceparent")
    found = TOLD.fullmatch(told)
    assert found is not None
    return found[1], found[2], int(found[3], 16) % 2 == 1


async def test_a_trace_that_a_trusted_proxy_began_goes_on_through_the_gateway(
    open_house: OpenHouse, collector: Collector
) -> None:
    """Edge, gateway and bank are one trace, and the bank's spans hang below what it took."""
    house = await open_house(protecting("traced"), traces=0.000001, **TRUSTED)
    await house.visitor().get("/free?account=1234", WANTED)
    outer, inner = await collector.pair()
    assert (outer.trace_id.hex(), outer.parent_span_id.hex()) == (TRACE_ID, "00f067aa0ba902b7")
    assert told_to(house.bank) == (TRACE_ID, inner.span_id.hex(), True)
    assert house.bank.last["tracestate"] == "bank=7"
    assert (outer.name, attributes_of(outer)) == (
        "GET unprotected",
        {
            "http.request.method": "GET",
            "url.path": "/free",
            "waitroom.kind": "unprotected",
            "http.response.status_code": 200,
        },
    )
    assert attributes_of(inner) == {
        "http.request.method": "GET",
        "waitroom.upstream": "bank",
        "http.response.status_code": 200,
    }
    assert collector.resources[0]["service.name"] == "waitroom"


async def test_what_no_trusted_proxy_says_of_traces_is_not_believed(
    open_house: OpenHouse, collector: Collector
) -> None:
    """Else anyone could have all of their requests recorded, or hang them below somebody else's."""
    house = await open_house(protecting("stranger"), traces=1.0)
    await house.visitor().get("/free", WANTED)
    outer, inner = await collector.pair()
    assert outer.trace_id.hex() != TRACE_ID
    assert outer.parent_span_id == b""
    assert told_to(house.bank) == (outer.trace_id.hex(), inner.span_id.hex(), True)
    assert "tracestate" not in house.bank.last


@pytest.mark.parametrize(
    ("share", "sent"),
    [
        (1.0, [*UNWANTED.items()]),
        (0.000001, []),
        (0.000001, [("traceparent", "nonsense")]),
        (0.000001, [*WANTED.items(), ("traceparent", WANTED["traceparent"])]),  # two are none
    ],
)
async def test_what_is_not_drawn_leaves_no_span_and_the_bank_is_told_so(
    open_house: OpenHouse, collector: Collector, share: float, sent: list[tuple[str, str]]
) -> None:
    """So that it does not begin a trace of its own without its beginning."""
    house = await open_house(protecting("undrawn"), traces=share, **TRUSTED)
    await house.visitor().ask("GET", "/free", sent)
    assert told_to(house.bank)[2] is False
    await house.close()  # sends what there is
    assert collector.spans == []


async def test_spans_tell_the_room_and_who_was_held_has_one_alone(open_house: OpenHouse, collector: Collector) -> None:
    room: Room = protecting("spans")
    house = await open_house(room, traces=1.0)
    await house.visitor().get(f"/{room.id}/data")
    await until(lambda: len(collector.spans) == 1)
    held = collector.spans.pop()
    assert (held.name, attributes_of(held)["http.response.status_code"]) == ("GET turned_away", 429)
    visitor = house.visitor()
    await house.idle(room)
    await visitor.open(f"/{room.id}/")
    outer, inner = await collector.pair()
    assert outer.name == "GET admitted"
    assert attributes_of(inner)["waitroom.room"] == room.id


async def test_a_failed_upstream_is_an_error_of_both(open_house: OpenHouse, collector: Collector) -> None:
    house = await open_house(protecting("failing"), traces=1.0)
    await house.bank.close()
    answer = await house.visitor().get("/free")
    assert answer.status == 502
    for span in await collector.pair():
        assert (attributes_of(span)["http.response.status_code"], span.status.code) == (502, Status.STATUS_CODE_ERROR)


async def test_strange_methods_make_no_names(open_house: OpenHouse, collector: Collector) -> None:
    """Names of spans are few, whoever asks."""
    house = await open_house(protecting("strange"), traces=1.0)
    await house.visitor().ask("PROPFIND", "/pot")
    outer, inner = await collector.pair()
    assert (outer.name, inner.name) == ("_OTHER unprotected", "_OTHER")


async def test_what_is_left_is_sent_at_the_end(
    open_house: OpenHouse, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    house = await open_house(protecting("left"), traces=1.0)
    await house.visitor().get("/free")
    assert collector.spans == []
    await house.close()
    assert len(collector.spans) == 2


async def test_the_line_in_the_log_and_the_span_have_one_name(
    open_house: OpenHouse, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    house = await open_house(protecting("named"), traces=1.0, access_log=1.0)
    with caplog.at_level(logging.INFO, "waitroom"):
        await house.visitor().get("/free", WANTED)
    outer, _ = await collector.pair()
    (line,) = [vars(record) for record in caplog.records if record.message == "request"]
    assert line["traceparent"].startswith(f"00-{outer.trace_id.hex()}-{outer.span_id.hex()}-")


async def test_a_collector_that_has_gone_harms_nobody(
    open_house: OpenHouse, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the requests nor the stop, which would wait for half a minute if it were left to the library."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    house: House = await open_house(protecting("gone"), traces=1.0)
    for _ in range(20):
        assert (await house.visitor().get("/free")).status == 200
    began_s = time.monotonic()
    await house.close()
    assert time.monotonic() - began_s < 10.0
    assert collector.spans == []


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", "OTEL_EXPORTER_OTLP_ENDPOINT=collector:4318: allowed: a URL"),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "grpc://x",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=grpc://x: allowed: a URL",
        ),
        (
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
            "x",
            "OpenTelemetry's variables (OTEL_...): OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT",
        ),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "OpenTelemetry's variables (OTEL_...): max_queue_size must be"),
    ],
)
def test_variables_that_cannot_be_used_are_told_before_the_start(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(StartError, match=re.escape(told)):
        Tracer(1.0)


async def test_the_librarys_own_switch_turns_spans_off_and_nothing_else(
    open_house: OpenHouse, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    house = await open_house(protecting("switched"), traces=1.0)
    assert (await house.visitor().get("/free", WANTED)).status == 200
    assert {name: house.bank.last[name] for name in WANTED} == WANTED
    await house.close()
    assert collector.spans == []


async def test_without_a_share_no_span_is_made_and_traces_pass_unchanged(
    open_house: OpenHouse, collector: Collector
) -> None:
    """Promise 10."""
    house = await open_house(protecting("plain"))
    await house.visitor().get("/free", WANTED)
    assert {name: house.bank.last[name] for name in WANTED} == WANTED
    await house.close()
    assert collector.spans == []
