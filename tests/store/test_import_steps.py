"""What an import makes of the documents that are there."""

import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import pytest
from bson import ObjectId
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.documents.registry import DocumentType
from service.documents.user import User
from service.imports.decoding import Incoming, LinesDecoding
from service.imports.preparing import Preparing
from service.imports.query import ImportQuery
from service.imports.report import Report
from service.imports.run import ImportRun
from service.imports.source import open_source
from service.imports.upsert import ATTEMPTS
from service.store.bulk import BulkWriter
from service.transfer.file_kinds import FileKind
from tests.conftest import CommandRecorder
from tests.everything import Everything

USERS, EVERYTHINGS = DocumentType(User), DocumentType(Everything)
SEED = b"123456789"
TIMEOUT_SECONDS = 10
ADA, BOB, EVE = ({"name": name, "email": f"{name.lower()}@example.org"} for name in ("Ada", "Bob", "Eve"))
Stored = dict[str, Any]
Rows = Sequence[Mapping[str, Any]]

pytestmark = pytest.mark.usefixtures("anonymous")


async def run(rows: Rows | str, document_type: DocumentType = USERS, seed: bytes = SEED, **options: Any) -> Report:
    """What becomes of an import of these documents, or of this CSV."""
    content = rows.encode() if isinstance(rows, str) else b"".join(orjson.dumps(row) + b"\n" for row in rows)
    query = ImportQuery("", **options)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        kind: FileKind = "csv" if isinstance(rows, str) else "ndjson"
        source = open_source(Path(file.name), kind, document_type, query, 10_000)
    with closing(source):
        preparing = Preparing(document_type.document_class, query, source.decoding.columns, seed)
        running = ImportRun(preparing, source, timeout_seconds=TIMEOUT_SECONDS)
        await running.run()
        return running.report


async def upsert(rows: Rows | str, key: str | None = "email", **options: Any) -> Report:
    return await run(rows, mode="upsert", key=key, **options)


async def stored(document_type: DocumentType = USERS) -> list[Stored]:
    """All documents, the first inserted first."""
    found = await document_type.document_class.get_pymongo_collection().find(sort=[("$natural", 1)]).to_list()
    return [dict(document) for document in found]


def counts(report: Report) -> dict[str, int]:
    """Those that are not zero, without the rows."""
    return {name: count for name, count in report.counts().items() if count and name != "rows"}


def failures(report: Report) -> list[tuple[int, list[tuple[str | None, str]]]]:
    """The rows that failed, each with the columns and the codes of what is wrong."""
    return [(row["row"], [(error["column"], error["code"]) for error in row["errors"]]) for row in report.failed_rows]


def before_each(
    monkeypatch: pytest.MonkeyPatch, method: str, meanwhile: Callable[[], Awaitable[Any]], times: int = 1
) -> None:
    """Let something happen right before documents are written, the first few times."""
    write = getattr(BulkWriter, method)
    left = [None] * times

    async def later(self: BulkWriter, documents: Any) -> Any:
        if left:
            left.pop()
            await meanwhile()
        return await write(self, documents)

    monkeypatch.setattr(BulkWriter, method, later)


async def change(present_email: str, **values: Any) -> None:
    """What somebody else writes."""
    await User.get_pymongo_collection().update_one({"email": present_email}, {"$set": values, "$inc": {"revision": 1}})


async def write_bare(email: str) -> None:
    """What somebody else writes by hand, past the validator."""
    await User.get_pymongo_collection().insert_one({"email": email}, bypass_document_validation=True)


# New documents


async def test_every_row_is_a_new_document_whose_id_tells_which_row_it_was() -> None:
    report = await run([ADA, BOB])

    assert counts(report) == {"created": 2}
    found = await stored()
    assert [document["_id"] for document in found] == [ObjectId(SEED + bytes([0, 0, row])) for row in (1, 2)]
    assert [(document["name"], document["revision"], document["tags"]) for document in found] == [
        ("Ada", 1, []),
        ("Bob", 1, []),
    ]


async def test_what_an_attempt_before_has_written_is_not_written_again() -> None:
    await run([ADA, BOB])
    await change("bob@example.org", age=7)
    before = await stored()

    report = await run([ADA, BOB, EVE])

    assert counts(report) == {"created": 1, "unchanged": 2}
    assert (await stored())[:2] == before


