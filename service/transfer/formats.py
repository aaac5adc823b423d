"""The kinds of file there are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service.transfer.csv_encoder import csv_file
from service.transfer.encoding import File, FileSpec, FormatName
from service.transfer.json_encoder import JsonFile, ndjson_file
from service.transfer.parquet_file import ParquetFile, check_parquet
from service.transfer.workbook import XlsxFile


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of file."""

    media_type: str
    file: Callable[[FileSpec], File]
    is_delimited: bool = False
    """Whether it has the options of CSV."""
    is_compressed: bool = False
    """Whether it is compressed already."""
    check: Callable[[], None] = lambda: None
    """Raises MissingLibraryError where what it needs is not installed."""


FORMATS: Mapping[FormatName, Format] = {
    "csv": Format("text/csv; charset=utf-8", csv_file, is_delimited=True),
    "xlsx": Format("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", XlsxFile, is_compressed=True),
    "ndjson": Format("application/x-ndjson", ndjson_file),
    "json": Format("application/json", JsonFile),
    "parquet": Format("application/vnd.apache.parquet", ParquetFile, is_compressed=True, check=check_parquet),
}
"""By the name that stands in the address, which is the file's extension too."""
