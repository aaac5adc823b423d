"""Many writes at once, when some are refused, and when MongoDB fails in between."""

from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson import ObjectId
from pymongo.errors import AutoReconnect, BulkWriteError, WriteError

from service.documents.base import now
from service.documents.registry import DocumentType
from service.documents.user import User
from service.errors import DatabaseUnavailableError, InternalError
from service.store import bulk
from service.store.bulk import BulkWriter, Replacement
from tests.conftest import CommandRecorder

USERS = DocumentType(User)
FIELDS: dict[str, Any] = {"age": None, "is_active": True, "tags": [], "profile": None}

pytestmark = pytest.mark.usefixtures("anonymous")


@pytest.fixture
def writer() -> BulkWriter:
    """Writes users."""
    return BulkWriter(USERS, timeout_seconds=10)


def user(number: int, **values: Any) -> dict[str, Any]:
    """A document as it is stored."""
    moment = now().replace(tzinfo=None)
    own = {"name": f"n{number}", "email": f"{number}@example.org", **FIELDS}
    times = {"created_at": moment, "updated_at": moment, "revision": 1}
    return {"_id": ObjectId(number.to_bytes(12, "big")), **own, **times, **values}


async def insert(writer: BulkWriter, *documents: dict[str, Any]) -> Any:
    return await writer.insert([bson.encode(document) for document in documents])


async def names() -> list[str]:
    """Of all documents, by id."""
    found = await User.get_pymongo_collection().find(sort=[("_id", 1)]).to_list()
    return [document["name"] for document in found]


def replaced(number: int, revision: int = 1, **values: Any) -> Replacement:
    own = {"name": f"new{number}", "email": f"{number}@example.org", **FIELDS, **values}
    return Replacement(ObjectId(number.to_bytes(12, "big")), revision, own)


def fail_after(
    monkeypatch: pytest.MonkeyPatch, writer: BulkWriter, method: str, error: Callable[[], Exception]
) -> None:
    """Let the first call do its work, and its answer get lost."""
    collection = writer._collection
    write = getattr(collection, method)
    calls: list[str] = []

    async def lose_first(*args: Any, **options: Any) -> Any:
        calls.append(method)
        answer = await write(*args, **options)
        if len(calls) == 1:
            raise error()
        return answer

    class Losing:
        def __getattr__(self, name: str) -> Any:
            return lose_first if name == method else getattr(collection, name)

    monkeypatch.setattr(writer, "_collection", Losing())


async def test_what_is_refused_keeps_nothing_else_from_being_written(writer: BulkWriter) -> None:
    await insert(writer, user(1))

    inserted = await insert(writer, user(2), user(1, name="again"), user(3, email="1@example.org"), user(4))

    assert inserted.present == {1}
    [(position, [fault])] = inserted.refusals.items()
    assert (position, fault.code, fault.pointer) == (2, "duplicate_value", "/email")
    assert await names() == ["n1", "n2", "n4"]


async def test_what_the_validator_refuses_is_the_fault_of_its_row(writer: BulkWriter) -> None:
    odd = {"addresses": [{"street": "s", "city": "c", "country": "GB", "planet": "Mars"}]}

    inserted = await insert(writer, user(1), user(2, age="old"), user(3, profile=odd))
    refusals, _ = await writer.replace([replaced(1, age=-1)])

    assert {
        position: [(one.code, one.pointer) for one in faults] for position, faults in inserted.refusals.items()
    } == {
        1: [("refused_by_validator", "/age")],
        2: [("refused_by_validator", "/profile/addresses/0/planet")],
    }
    assert [fault.pointer for fault in refusals[0]] == ["/age"]
    assert await names() == ["n1"]


async def test_of_two_that_are_equal_the_first_is_written(writer: BulkWriter) -> None:
    inserted = await insert(writer, user(1), user(2, email="1@example.org"))

    assert list(inserted.refusals) == [1]
    assert await names() == ["n1"]


async def test_a_part_is_inserted_by_one_command(writer: BulkWriter, recorder: CommandRecorder) -> None:
    await insert(writer, *map(user, range(500)))
    assert recorder.names == ["insert"]

    recorder.commands.clear()
    await writer.replace([replaced(number) for number in range(500)])
    assert recorder.names == ["update"]


