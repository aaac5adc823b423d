"""How lines of the log look, for programs and on a terminal."""

import io
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from pymongo.errors import OperationFailure

from service.observability.logs import LogFormat, configure_logging

ESCAPE = "\x1b"
CANARY = "canary"


class Stream(io.TextIOWrapper):
    """Standard error, of which one may say that it is a terminal."""

    def __init__(self, *, is_terminal: bool) -> None:
        super().__init__(io.BytesIO(), write_through=True)
        self._is_terminal = is_terminal

    def isatty(self) -> bool:
        """What it was said to be."""
        return self._is_terminal

    def text(self) -> str:
        """What was written."""
        content = self.buffer
        assert isinstance(content, io.BytesIO)
        return content.getvalue().decode()


Write = Callable[..., str]


@pytest.fixture
def write(monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Logs a line of ours and one of a library, and tells what was written; then all is as it was."""
    root = logging.getLogger()
    configuration, handlers, level = structlog.get_config(), root.handlers, root.level
    monkeypatch.delitem(os.environ, "NO_COLOR", raising=False)

    def write_lines(line_format: LogFormat, *, is_terminal: bool, **values: Any) -> str:
        stream = Stream(is_terminal=is_terminal)
        monkeypatch.setattr(sys, "stderr", stream)
        configure_logging("info", line_format)
        structlog.get_logger().info("ours", **values)
        logging.getLogger("uvicorn.error").info("Started on %s", "a port")
        return stream.text()

    yield write_lines
    structlog.configure(**configuration)
    root.handlers, root.level = handlers, level


@pytest.mark.parametrize(
    ("line_format", "is_terminal"),
    [("auto", False), ("json", True), ("json", False)],
)
def test_lines_are_json_for_programs(write: Write, line_format: LogFormat, *, is_terminal: bool) -> None:
    ours, theirs = map(json.loads, write(line_format, is_terminal=is_terminal, count=3).splitlines())

    assert (ours["event"], ours["count"], ours["level"], ours["logger"]) == ("ours", 3, "info", "service")
    assert (theirs["event"], theirs["level"], theirs["logger"]) == ("Started on a port", "info", "uvicorn.error")
    assert ours["time"].endswith("Z")
    assert theirs["time"].endswith("Z")


@pytest.mark.parametrize("line_format", ["auto", "text"])
def test_lines_are_coloured_on_a_terminal(write: Write, line_format: LogFormat) -> None:
    ours, theirs = write(line_format, is_terminal=True, count=3).splitlines()

    assert ESCAPE in ours
    assert "ours" in ours
    assert ESCAPE in theirs
    assert "Started on a port" in theirs


def test_text_in_a_file_has_no_colours(write: Write) -> None:
    ours, _ = write("text", is_terminal=False, count=3).splitlines()

    assert ESCAPE not in ours
    assert "count=3" in ours


def test_no_color_is_heeded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    assert ESCAPE not in write("text", is_terminal=True)


@pytest.mark.parametrize("value", [f"{ESCAPE}[2J", "two\nlines", "\r", "\x00", "\u202e"])
def test_a_value_cannot_move_a_terminals_cursor(write: Write, value: str) -> None:
    ours, _ = write("text", is_terminal=False, account=value).split("\n", 1)

    assert value not in ours
    assert "account=" in ours
    assert repr(value).strip("'") in ours


def test_a_traceback_as_text_shows_no_variables(write: Write) -> None:
    canary = str(918273645)
    try:
        next(iter(()))
    except StopIteration:
        written = write("text", is_terminal=True, exc_info=True)

    assert "StopIteration" in written
    assert canary not in written


@pytest.mark.parametrize("line_format", ["json", "text"])
@pytest.mark.parametrize(
    ("error", "named"),
    [
        (KeyError(CANARY), "KeyError"),
        (OperationFailure(CANARY, 4711), "pymongo.errors.OperationFailure: 4711"),
        (OSError(28, "No space left on device", CANARY), "OSError: No space left on device"),
        (ExceptionGroup(CANARY, [ValueError(CANARY)]), "ValueError"),
    ],
    ids=["Python's", "MongoDB's", "the system's", "several"],
)
def test_a_traceback_has_types_and_places_and_no_text(
    write: Write, line_format: LogFormat, error: Exception, named: str
) -> None:
    try:
        try:
            raise error  # noqa: TRY301 - the place does not matter here
        except Exception as cause:
            raise RuntimeError(CANARY) from cause
    except RuntimeError:
        written = write(line_format, is_terminal=False, exc_info=True)

    assert named in written
    assert "RuntimeError" in written
    assert "test_logs.py" in written
    assert CANARY not in written
