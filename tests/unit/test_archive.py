"""A backup's file: whole and unchanged, or refused."""

import io
import json
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import bson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import InvalidFileError
from service.transfer.archive import Archive, ArchiveWriter, is_archive

MEBIBYTES = 16 * 1024 * 1024
USERS = [bson.encode({"_id": number, "name": "小中" * number, "bytes": bytes(number)}) for number in range(300)]


def written(**collections: list[bytes]) -> bytes:
    file = io.BytesIO()
    with ArchiveWriter(file) as archive:
        for name, documents in collections.items():
            with archive.collection(name) as add:
                for start in range(0, len(documents), 100):
                    batch = documents[start : start + 100]
                    assert add(b"".join(batch)) == len(batch)
        archive.finish(version="1", database="here", begun_at=datetime(2026, 11, 22, tzinfo=UTC))
    return file.getvalue()


WHOLE = written(items=[], users=USERS)


def opened(path: Path, content: bytes) -> Archive:
    path.write_bytes(content)
    return Archive(path)


def read(archive: Archive, name: str, count: int = 1000, max_bytes: int = MEBIBYTES) -> list[list[bytes]]:
    return [list(some) for some in archive.documents(name, count, max_bytes)]


def without(name: str, **others: Any) -> bytes:
    """The whole file with other members."""
    file = io.BytesIO()
    with ZipFile(io.BytesIO(WHOLE)) as old, ZipFile(file, "w") as new:
        for member in old.namelist():
            if member != name:
                new.writestr(member, old.read(member))
        for member, content in others.items():
            new.writestr(member, content)
    return file.getvalue()


def manifest() -> dict[str, Any]:
    with ZipFile(io.BytesIO(WHOLE)) as archive:
        found: dict[str, Any] = json.loads(archive.read("manifest.json"))
        return found


def test_what_is_written_is_read_as_it_was(tmp_path: Path) -> None:
    archive = opened(tmp_path / "backup", WHOLE)

    archive.check()
    assert {member.name: member.documents for member in archive.manifest.collections} == {"items": 0, "users": 300}
    assert archive.manifest.documents == 300
    assert read(archive, "items") == []
    assert read(archive, "users") == [USERS]
    assert is_archive(tmp_path / "backup")
    archive.close()


def test_documents_come_some_at_a_time(tmp_path: Path) -> None:
    archive = opened(tmp_path / "backup", WHOLE)

    by_count = read(archive, "users", count=70)
    by_size = read(archive, "users", max_bytes=5000)

    assert [len(some) for some in by_count] == [70, 70, 70, 70, 20]
    assert all(len(some) == 1 or sum(map(len, some)) <= 5000 for some in by_size)
    assert 5 < len(by_size) < 300
    for parts in (by_count, by_size, read(archive, "users", max_bytes=1)):
        assert [document for some in parts for document in some] == USERS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(0, len(WHOLE) - 1))
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(InvalidFileError):
        opened(tmp_path / "backup", WHOLE[:length])


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, len(WHOLE) - 1), bit=st.integers(0, 7))
def test_a_bit_that_changed_is_refused_or_changes_nothing(tmp_path: Path, position: int, bit: int) -> None:
    changed = bytearray(WHOLE)
    changed[position] ^= 1 << bit
    try:
        archive = opened(tmp_path / "backup", bytes(changed))
        archive.check()
    except InvalidFileError:
        return

    assert read(archive, "users") == [USERS]  # as of a member's date, which nobody reads
    assert [member.model_dump() for member in archive.manifest.collections] == manifest()["collections"]


def test_other_members_than_the_manifest_names_are_refused(tmp_path: Path) -> None:
    for content in (without("users.bson"), without("", **{"more.bson": b""}), without("manifest.json")):
        with pytest.raises(InvalidFileError):
            opened(tmp_path / "backup", content)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"format": "dossier-backup-2"}, id="another format"),
        pytest.param({"more": 1}, id="more than is known"),
        pytest.param({"begun_at": "yesterday"}, id="no moment"),
    ],
)
def test_a_manifest_of_another_kind_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    content = without("manifest.json", **{"manifest.json": json.dumps(manifest() | change)})

    with pytest.raises(InvalidFileError) as refused:
        opened(tmp_path / "backup", content)

    assert next(iter(change)) in refused.value.faults[0].message


@pytest.mark.parametrize(
    "documents",
    [
        pytest.param(USERS[:-1], id="one less"),
        pytest.param([*USERS, USERS[0]], id="one twice"),
        pytest.param([*USERS[:-1], USERS[0]], id="another"),
        pytest.param([*USERS, b"\x01"], id="no length"),
        pytest.param([*USERS, b"\xff\xff\xff\xff"], id="a length of 4 GiB"),
        pytest.param([*USERS, b"\x00\x00\x00\x00"], id="a length of nothing"),
    ],
)
def test_other_documents_than_were_written_are_refused(tmp_path: Path, documents: list[bytes]) -> None:
    archive = opened(tmp_path / "backup", without("users.bson", **{"users.bson": b"".join(documents)}))

    with pytest.raises(InvalidFileError, match="1 fault"):
        archive.check()


def test_a_writer_that_gave_up_leaves_no_backup(tmp_path: Path) -> None:
    file = io.BytesIO()
    with suppress(ZeroDivisionError), ArchiveWriter(file) as archive, archive.collection("users") as add:
        add(USERS[0])
        raise ZeroDivisionError

    with pytest.raises(InvalidFileError):
        opened(tmp_path / "backup", file.getvalue())
