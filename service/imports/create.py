"""Every document of a file is a new one."""

from collections.abc import Sequence

from service.imports.report import Fate
from service.imports.step import Prepared, foresee_new
from service.store.bulk import BulkWriter
from service.store.uniqueness import UniquenessCheck


class Create:
    """Inserts them. One that an earlier attempt has inserted is unchanged."""

    def __init__(self, writer: BulkWriter, check: UniquenessCheck | None) -> None:
        """With a `check` nothing is written, and it says what would be refused."""
        self._writer = writer
        self._check = check

    async def apply(self, part: Sequence[Prepared]) -> list[Fate]:
        """Insert those that are good."""
        good = [item for item in part if not item.faults]
        fates = iter(await (self._insert(good) if self._check is None else self._foresee(good, self._check)))
        return [item.faults or next(fates) for item in part]

    def close(self) -> None:
        """Forget what came before."""
        if self._check is not None:
            self._check.close()

    async def _insert(self, part: Sequence[Prepared]) -> list[Fate]:
        if not part:
            return []
        inserted = await self._writer.insert([item.encoded for item in part])
        return [
            inserted.refusals.get(position) or ("unchanged" if position in inserted.present else "created")
            for position in range(len(part))
        ]

    async def _foresee(self, part: Sequence[Prepared], check: UniquenessCheck) -> list[Fate]:
        return await foresee_new(self._writer, check, [(item.row, item.stored()) for item in part])
