"""Arrow's columns as a Parquet file, streamed: its footer, which knows where everything is, comes last."""

import re
from datetime import datetime
from importlib.util import find_spec
from io import BytesIO
from typing import TYPE_CHECKING

from service.documents.json_text import time_text
from service.transfer.encoding import About, FileSpec, Piece
from service.transfer.parquet_encoder import ArrowColumns

if TYPE_CHECKING:
    import pyarrow as pa
    from pyarrow import parquet

COMPRESSION = "zstd"
"""Half the size of Snappy for a sixth more time, and every reader of recent years has it."""

GROUP_ROWS = 20_000
"""Readers take a group at a time, and each core one of its own; each also costs a little of the footer."""

GROUP_BYTES = 16 * 1024 * 1024
"""A group of long rows ends earlier, so that memory stays as it is."""


class MissingLibraryError(Exception):
    """A library is not installed, and its text says how to install it."""


def check_parquet() -> None:
    """Look whether Parquet can be made, without loading what makes it. Raises MissingLibraryError."""
    if find_spec("pyarrow") is None:
        raise MissingLibraryError("Parquet needs pyarrow, which is not installed: run `scripts/install parquet`")


class ParquetFile:
    """Puts a Parquet file together: pieces are kept until they make a row group."""

    _writer: "parquet.ParquetWriter"
    _schema: "pa.Schema"

    def __init__(self, spec: FileSpec) -> None:
        self._spec = spec
        self._sink = BytesIO()
        self._batches: list[pa.RecordBatch] = []
        self._group_rows = 0
        self._group_bytes = 0

    def start(self) -> bytes:
        """The magic bytes."""
        from pyarrow import parquet  # noqa: PLC0415 - see parquet_encoder

        self._schema = ArrowColumns(self._spec).schema
        self._writer = parquet.ParquetWriter(self._sink, self._schema, compression=COMPRESSION)
        return self._drained()

    def add(self, piece: Piece) -> bytes:
        """A row group, if there are rows enough for one now."""
        from pyarrow import ipc  # noqa: PLC0415 - see parquet_encoder

        self._batches.append(ipc.read_record_batch(piece.data, self._schema))
        self._group_rows += piece.rows
        self._group_bytes += len(piece.data)
        if self._group_rows >= GROUP_ROWS or self._group_bytes >= GROUP_BYTES:
            self._write_group()
        return self._drained()

    def end(self, about: About) -> bytes:
        """The last row group, and the footer, which tells about the file too."""
        self._write_group()
        self._writer.add_key_value_metadata(_metadata(about))
        self._writer.close()
        return self._drained()

    def _write_group(self) -> None:
        if self._batches:
            import pyarrow as pa  # noqa: PLC0415 - see parquet_encoder

            self._writer.write_table(pa.Table.from_batches(self._batches), row_group_size=self._group_rows)
            self._batches = []
            self._group_rows = self._group_bytes = 0

    def _drained(self) -> bytes:
        """What the writer wrote since the last time; it counts its offsets by itself."""
        data = self._sink.getvalue()
        self._sink.seek(0)
        self._sink.truncate()
        return data


def _metadata(about: About) -> dict[str, str]:
    """`dossier.asked_for`, `dossier.started_utc` and so on."""
    return {
        f"dossier.{'_'.join(re.findall('[a-z]+', name.lower()))}": time_text(value)
        if isinstance(value, datetime)
        else str(value)
        for name, value in about.lines()
    }
