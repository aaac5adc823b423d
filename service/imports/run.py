"""One import from its file to its report: read all of it, check it, write it."""

from collections.abc import Sequence
from contextlib import aclosing, closing
from functools import cache

from service.documents.registry import DocumentType
from service.imports.create import Create
from service.imports.preparing import Lane, Preparing, prepare_in_order
from service.imports.report import Fate, Report
from service.imports.source import Part, Source, unpack
from service.imports.step import KeyMaker, Prepared, Step
from service.imports.upsert import Upsert
from service.store.bulk import BulkWriter
from service.store.uniqueness import UniquenessCheck


class ImportRun:
    """The documents of a file on their way into the database."""

    def __init__(
        self, preparing: Preparing, source: Source, lanes: Sequence[Lane] = (), *, timeout_seconds: float
    ) -> None:
        """`lanes` are other processes that prepare; without them it is done here, in a thread."""
        self._preparing = preparing
        self._type = DocumentType(preparing.document_class)
        self._query = preparing.query
        self._source = source
        self._lanes = lanes or [preparing.preparer()]
        self._timeout_seconds = timeout_seconds
        self.report = Report(source)
        """What is known so far."""
        self.has_written = False
        """Whether anything may have been."""

    async def run(self) -> None:
        """Do all that is asked.

        With `abort` nothing is written if a row is at fault beforehand, and no more after one that is refused while
        others are written. Raises DatabaseUnavailableError.
        """
        if self._query.is_dry_run or self._query.on_error == "abort":
            foreseen = Report(self._source)
            await self._pass(foreseen, is_dry=True)
            if foreseen.failed and not self._query.is_dry_run:
                foreseen.nothing_was_done()
            if foreseen.failed or self._query.is_dry_run:
                self.report = foreseen
                return
        self.has_written = True
        await self._pass(self.report, is_dry=False)

    async def _pass(self, report: Report, *, is_dry: bool) -> None:
        """All documents once; the next ones are prepared while MongoDB has the last."""
        with closing(self._step(is_dry=is_dry)) as step:
            async with aclosing(prepare_in_order(self._source, self._lanes)) as parts:
                async for part, documents in parts:
                    self._note(report, part, documents, await step.apply(documents))
                    if report.failed and not is_dry and self._query.on_error == "abort":
                        break

    def _note(self, report: Report, part: Part, documents: Sequence[Prepared], fates: Sequence[Fate]) -> None:
        """What became of a part; what failed is shown as it came, and the part is read once more if it has to be."""
        read_again = cache(lambda: self._source.decoding.decode(part.ordinal, unpack(part.rows)))
        for position, (item, fate) in enumerate(zip(documents, fates, strict=True)):
            if isinstance(fate, str):
                report.count(fate)
            else:
                report.add_failed(item.incoming or (read_again()[position] if report.has_room else None), fate)

    def _step(self, *, is_dry: bool) -> Step:
        writer = BulkWriter(self._type, self._timeout_seconds)
        check = UniquenessCheck(self._type, self._timeout_seconds) if is_dry else None
        if self._query.mode == "create":
            return Create(writer, check)
        view = self._query.view_of(self._type)
        return Upsert(view, writer, KeyMaker(self._preparing.seed), self._query.key or "id", check)
