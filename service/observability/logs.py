"""What is logged: JSON lines on standard error."""

import logging
import sys
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

log: FilteringBoundLogger = structlog.get_logger()


def configure_logging(level: str) -> None:
    """JSON lines on standard error, from our loggers and the libraries' alike.

    Ours are written directly: the way through the standard library's handlers takes four times as long.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, _add_logger_name, structlog.processors.JSONRenderer(_to_json)],
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        wrapper_class=structlog.make_filtering_bound_logger(least),
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(lambda line, **_: _to_json(line).decode()),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(least)
    for noisy in ("pymongo", "asyncio"):
        logging.getLogger(noisy).setLevel(max(least, logging.INFO))


def _add_logger_name(_logger: WrappedLogger, _method: str, line: EventDict) -> EventDict:
    line["logger"] = "service"
    return line


def _to_json(line: Any, **_options: Any) -> bytes:
    return orjson.dumps(line, str)
