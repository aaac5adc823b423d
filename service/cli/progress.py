"""A bar that shows a person how far something is."""

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

Update = Callable[..., Any]
"""Takes `completed` and `total`, in what is counted."""

Watch = Callable[[Update], Coroutine[Any, Any, None]]
"""Moves a bar for as long as it is let."""


@contextmanager
def progress_bar(title: str, counted: str, total: int | None = None) -> Iterator[Update | None]:
    """What moves the bar; None where nobody looks, as in cron."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), _Count(counted), _Rate(counted), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield partial(progress.update, progress.add_task(title, total=total))


@asynccontextmanager
async def progress_shown(title: str, counted: str, *watches: Watch) -> AsyncIterator[None]:
    """A bar that is moved meanwhile. That a watch knows nothing is no reason to give up what it looks at."""
    with progress_bar(title, counted) as update:
        watching = [asyncio.create_task(watch(update)) for watch in watches] if update else []
        try:
            yield
        finally:
            for task in watching:
                task.cancel()
            await asyncio.gather(*watching, return_exceptions=True)


class _Count(ProgressColumn):
    def __init__(self, counted: str) -> None:
        super().__init__()
        self._counted = counted

    def render(self, task: Task) -> Text:
        """So many of so many."""
        of_all = f" of {task.total:,.0f}" if task.total else ""
        return Text(f"{task.completed:,.0f}{of_all} {self._counted}")


class _Rate(ProgressColumn):
    def __init__(self, counted: str) -> None:
        super().__init__()
        self._counted = counted

    def render(self, task: Task) -> Text:
        """How quickly they come."""
        return Text(f"{task.speed:,.0f} {self._counted}/s" if task.speed else "")
