"""What an import is asked to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from service.documents.registry import DocumentType
from service.documents.views import View
from service.errors import Fault, InvalidQueryError
from service.store.query import QueryString
from service.store.uniqueness import unique_field
from service.transfer.encoding import DELIMITERS
from service.transfer.file_kinds import FileKind

Mode = Literal["create", "upsert"]
MODES: tuple[Mode, ...] = ("create", "upsert")
OnError = Literal["abort", "skip"]
ON_ERROR: tuple[OnError, ...] = ("abort", "skip")


@dataclass(frozen=True, slots=True)
class ImportQuery:
    """How the rows of a file become documents."""

    text: str
    """As it was asked, escapes included."""
    mode: Mode = "create"
    key: str | None = None
    """`upsert`: the path of the field by which a row finds its document; None: `id`. Else only for what is exploded."""
    on_error: OnError = "abort"
    is_dry_run: bool = False
    explode: str | None = None
    """The array of scalars that has a row for each element."""
    delimiter: str | None = None
    """CSV: the character between cells; None: found out."""
    raw: bool = False
    """CSV: whether an apostrophe before what looks like a formula belongs to the text."""
    sheet: str | None = None
    """XLSX: the name of the sheet; None: the first."""
    is_masked: bool = False
    """Whether whoever asks sees masks in the place of private values."""

    def view_of(self, document_type: DocumentType) -> View:
        """The type as whoever asks sees it."""
        return document_type.masked if self.is_masked else document_type.whole


def key_fields(document_type: DocumentType) -> list[str]:
    """The fields that a row can find its document by."""
    unique = filter(None, map(unique_field, document_type.indexes))
    return ["id", *(path for path in unique if document_type.fields[path].is_sortable)]


def read_import_query(view: View, parameters: Sequence[tuple[str, str]], text: str) -> ImportQuery:
    """What a query string asks for. Raises InvalidQueryError or PrivateFieldError, with all its faults."""
    query = QueryString(view, parameters)
    keys = key_fields(view.document_type)
    key = query.text("key")
    if key is not None and not query.is_hidden("key", key) and key not in keys:
        query.refuse("key", "not_unique", f"one of {', '.join(keys)} is expected: no two documents have the same")
    delimiter = query.text("delimiter")
    if delimiter is not None and delimiter not in DELIMITERS:
        query.refuse("delimiter", "invalid_value", f"one of {', '.join(DELIMITERS)} is expected")
    asked = ImportQuery(
        text,
        mode=query.choice("mode", MODES, "create"),
        key=key,
        on_error=query.choice("on_error", ON_ERROR, "abort"),
        is_dry_run=query.boolean("dry_run"),
        explode=query.array("explode"),
        delimiter=DELIMITERS.get(delimiter or ""),  # type: ignore[call-overload]
        raw=query.boolean("raw"),
        sheet=query.text("sheet"),
        is_masked=view.is_masked,
    )
    query.refuse_others()
    query.finish()
    return asked


def check_kind(query: ImportQuery, kind: FileKind) -> None:
    """Refuse what means nothing for this kind of file. Raises InvalidQueryError with all that is so."""
    needless = {
        "sheet": query.sheet is not None and kind != "xlsx",
        "delimiter": query.delimiter is not None and kind != "csv",
        "raw": query.raw and kind != "csv",
        "explode": query.explode is not None and kind == "ndjson",
        "key": query.key is not None and query.mode == "create" and kind == "ndjson",
    }
    faults = [needless_parameter(name) for name, is_needless in needless.items() if is_needless]
    if faults:
        raise InvalidQueryError(faults)


def needless_parameter(name: str) -> Fault:
    """A parameter that would be ignored."""
    return Fault("needless_parameter", "this means nothing for such a file", parameter=name)
