"""Whether this process takes new work, which it does until it is told to end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGTERM, signal.SIGINT)
"""What tells a process to end."""


class Readiness:
    """What a load balancer hears: to send nothing more to a process that ends what it has."""

    is_closing = False

    def closing_before(self, handler: Callable[[int, FrameType | None], Any]) -> Callable[[int, FrameType | None], Any]:
        """A signal's handler that notes the end, and then does what this one does."""

        def close(sign: int, frame: FrameType | None) -> Any:
            self.is_closing = True
            return handler(sign, frame)

        return close


@contextmanager
def open_readiness() -> Iterator[Readiness]:
    """One that hears the signals as they come, before the server that then stops to listen.

    Whatever server runs the app has its handlers by now; they are called as before, and are put back.
    """
    readiness = Readiness()
    ours: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {}
    theirs: dict[signal.Signals, Callable[[int, FrameType | None], Any]] = {}
    for sign in SIGNALS if threading.current_thread() is threading.main_thread() else ():
        handler = signal.getsignal(sign)
        if callable(handler):
            theirs[sign], ours[sign] = handler, readiness.closing_before(handler)
            signal.signal(sign, ours[sign])
    try:
        yield readiness
    finally:
        for sign, handler in ours.items():
            if signal.getsignal(sign) is handler:
                signal.signal(sign, theirs[sign])
