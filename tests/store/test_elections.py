"""Right after an election every read waits for what was acknowledged before, whoever it is for."""

from collections.abc import Awaitable, Callable

import pytest
from beanie import PydanticObjectId
from bson import ObjectId

from service.api.dependencies import Services
from service.auth.refresh_tokens import RefreshTokenMaker
from service.auth.tokens import Caller
from service.documents.registry import DocumentType
from service.documents.user import User
from service.store.bulk import BulkWriter
from service.store.elections import Elections
from service.store.import_records import ImportRecords
from service.store.uniqueness import UniquenessCheck
from tests import conftest
from tests.conftest import SECRET_KEY, CommandRecorder
from tests.signing_in import add_person

USERS = DocumentType(User)
KEY = str(ObjectId())
TIMEOUT_SECONDS = 10

Read = Callable[[Services], Awaitable[object]]


async def check_token(services: Services) -> None:
    """Whether a token without a session counts."""
    account = await services.accounts.get("ada")
    caller = Caller(str(account.id), "ada", frozenset(), "tests", token_id=str(ObjectId()))
    await services.standing.check(caller)


async def check_uniqueness(_services: Services) -> None:
    """Whether others have what a document has."""
    check = UniquenessCheck(USERS, TIMEOUT_SECONDS)
    await check.faults([(1, {"_id": ObjectId(), "email": "ada@example.org"})])
    check.close()


READS: dict[str, Read] = {
    "a session": lambda services: services.sessions.find(KEY),
    "a refresh token": lambda services: services.sessions.find_usable(
        RefreshTokenMaker(SECRET_KEY).make(PydanticObjectId(), 0)
    ),
    "a token": check_token,
    "an account": lambda services: services.accounts.find_active(KEY),
    "an account by its name": lambda services: services.accounts.has("ada"),
    "any account": lambda services: services.accounts.any(),
    "what an account may": lambda services: services.accounts.patterns_of(KEY),
    "any document": lambda services: services.repositories["users"].any(),
    "the documents that rows change": lambda _: BulkWriter(USERS, TIMEOUT_SECONDS).find("email", ["ada@example.org"]),
    "what others have": check_uniqueness,
    "an import's record": lambda _: ImportRecords(30, TIMEOUT_SECONDS).table(ObjectId()),
    "imports that run": lambda _: ImportRecords(30, TIMEOUT_SECONDS).bury_all(),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS.keys())
async def test_a_read_after_an_election_names_the_time_from_which_on_nothing_is_missed(
    services: Services, recorder: CommandRecorder, monkeypatch: pytest.MonkeyPatch, read: Read
) -> None:
    await add_person(services, "ada", "users:read")
    monkeypatch.setattr(conftest, "ASKED_NOW_AND_THEN", frozenset())
    # As if there were one before each read.
    always = property(lambda _self: None, lambda _self, _election: None)
    monkeypatch.setattr(Elections, "_settled", always, raising=False)
    recorder.commands.clear()

    await read(services)

    reads = [command for command in recorder.commands if "find" in command]
    assert reads
    assert [command["find"] for command in reads if "afterClusterTime" not in command["readConcern"]] == []
