"""`dossier seed`, and the samples of a first start."""

import asyncio
import time
from itertools import islice
from typing import Annotated

import typer

from service.cli.environment import find_type, open_repository, read_settings, with_database
from service.cli.progress import Update, progress_bar
from service.cli.terminal import CommandError, heed_every_signal, in_one_line, stop_if_interrupted
from service.documents.registry import DocumentType, registered_types
from service.errors import DuplicateValueError
from service.observability.logs import configure_logging
from service.samples import Sampler
from service.settings import Settings
from service.store.preparation import open_ready_database
from service.store.query import ListQuery, Selection
from service.store.repository import Repository

SLICE = 1000
"""Documents that are made, checked and written together."""

MAX_REFERRED = 10_000
"""Documents of one other type that samples refer to, which are the oldest ones."""

COUNTING_SECONDS = 120


def seed_documents(
    type_name: Annotated[str, typer.Argument(metavar="TYPE", help="A type, such as users.")],
    count: Annotated[int, typer.Argument(min=1, help="How many.")],
    *,
    seed: Annotated[int, typer.Option(min=0, help="Another seed makes others.")] = 1,
    start: Annotated[
        int | None,
        typer.Option(min=1, help="The number of the first; by default one more than there are documents already."),
    ] = None,
) -> None:
    """Load believable documents: with the same seed and numbers, the same ones."""
    heed_every_signal()
    document_type = find_type(type_name)
    configure_logging("critical")  # a person wants one line at the end
    started = time.monotonic()

    async def load(settings: Settings, update: Update | None) -> None:
        types = [document_type, *_referred(document_type)]
        async with open_ready_database(settings, types, []):
            first = start or await _count(settings, document_type) + 1
            await add_samples(settings, document_type, count, seed=seed, start=first, update=update)

    try:
        with with_database(read_settings()) as complete, progress_bar(type_name, type_name, count) as update:
            asyncio.run(load(complete, update))
    except DuplicateValueError as error:
        taken = in_one_line(error.members())
        raise CommandError(f"{taken}; to make others, --start after all {type_name} that were ever made") from error
    print(f"{count:,} {type_name} in {time.monotonic() - started:.1f} s")


async def add_samples(  # noqa: PLR0913 - what, where, and whom to tell
    settings: Settings,
    document_type: DocumentType,
    count: int,
    *,
    seed: int = 1,
    start: int = 1,
    update: Update | None = None,
) -> None:
    """Write so many, which refer to documents that there are. Raises DuplicateValueError."""
    documents = open_repository(settings, document_type)
    ids = {known.name: await _ids(open_repository(settings, known)) for known in _referred(document_type)}
    bodies = Sampler(document_type, seed, ids).bodies(count, start)
    so_far = 0
    # One after the other, so that a run that is interrupted leaves no gap, and the next one goes on behind it.
    while written := await documents.load(islice(bodies, SLICE)):
        stop_if_interrupted()
        so_far += len(written)
        if update is not None:
            update(completed=so_far)


def _referred(document_type: DocumentType) -> list[DocumentType]:
    names = {field.references for field in document_type.fields.values()}
    return [known for known in registered_types() if known.name in names]


async def _ids(documents: Repository) -> list[str]:
    oldest = Selection({}, sort=(("_id", 1),), fields=("id",))
    page = await documents.page(ListQuery(oldest, limit=MAX_REFERRED, skip=0, cursor=None, count="none"))
    return [str(item["id"]) for item in page.items]


async def _count(settings: Settings, document_type: DocumentType) -> int:
    patient = settings.model_copy(update={"query_time_limit_seconds": COUNTING_SECONDS})
    all_of_them = Selection({}, sort=(("_id", 1),), fields=("id",))
    query = ListQuery(all_of_them, limit=1, skip=0, cursor=None, count="exact")
    total = (await open_repository(patient, document_type).page(query)).total
    if total is None:
        raise CommandError(f"MongoDB does not get done with counting {document_type.name}; say where to --start")
    return total
