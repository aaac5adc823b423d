"""What is logged: lines on standard error, as JSON for programs or as text for a terminal."""

import logging
import os
import sys
from collections.abc import Iterator
from traceback import format_tb
from typing import Any, Literal

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, FilteringBoundLogger, Processor, WrappedLogger

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
        structlog.processors.ExceptionRenderer(_traceback),
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


def _traceback(exc_info: ExcInfo) -> str:
    """As Python writes it, but for the texts of exceptions: those of MongoDB, and others, have values in them."""
    return "\n".join(_links(exc_info[1]))


def _links(error: BaseException | None) -> Iterator[str]:
    """An exception, after those that it was caused by."""
    if error is None:
        return
    yield from _links(error.__cause__ or (None if error.__suppress_context__ else error.__context__))
    for inner in error.exceptions if isinstance(error, BaseExceptionGroup) else ():
        yield from _links(inner)
    yield f"Traceback (most recent call last):\n{''.join(format_tb(error.__traceback__))}{_name(error)}"


def _name(error: BaseException) -> str:
    """Its class, with what the system calls it, or with the number that MongoDB has for it."""
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    if isinstance(error, OSError):
        return f"{name}: {error.strerror}"
    code = getattr(error, "code", None)
    return f"{name}: {code}" if isinstance(code, int) else name


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