async def test_the_same_rows_of_another_import_are_refused() -> None:
    await run([ADA])

    report = await run([ADA, BOB], seed=b"987654321", on_error="skip")

    assert counts(report) == {"created": 1, "failed": 1}
    assert failures(report) == [(1, [("/email", "duplicate_value")])]


async def test_nothing_is_written_unless_every_row_is_good() -> None:
    await run([ADA])
    rows = [BOB, {"name": "", "email": "x"}, ADA, EVE, EVE, {}]

    report = await run(rows, seed=b"987654321")

    assert counts(report) == {"failed": 4}
    assert failures(report) == [
        (2, [("/name", "string_too_short"), ("/email", "value_error")]),
        (3, [("/email", "duplicate_value")]),
        (5, [("/email", "duplicate_value")]),
        (6, [("/name", "missing"), ("/email", "missing")]),
    ]
    assert [document["name"] for document in await stored()] == ["Ada"]


async def test_what_is_taken_while_rows_are_checked_is_reported_with_what_was_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before_each(monkeypatch, "insert", lambda: write_bare(BOB["email"]))

    report = await run([ADA, BOB, EVE])

    assert counts(report) == {"created": 2, "failed": 1}
    assert failures(report) == [(2, [("/email", "duplicate_value")])]
    assert [document.get("name") for document in await stored()] == [None, "Ada", "Eve"]


async def test_after_a_row_was_refused_no_further_part_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    before_each(monkeypatch, "insert", lambda: write_bare(BOB["email"]))
    many = [{"name": "n", "email": f"{number}@example.org"} for number in range(1200)]

    report = await run([BOB, *many])

    assert counts(report) == {"created": 499, "failed": 1}
    assert len(await stored()) == 500


async def test_a_dry_run_sends_no_write(recorder: CommandRecorder) -> None:
    await run([ADA])
    recorder.commands.clear()

    created = await run([BOB], is_dry_run=True, seed=b"987654321")
    updated = await upsert([ADA | {"age": 1}, EVE], is_dry_run=True)

    assert (counts(created), counts(updated)) == ({"created": 1}, {"created": 1, "updated": 1})
    assert set(recorder.names) == {"find"}


async def test_a_row_that_cannot_be_read_has_no_other_fault() -> None:
    csv = "name,email,age\r\nAda,ada@example.org\r\nBob,bob@example.org,x\r\n"

    report = await run(csv, on_error="skip")

    assert failures(report) == [(2, [(None, "row_length")]), (3, [("age", "int_parsing")])]


async def test_what_a_cell_may_not_hold_is_not_missing_too() -> None:
    csv = "code,left,right,integer\r\na,x,2,\r\n,1,2,y\r\n"

    report = await run(csv, EVERYTHINGS, on_error="skip")

    assert failures(report) == [
        (2, [("left", "int_parsing")]),
        (3, [("integer", "int_parsing"), ("code", "missing")]),
    ]


# Documents that are there


async def test_only_what_a_file_changes_is_written() -> None:
    await run([ADA | {"age": 1, "tags": ["x"], "profile": {"bio": "b", "phone": "1"}}, BOB])
    before = await stored()

    report = await upsert("email,age,profile.bio\r\nADA@example.org,2,c\r\nbob@example.org,,\r\neve@example.org,3,\r\n")

    assert counts(report) == {"failed": 1}  # a new one needs a name
    report = await upsert("email,age,profile.bio\r\nADA@example.org,2,c\r\nbob@example.org,,\r\n")
    assert counts(report) == {"updated": 1, "unchanged": 1}
    ada, bob = await stored()
    assert bob == before[1]
    changed = {name: value for name, value in ada.items() if value != before[0][name]}
    assert changed.pop("updated_at") >= before[0]["updated_at"]
    assert changed == {"age": 2, "revision": 2, "profile": {**before[0]["profile"], "bio": "c"}}


async def test_the_same_file_again_changes_nothing() -> None:
    file: Rows = [ADA | {"age": 1, "profile": {"birthday": "2000-01-01", "addresses": []}}, BOB]
    first = await upsert(file)
    before = await stored()

    second = await upsert(file, seed=b"987654321")

    assert (counts(first), counts(second)) == ({"created": 2}, {"unchanged": 2})
    assert await stored() == before


async def test_a_file_that_broke_off_is_taken_up() -> None:
    await upsert([ADA | {"age": 1}, BOB])

    report = await upsert([ADA | {"age": 1}, BOB, EVE])

    assert counts(report) == {"created": 1, "unchanged": 2}
    assert [document["revision"] for document in await stored()] == [1, 1, 1]


