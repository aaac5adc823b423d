"""A real mongod for the whole run, the service over it, and a caller for each test."""

import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from functools import cache, partial
from typing import Any

import httpx
import hypothesis
import pytest
import pytest_socket
from beanie import Document, PydanticObjectId
from fastapi import FastAPI
from pydantic import SecretStr
from pymongo import monitoring
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent
from starlette.types import Receive, Scope, Send

from service.api.dependencies import Services
from service.app import create_app
from service.auth import accounts, passwords
from service.auth.accounts import Account
from service.auth.passwords import PasswordHasher
from service.auth.sessions import Session
from service.auth.standing import RevokedToken
from service.documents.registry import DocumentType, check_types, registered_types
from service.settings import Settings
from service.store.audit_records import AuditEvent
from service.store.embedded import embedded_server
from service.store.export_records import Export
from service.store.import_records import Import
from service.store.quotas import QuotaCounter
from tests.everything import Everything

TYPES: tuple[DocumentType, ...] = (*registered_types(), *check_types([Everything]))
"""Every type that the contract is tested with."""

SECRET_KEY = "a secret key for the tests, 32 bytes and more"
ISSUER = "http://dossier"
DATABASE = "dossier-tests"
CALLER_ID = "00000000000000000000ca11"
ASKED_NOW_AND_THEN = {"accounts", "sessions", "revoked_tokens"}
"""Whether a caller is in good standing."""


class CommandRecorder(CommandListener):
    """Keeps the commands that are sent to MongoDB."""

    def __init__(self) -> None:
        self.commands: list[Mapping[str, Any]] = []

    def started(self, event: CommandStartedEvent) -> None:
        """Keep one."""
        if event.database_name == DATABASE and event.command.get("find") not in ASKED_NOW_AND_THEN:
            self.commands.append(event.command)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to keep."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to keep."""

    @property
    def names(self) -> list[str]:
        """What each command is called."""
        return [next(iter(command)) for command in self.commands]


RECORDER = CommandRecorder()
monitoring.register(RECORDER)


def pytest_configure(config: pytest.Config) -> None:
    """Where slow tests are left out, hypothesis tries fewer examples too, but for tests that say how many they need."""
    if config.getoption("markexpr") == "not slow":
        hypothesis.settings.register_profile("brief", parent=hypothesis.settings(), max_examples=25)
        hypothesis.settings.load_profile("brief")


def pytest_runtest_setup() -> None:
    """Nothing leaves this machine."""
    pytest_socket.socket_allow_hosts(["127.0.0.1", "::1"], allow_unix_socket=True)


@pytest.fixture(scope="session", autouse=True)
def _no_settings_from_outside() -> None:
    for name in list(os.environ):
        if name.startswith("DOSSIER_"):
            del os.environ[name]


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """Accounts are made in a moment: a hash costs next to nothing here, and the list of common passwords is kept.

    What they cost otherwise is tested in `unit/test_passwords.py` and with the program as a process.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(accounts, "PasswordHasher", partial(PasswordHasher, memory_kib=8))
        patch.setattr(passwords, "common_passwords", cache(passwords.common_passwords))
        yield


@pytest.fixture(scope="session")
def mongodb_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a mongod that lives as long as the tests."""
    with embedded_server(tmp_path_factory.mktemp("data")) as uri:
        yield uri


@pytest.fixture(scope="session")
def settings(mongodb_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Settings as an operator would give them, for a database of the tests' own.

    Between asynchronous tests the event loop stands still. A driver that listens to its server all the while, as by
    default, takes it for lost then, and cancels what is under way when the loop goes on; so it polls.
    """
    return Settings(
        _env_file=None,
        data_dir=tmp_path_factory.mktemp("unused"),
        mongodb_uri=SecretStr(f"{mongodb_uri}&serverMonitoringMode=poll"),
        mongodb_database=DATABASE,
        secret_key=SecretStr(SECRET_KEY),
        public_url=ISSUER,
        log_level="warning",
    )


@pytest.fixture(scope="session")
def app(settings: Settings) -> FastAPI:
    """The service with every type, and the tests' own."""
    return create_app(settings, TYPES)


@pytest.fixture(scope="session")
async def services(app: FastAPI) -> AsyncIterator[Services]:
    """The parts of the running service."""
    async with app.router.lifespan_context(app) as state:
        assert state is not None
        yield state["services"]


@pytest.fixture
async def _empty_database(services: Services) -> None:
    own: list[type[Document]] = [Account, Session, RevokedToken, Export, Import, AuditEvent, QuotaCounter]
    classes = [*(document_type.document_class for document_type in TYPES), *own]
    for document_class in classes:
        await document_class.get_pymongo_collection().delete_many({})


def client_of(app: FastAPI, services: Services) -> httpx.AsyncClient:
    """An HTTP client of the service, which is made of these parts."""

    async def with_state(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "state": {"services": services}}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(app=with_state), base_url="http://dossier")


@pytest.fixture
async def anonymous(app: FastAPI, services: Services, _empty_database: None) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the service over an empty database, without a token."""
    async with client_of(app, services) as client:
        yield client


@pytest.fixture
async def as_caller(services: Services, anonymous: httpx.AsyncClient) -> Callable[[Iterable[str]], None]:
    """Says what scopes the caller of the next requests holds."""
    await Account(id=PydanticObjectId(CALLER_ID), username="tester", password_hash="!", scopes=["*"]).insert()

    def become(scopes: Iterable[str]) -> None:
        token = services.signer.issue(CALLER_ID, "tester", "tests", list(scopes))
        anonymous.headers["Authorization"] = f"Bearer {token}"

    return become


@pytest.fixture
def client(
    request: pytest.FixtureRequest,
    services: Services,
    anonymous: httpx.AsyncClient,
    as_caller: Callable[[Iterable[str]], None],
) -> httpx.AsyncClient:
    """An HTTP client whose caller holds the mark's scopes, or all."""
    mark = request.node.get_closest_marker("caller")
    as_caller(mark.kwargs["scopes"] if mark else services.scopes)
    return anonymous


@pytest.fixture
def unprivileged(services: Services, as_caller: Callable[[Iterable[str]], None]) -> Callable[[], None]:
    """Lets the caller of the next requests do everything but see private fields."""
    return lambda: as_caller(scope for scope in services.scopes if not scope.endswith(":private"))


@pytest.fixture
def privileged(services: Services, as_caller: Callable[[Iterable[str]], None]) -> Callable[[], None]:
    """Lets the caller of the next requests do everything."""
    return lambda: as_caller(services.scopes)


@pytest.fixture
def recorder(anonymous: httpx.AsyncClient) -> CommandRecorder:
    """The commands that this test's requests send to MongoDB."""
    RECORDER.commands.clear()
    return RECORDER
