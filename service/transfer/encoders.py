"""The encoder of each format: all that a worker process needs of it."""

from collections.abc import Callable, Mapping

from service.transfer.csv_encoder import csv_encoder
from service.transfer.encoding import Encode, FileSpec, FormatName
from service.transfer.json_encoder import json_encoder, ndjson_encoder
from service.transfer.parquet_encoder import parquet_encoder
from service.transfer.xlsx_encoder import xlsx_encoder

ENCODERS: Mapping[FormatName, Callable[[FileSpec], Encode]] = {
    "csv": csv_encoder,
    "xlsx": xlsx_encoder,
    "ndjson": ndjson_encoder,
    "json": json_encoder,
    "parquet": parquet_encoder,
}