async def test_a_document_written_by_hand_is_completed() -> None:
    await User.get_pymongo_collection().insert_one(
        {"email": "ada@example.org", "name": "Ada", "odd": 1}, bypass_document_validation=True
    )

    report = await upsert([{"email": "ada@example.org", "age": 3}])

    [ada] = await stored()
    assert counts(report) == {"updated": 1}
    assert (ada["age"], ada["tags"], ada["revision"], "odd" in ada) == (3, [], 1, False)


async def test_a_key_that_comes_twice_is_refused_the_second_time() -> None:
    await run([ADA])

    report = await upsert([ADA | {"age": 1}, {"email": "ADA@example.org", "age": 2}, BOB, BOB], on_error="skip")

    assert counts(report) == {"updated": 1, "created": 1, "failed": 2}
    assert failures(report) == [(2, [("/email", "duplicate_value")]), (4, [("/email", "duplicate_value")])]
    assert [document["age"] for document in await stored()] == [1, None]


async def test_a_row_without_its_key_is_at_fault() -> None:
    report = await upsert("email,name\r\n,Ada\r\n", on_error="skip")

    assert failures(report) == [(2, [("email", "missing_key")])]


async def test_a_row_finds_its_document_by_id_and_may_change_what_is_unique() -> None:
    await run([ADA, BOB])
    [ada, bob] = await stored()
    unknown = "0123456789abcdef01234567"
    rows = [
        {"id": str(ada["_id"]), "email": "new@example.org"},
        {"id": unknown, **EVE},
        {"name": "Zoe", "email": "zoe@example.org"},
        {"id": "nonsense", **EVE},
    ]

    report = await upsert(rows, key=None, on_error="skip", seed=b"987654321")

    assert counts(report) == {"created": 2, "updated": 1, "failed": 1}
    assert failures(report) == [(4, [("/id", "invalid_key_value")])]
    found = {str(document["_id"]): document["email"] for document in await stored()}
    zoe = ObjectId(b"987654321" + bytes([0, 0, 3]))
    assert found == {
        str(ada["_id"]): "new@example.org",
        str(bob["_id"]): "bob@example.org",
        unknown: "eve@example.org",
        str(zoe): "zoe@example.org",
    }


@pytest.mark.parametrize("cell", ["", '""'])
async def test_an_empty_id_is_that_of_a_new_document(cell: str) -> None:
    file = f"id,name,email\r\n{cell},Ada,ada@example.org\r\n{cell},Bob,bob@example.org\r\n"

    assert counts(await upsert(file, key="id")) == {"created": 2}
    assert counts(await upsert(file, key="id")) == {"unchanged": 2}


# Others who write at the same time


async def test_what_others_change_between_reading_and_writing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    await run([ADA, BOB])
    before_each(monkeypatch, "replace", lambda: change("ada@example.org", tags=["theirs"]))

    report = await upsert([ADA | {"age": 1}, BOB | {"age": 2}])

    assert counts(report) == {"updated": 2}
    ada, bob = await stored()
    assert (ada["age"], ada["tags"], ada["revision"]) == (1, ["theirs"], 3)
    assert (bob["age"], bob["revision"]) == (2, 2)


async def test_what_others_delete_between_reading_and_writing_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    await run([ADA, BOB])
    before_each(monkeypatch, "replace", lambda: User.get_pymongo_collection().delete_one({"name": "Ada"}))

    report = await upsert([ADA | {"age": 1}, BOB | {"age": 2}], seed=b"987654321")

    assert counts(report) == {"created": 1, "updated": 1}
    assert {document["name"]: document["age"] for document in await stored()} == {"Ada": 1, "Bob": 2}


async def test_what_others_write_under_the_same_id_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    key = ObjectId()
    before_each(monkeypatch, "insert", lambda: User.get_pymongo_collection().insert_one({"_id": key, **BOB}))

    report = await upsert([{"id": str(key), **BOB, "age": 1}], key="id")

    assert counts(report) == {"updated": 1}
    assert [(document["age"], document["revision"]) for document in await stored()] == [(1, 1)]


