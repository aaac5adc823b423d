"""What is installed only by those who want it."""

from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import StartupError


@contextmanager
def extra(name: str, setting: str) -> Iterator[None]:
    """Around imports of what an extra brings, for the sake of a setting. Raises StartupError where it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise StartupError(
            f"{setting} needs {error.name}, which is not installed: run `scripts/install {name}`"
        ) from error
