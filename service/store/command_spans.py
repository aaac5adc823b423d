"""Commands to MongoDB as spans of OpenTelemetry."""

from contextvars import ContextVar

from opentelemetry.trace import Span, SpanKind, StatusCode, Tracer, get_current_span
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from service.store.monitoring import error_name

_span: ContextVar[Span | None] = ContextVar("span", default=None)
"""Of the command that waits for its answer: a task waits for one at a time, and is told of its end itself."""


class CommandSpans(CommandListener):
    """Makes a span of each command that a request sends: its name and its collection, no values.

    Not OpenTelemetry's own instrumentation, which writes down the text of a failure, and so the value that there is
    already.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def started(self, event: CommandStartedEvent) -> None:
        """It is under way."""
        if not get_current_span().get_span_context().is_valid:
            _span.set(None)  # the service asks for itself
            return
        name = event.command_name
        collection = event.command.get("collection" if name == "getMore" else name)
        attributes = {"db.system.name": "mongodb", "db.namespace": event.database_name, "db.operation.name": name}
        if isinstance(collection, str):
            attributes["db.collection.name"] = collection
        title = " ".join([name, attributes.get("db.collection.name", "")]).strip()
        _span.set(self._tracer.start_span(title, kind=SpanKind.CLIENT, attributes=attributes))

    def succeeded(self, event: CommandSucceededEvent) -> None:  # noqa: ARG002 - the driver's signature
        """It has ended."""
        if span := _span.get():
            span.end()

    def failed(self, event: CommandFailedEvent) -> None:
        """It has ended, in vain."""
        if span := _span.get():
            span.set_attribute("error.type", error_name(event))
            span.set_status(StatusCode.ERROR)
            span.end()