async def test_who_is_always_overtaken_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    await run([ADA, BOB])
    before_each(monkeypatch, "replace", lambda: change("ada@example.org"), times=ATTEMPTS)

    report = await upsert([ADA | {"age": 1}, BOB | {"age": 2}], on_error="skip")

    assert failures(report) == [(1, [(None, "write_conflict")])]
    assert counts(report) == {"updated": 1, "failed": 1}
    assert [document["age"] for document in await stored()] == [None, 2]


# What is foreseen


def codes_of(report: Report) -> list[tuple[int, set[str]]]:
    """The rows that failed, and why: MongoDB names the first index that refuses a document, a dry run all."""
    return [(row, {code for _, code in errors}) for row, errors in failures(report)]


IDS = [f"{number:024x}" for number in range(4)]
there = [
    {"id": key, "code": code, "left": 1, "right": right}
    for key, code, right in zip(IDS, "abc", (2, 3, 4), strict=False)
]
names = {"code": st.sampled_from("abcd"), "left": st.sampled_from([1, 2]), "right": st.sampled_from([2, 3, 4, 5])}
rows = (
    st.fixed_dictionaries({"id": st.sampled_from(IDS)}, optional={"code": names["code"], "limit": st.integers(0, 1)})
    | st.fixed_dictionaries({"id": st.sampled_from(IDS), **names})
    | st.fixed_dictionaries(names, optional={"id": st.just("nonsense"), "text": st.integers(0, 1)})
)


@pytest.mark.parametrize(("mode", "key"), [("create", None), ("upsert", "id"), ("upsert", "code")])
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(present=st.integers(0, 3), file=st.lists(rows, min_size=1, max_size=6))
async def test_what_is_foreseen_is_what_happens(mode: Any, key: str | None, present: int, file: Rows) -> None:
    await Everything.get_pymongo_collection().delete_many({})
    if present:
        await run(there[:present], EVERYTHINGS, mode="upsert", key="id")
    before = await stored(EVERYTHINGS)

    foreseen = await run(file, EVERYTHINGS, mode=mode, key=key, on_error="skip", is_dry_run=True)
    untouched = await stored(EVERYTHINGS)
    happened = await run(file, EVERYTHINGS, mode=mode, key=key, on_error="skip")

    assert untouched == before
    assert foreseen.counts() == happened.counts()
    assert codes_of(foreseen) == codes_of(happened)
    after = await stored(EVERYTHINGS)
    assert len(after) - len(before) == happened.counts()["created"]
    revisions = {document["_id"]: document["revision"] for document in before}
    raised = sum(document["revision"] - revisions.get(document["_id"], 1) for document in after)
    assert raised == happened.counts()["updated"]


@pytest.mark.parametrize(
    ("taking", "fate"),
    [({"id": IDS[1], "code": "a"}, {"updated": 2}), ({"id": IDS[3], "code": "a", "left": 5, "right": 6}, None)],
    ids=["changed", "new"],
)
async def test_what_one_row_gives_up_another_may_have_if_it_is_written_later(
    taking: Stored, fate: dict[str, int] | None
) -> None:
    await run(there, EVERYTHINGS, mode="upsert", key="id")
    file = [{"id": IDS[0], "code": "d"}, taking]  # new documents come first, whatever the order of the rows

    foreseen = await run(file, EVERYTHINGS, mode="upsert", key="id", on_error="skip", is_dry_run=True)
    happened = await run(file, EVERYTHINGS, mode="upsert", key="id", on_error="skip")

    assert counts(foreseen) == counts(happened) == (fate or {"updated": 1, "failed": 1})


async def test_a_row_whose_document_got_another_key_since_it_was_written_is_done() -> None:
    await upsert([ADA, BOB])
    await change("ada@example.org", email="other@example.org")

    foreseen = await upsert([ADA, BOB], is_dry_run=True)
    happened = await upsert([ADA, BOB])

    assert counts(foreseen) == counts(happened) == {"unchanged": 2}
    assert len(await stored()) == 2


async def test_a_part_is_read_once_more_however_many_of_its_rows_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    people = [{"name": "n", "email": f"{number}@example.org"} for number in range(100)]
    await run(people)
    decode, calls = LinesDecoding.decode, count()

    def counted(self: LinesDecoding, ordinal: int, rows: Sequence[tuple[int, bytes]]) -> list[Incoming]:
        next(calls)
        return decode(self, ordinal, rows)

    monkeypatch.setattr(LinesDecoding, "decode", counted)
    report = await run(people, seed=b"987654321", on_error="skip")

    assert counts(report) == {"failed": 100}
    assert next(calls) == 2
