"""OpenTelemetry (the extra `otel`): a span for each request that is drawn, and in it one for what its upstream took.

Where they go is told by OpenTelemetry's variables (`OTEL_EXPORTER_OTLP_ENDPOINT`, `OTEL_SERVICE_NAME`, ...). A trace begun
by a client counts if a trusted proxy says so: anyone else could have every request of theirs recorded.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread
from typing import Final

from aiohttp import web
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind, StatusCode, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.errors import StartError
from gateway.metrics import Kind
from gateway.rules.headers import Header, split_target
from gateway.web import access
from gateway.web.plan import Plan

log = logging.getLogger("waitroom.traces")
METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"))
PATH_CHARS_MAX: Final = 1000
_FORMAT: Final = TraceContextTextMapPropagator()


class Tracer:
    """All spans of one process, sent by a thread of its own: what no collector takes is dropped, and no request waits for one.

    `share` of the requests is drawn, from 0 to 1. Raises StartError for variables that OpenTelemetry cannot use.
    """

    def __init__(self, share: float) -> None:
        endpoint = _endpoint()
        resource = Resource({"service.name": "waitroom", "process.pid": os.getpid()})
        try:
            self._provider = TracerProvider(
                ParentBased(TraceIdRatioBased(share)),
                resource.merge(OTELResourceDetector().detect()),
                shutdown_on_exit=False,  # it would wait half a minute for a collector that has gone
            )
            self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        except ValueError as fault:
            raise StartError(f"OpenTelemetry's variables (OTEL_...): {fault}") from None
        self._tracer = self._provider.get_tracer("waitroom")
        log.info("traces", extra={"share": share, "to": endpoint})

    @contextmanager
    def request(self, request: web.BaseRequest, *, is_peer_trusted: bool) -> Iterator[None]:
        """The span of what the gateway does with a request; no query, cookie or address is in it."""
        told = request.headers.getall("traceparent", ())
        is_believed = is_peer_trusted and len(told) == 1
        parent = _FORMAT.extract(request.headers, Context()) if is_believed else Context()
        path = split_target(request.raw_path, "")[1].partition("?")[0][:PATH_CHARS_MAX]
        attributes = {
            "http.request.method": method_of(request),
            "url.path": path,
        }
        with self._tracer.start_as_current_span(method_of(request), parent, SpanKind.SERVER, attributes):
            if mine := carried().get("traceparent"):  # none where OTEL_SDK_DISABLED is set
                request[access.TRACE] = mine
            yield

    @contextmanager
    def forwarding(self, request: web.BaseRequest, plan: Plan) -> Iterator[Plan]:
        """The span of what an upstream takes, a wait for a free share included; the plan takes it along."""
        method = method_of(request)
        attributes = {"http.request.method": method, "waitroom.upstream": plan.upstream}
        if plan.room is not None:
            attributes["waitroom.room"] = plan.room
        with self._tracer.start_as_current_span(method, None, SpanKind.CLIENT, attributes):
            if not (named := carried()):
                yield plan
                return
            ours: list[Header] = [(name.encode(), named.get(name, "").encode()) for name in _FORMAT.fields]
            yield plan._replace(replaced=(*plan.replaced, *ours))

    def tell(self, request: web.BaseRequest, status: int, kind: Kind | None = None) -> None:
        """How the span at hand ended. `status` 0: the client had gone."""
        span = get_current_span()
        if kind is not None:
            span.update_name(f"{method_of(request)} {kind}")
            span.set_attribute("waitroom.kind", kind)
        if status:
            span.set_attribute("http.response.status_code", status)
        if status >= 500:
            span.set_status(StatusCode.ERROR)

    async def close(self, within_s: float) -> None:
        """Send what is left. A collector that does not answer has its time; then a thread waits for it that ends with us."""
        loop, is_sent = asyncio.get_running_loop(), asyncio.Event()

        def send() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # nobody waits any more, and the loop has gone
                loop.call_soon_threadsafe(is_sent.set)

        Thread(target=send, name="traces", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await is_sent.wait()


def _endpoint() -> str:
    """Where spans go, for the log; the library reads the same variables, and would find a fault in them once a batch."""
    for name in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if (text := os.environ.get(name)) is not None:
            if not text.startswith(("http://", "https://")):
                raise StartError(f"{name}={text}: allowed: a URL that takes OTLP over HTTP: http://collector:4318")
            return text
    return "http://localhost:4318"


def method_of(request: web.BaseRequest) -> str:
    """One of few: strangers must not make up names of spans."""
    return request.method if request.method in METHODS else "_OTHER"


def carried() -> dict[str, str]:
    """What the span at hand is called on the wire: `traceparent`, and `tracestate` if there is one."""
    fields: dict[str, str] = {}
    _FORMAT.inject(fields)
    return fields
