"""What is logged: lines on standard error, as JSON for programs or as text for a terminal."""

import logging
import os
import sys
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

log: FilteringBoundLogger = structlog.get_logger()


LogFormat = Literal["auto", "json", "text"]


def configure_logging(level: str, line_format: LogFormat = "auto") -> None:
    """Lines on standard error, from our loggers and the libraries' alike; by default as text where that is a terminal.

    Ours are written directly: the way through the standard library's handlers takes four times as long.
    """
    is_text = line_format == "text" or (line_format == "auto" and sys.stderr.isatty())
    rendering = _as_text() if is_text else [structlog.processors.JSONRenderer(_to_json)]
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, _add_logger_name, *rendering, _to_bytes],
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        wrapper_class=structlog.make_filtering_bound_logger(least),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                *rendering,
                _to_text,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(least)
    for noisy in ("pymongo", "asyncio"):
        logging.getLogger(noisy).setLevel(max(least, logging.INFO))


def _as_text() -> list[Processor]:
    """For a person; in colours if that is a terminal, where NO_COLOR is not set (https://no-color.org)."""
    has_colors = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    plain = structlog.dev.plain_traceback  # others show what variables hold
    renderer = structlog.dev.ConsoleRenderer(colors=has_colors, timestamp_key="time", exception_formatter=plain)
    return [_escape, renderer]


def _escape(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    """What could move a terminal's cursor is shown as Python writes it."""
    for name, value in line.items():
        if isinstance(value, str) and name != "exception" and not value.isprintable():
            line[name] = "".join(part if part.isprintable() else repr(part).strip("'") for part in value)
    return line


def _add_logger_name(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    line["logger"] = "service"
    return line


def _to_json(line: Any, **_options: Any) -> bytes:
    return orjson.dumps(line, str)


def _to_bytes(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    return line if isinstance(line, bytes) else line.encode(errors="backslashreplace")


def _to_text(_logger: WrappedLogger, _method: str, line: Any) -> str:
    return line if isinstance(line, str) else line.decode()
