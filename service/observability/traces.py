"""Spans by OpenTelemetry, which is an extra: of requests here, of commands to MongoDB in `store`.

All of it but whether there are any is said by the standard's own variables: OTEL_EXPORTER_OTLP_ENDPOINT and the like.
"""

from importlib.metadata import version
from threading import Thread

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, Tracer, format_trace_id
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from service.observability.metrics import METHODS

SERVER_FAILED = 500
END_SECONDS = 2
"""How long the last spans may take at the end."""


class Traces:
    """Makes spans, and sends them in a thread of its own."""

    def __init__(self) -> None:
        about = {"service.name": "dossier", "service.version": version("dossier")}
        about |= {name: str(value) for name, value in OTELResourceDetector().detect().attributes.items()}
        self._provider = TracerProvider(resource=Resource.create(about), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self.tracer: Tracer = self._provider.get_tracer("dossier", version("dossier"))

    def middleware(self, app: ASGIApp) -> ASGIApp:
        """An app whose requests have spans."""
        return TraceMiddleware(app, self.tracer)

    def close(self) -> None:
        """Send what waits, for a moment. The library would try for half a minute to reach a collector that is gone."""
        ending = Thread(target=self._provider.shutdown, daemon=True)
        ending.start()
        ending.join(END_SECONDS)


class TraceMiddleware:
    """A span for each request, below its client's (https://www.w3.org/TR/trace-context/), and its id in the log.

    Not OpenTelemetry's own instrumentation, whose spans have the whole address, and so what was looked for.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer
        self._propagator = TraceContextTextMapPropagator()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = self._propagator.extract(Headers(scope=scope))
        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        with self._tracer.start_as_current_span(
            method, context, SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            bind_contextvars(trace_id=format_trace_id(span.get_span_context().trace_id))

            async def send_noted(message: Message) -> None:
                if message["type"] == "http.response.start":
                    span.set_attribute("http.response.status_code", message["status"])
                    if message["status"] >= SERVER_FAILED:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, send_noted)
            except ClientDisconnect:
                raise
            except Exception as error:
                span.set_attribute("error.type", type(error).__qualname__)
                span.set_status(StatusCode.ERROR)  # without its text, which may have values
                raise
            finally:
                span.set_attribute("http.request.method", method)
                if route := getattr(scope.get("route"), "path", None):
                    span.update_name(f"{method} {route}")
                    span.set_attribute("http.route", route)
