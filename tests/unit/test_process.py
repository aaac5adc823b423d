"""Signals while something is done in an event loop of its own."""

import asyncio
import os
import signal
from collections.abc import Iterator

import pytest

from service.observability.readiness import SIGNALS
from service.server import process
from service.server.process import run_until_signal


@pytest.fixture(autouse=True)
def _signals_are_as_before() -> Iterator[None]:
    before = {sign: signal.getsignal(sign) for sign in SIGNALS}
    yield
    for sign, handler in before.items():
        signal.signal(sign, handler)


def send_signal() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


async def end_late() -> None:
    """A task that is told to end, and while it does a signal comes."""
    try:
        await asyncio.Event().wait()
    finally:
        send_signal()


async def work(*, is_left_behind: bool) -> str:
    if is_left_behind:
        await asyncio.wait([asyncio.create_task(end_late())], timeout=0)
    return "done"


def test_what_is_done_is_returned() -> None:
    assert run_until_signal(work(is_left_behind=False)) == "done"


def test_a_signal_ends_what_is_being_done() -> None:
    async def wait() -> None:
        send_signal()
        await asyncio.Event().wait()

    with pytest.raises(SystemExit) as ended:
        run_until_signal(wait())

    assert ended.value.code == 0


def test_a_signal_that_comes_when_all_is_done_but_the_loop_is_open_ends_the_process() -> None:
    with pytest.raises(SystemExit) as ended:
        run_until_signal(work(is_left_behind=True))

    assert ended.value.code == 0


def test_a_signal_that_comes_when_the_loop_is_closed_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave_on_signals() -> None:
        send_signal()  # in the last moment before other handlers are there

    monkeypatch.setattr(process, "leave_on_signals", leave_on_signals)

    with pytest.raises(SystemExit) as ended:
        run_until_signal(work(is_left_behind=False))

    assert ended.value.code == 0
