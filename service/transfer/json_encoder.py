"""Documents as JSON: a line for each (NDJSON), or one array of all (RFC 8259)."""

from service.documents.batches import parts_of
from service.documents.json_text import dump_json
from service.documents.presenter import prune, tree_of
from service.transfer.encoding import About, Encode, FileSpec, Piece, PlainFile


def ndjson_encoder(spec: FileSpec) -> Encode:
    """Encodes documents with a line break after each."""
    return _encoder(spec, separator=b"\n", end=b"\n")


def json_encoder(spec: FileSpec) -> Encode:
    """Encodes documents with commas between them."""
    return _encoder(spec, separator=b",\n", end=b"")


def _encoder(spec: FileSpec, *, separator: bytes, end: bytes) -> Encode:
    table = spec.table()
    tree = tree_of(spec.paths)

    def encode(batch: bytes) -> list[Piece]:
        lines = [dump_json(prune(document, tree)) for part in parts_of(batch) for document in table.documents(part)]
        return [Piece(separator.join(lines) + end, len(lines))] if lines else []

    return encode


def ndjson_file(_spec: FileSpec) -> PlainFile:
    """Lines, and nothing around them."""
    return PlainFile()


class JsonFile:
    """One array."""

    def __init__(self, _spec: FileSpec) -> None:
        self._separator = b"\n"

    def start(self) -> bytes:
        """The bracket."""
        return b"["

    def add(self, piece: Piece) -> bytes:
        """The next documents, after a comma if there were some."""
        separator, self._separator = self._separator, b",\n"
        return separator + piece.data

    def end(self, about: About) -> bytes:  # noqa: ARG002 - File's signature
        """The other bracket."""
        return b"\n]\n"