async def test_documents_are_found_as_they_are_stored(writer: BulkWriter) -> None:
    await insert(writer, user(1), user(2))
    await User.get_pymongo_collection().insert_one(user(3, odd=1), bypass_document_validation=True)

    by_email = await writer.find("email", ["1@example.org", "3@example.org", "4@example.org"])
    by_id = await writer.find("id", [user(2)["_id"]])

    assert sorted(document["name"] for document in by_email) == ["n1", "n3"]
    assert [document["name"] for document in by_id] == ["n2"]
    assert all("odd" not in document for document in by_email)


async def test_a_document_is_replaced_if_it_is_as_it_was_read(writer: BulkWriter) -> None:
    await insert(writer, user(1), user(2, revision=4), user(3))

    refusals, is_certain = await writer.replace([replaced(1), replaced(2), replaced(3)])

    assert (refusals, is_certain) == ({}, False)
    found = {document["name"]: document["revision"] async for document in User.get_pymongo_collection().find()}
    assert found == {"new1": 2, "n2": 4, "new3": 2}


async def test_it_is_certain_that_all_were_written_or_refused(writer: BulkWriter) -> None:
    await insert(writer, user(1), user(2))

    refusals, is_certain = await writer.replace([replaced(1, email="2@example.org"), replaced(2)])

    assert is_certain
    [(position, [fault])] = refusals.items()
    assert (position, fault.code, fault.pointer) == (0, "duplicate_value", "/email")
    assert await names() == ["n1", "new2"]


async def test_a_replacement_is_no_expression(writer: BulkWriter) -> None:
    await insert(writer, user(1))

    await writer.replace([replaced(1, name="$email", tags=["$$ROOT"])])

    [found] = await writer.find("email", ["1@example.org"])
    assert (found["name"], found["tags"]) == ("$email", ["$$ROOT"])


@pytest.mark.parametrize("lost", [DatabaseUnavailableError, lambda: AutoReconnect("gone")], ids=["ours", "driver's"])
async def test_an_insert_whose_answer_was_lost_is_done_once(
    monkeypatch: pytest.MonkeyPatch, writer: BulkWriter, lost: Callable[[], Exception]
) -> None:
    fail_after(monkeypatch, writer, "insert_many", lost)

    inserted = await insert(writer, user(1), user(2))

    assert (inserted.refusals, inserted.present) == ({}, frozenset())
    assert await names() == ["n1", "n2"]


async def test_a_replacement_whose_answer_was_lost_is_done_once(
    monkeypatch: pytest.MonkeyPatch, writer: BulkWriter
) -> None:
    await insert(writer, user(1), user(2))
    fail_after(monkeypatch, writer, "bulk_write", DatabaseUnavailableError)

    refusals, is_certain = await writer.replace([replaced(1), replaced(2)])

    assert (refusals, is_certain) == ({}, False)
    assert [document["revision"] async for document in User.get_pymongo_collection().find()] == [2, 2]


async def test_what_no_majority_has_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch, writer: BulkWriter) -> None:
    def no_majority() -> Exception:
        return BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64, "errmsg": "timeout"}]})

    fail_after(monkeypatch, writer, "insert_many", no_majority)

    inserted = await insert(writer, user(1))

    assert (inserted.refusals, inserted.present) == ({}, frozenset())
    assert await names() == ["n1"]


async def test_who_gets_no_answer_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch, writer: BulkWriter) -> None:
    monkeypatch.setattr(bulk, "RESUME_SECONDS", 0.1)

    class Gone:
        async def insert_many(self, *_args: Any, **_options: Any) -> None:
            raise AutoReconnect("gone")

    monkeypatch.setattr(writer, "_collection", Gone())

    with pytest.raises(DatabaseUnavailableError):
        await insert(writer, user(1))


async def test_an_error_that_is_nobodys_fault_here_is_no_fault_of_a_row(
    monkeypatch: pytest.MonkeyPatch, writer: BulkWriter
) -> None:
    def odd() -> Exception:
        return BulkWriteError({"writeErrors": [{"index": 0, "code": 1, "errmsg": "odd"}]})

    fail_after(monkeypatch, writer, "insert_many", odd)

    with pytest.raises(InternalError) as raised:
        await insert(writer, user(1))
    assert isinstance(raised.value.__cause__, WriteError)
