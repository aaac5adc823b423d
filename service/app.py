"""Puts the service together: the only module that knows every part."""

import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, nullcontext
from typing import TYPE_CHECKING, TypedDict

from fastapi import FastAPI

from service.api import accounts, audit, authentication, exports, health, imports, well_known
from service.api.dependencies import Services
from service.api.documents import document_router
from service.api.limits import BodyDeadlineMiddleware, ConcurrencyLimitMiddleware
from service.api.metrics import metrics_router
from service.api.openapi import install_openapi, serve_docs
from service.api.origins import AllowedHostsMiddleware, CrossOriginMiddleware
from service.api.rate_limits import RateLimit, RateLimitHeadersMiddleware
from service.api.security_headers import SecurityHeadersMiddleware
from service.auth.accounts import ACCOUNTS, Account, Accounts
from service.auth.administration import Administration
from service.auth.issuers import trusted_authorities
from service.auth.key_ring import KeyRing, open_key_ring
from service.auth.scopes import known_scopes
from service.auth.sessions import Session, Sessions
from service.auth.standing import RevokedToken, Standing
from service.auth.throttle import SignInThrottle
from service.auth.tokens import Authority, OwnAuthority, TokenSigner, TokenVerifier
from service.documents.registry import DocumentType, registered_types
from service.errors import StartupError, install_handlers
from service.exports import open_exporter
from service.imports.importer import open_importer
from service.observability.extras import extra
from service.observability.logs import configure_logging
from service.observability.readiness import Readiness, open_readiness
from service.observability.requests import RequestContextMiddleware
from service.observability.sentry import FailureReportMiddleware, FailureReports, open_failure_reports
from service.settings import Settings
from service.store.audit_records import AUDIT, AuditEvent, AuditTrail
from service.store.database import Database, Listener
from service.store.export_records import EXPORTS, Export
from service.store.import_records import IMPORTS, Import
from service.store.monitoring import CommandMetrics, PoolMetrics, PrimaryMetrics
from service.store.paging import CursorSigner
from service.store.preparation import open_ready_database
from service.store.quotas import QuotaCounter, Quotas
from service.store.repository import Limits, Repository
from service.store.slow_commands import SlowCommandLog

if TYPE_CHECKING:
    from service.observability.traces import Traces

GARBAGE_THRESHOLDS = (10_000, 20, 20)
"""A page of documents is some thousand new objects; by default each 700 of them would be searched for cycles."""


class LifespanState(TypedDict):
    """What lifespan opens, at `request.state`."""

    services: Services


RECORDS = (EXPORTS, IMPORTS, AUDIT, ACCOUNTS)
"""What the service keeps of its own that is listed as documents are."""

OWN_CLASSES = (Account, Session, RevokedToken, QuotaCounter, Export, Import, AuditEvent)
"""What it keeps in collections of its own."""


def create_app(
    settings: Settings | None = None,
    document_types: Sequence[DocumentType] | None = None,
    *,
    is_prepared: bool = False,
) -> FastAPI:
    """The service as an ASGI app; by default with the environment's settings and every registered type.

    `is_prepared` says that the database has been made ready already. Raises StartupError.
    """
    chosen = settings or Settings()
    types = registered_types() if document_types is None else document_types
    scopes = known_scopes(types)
    configure_logging(chosen.log_level, chosen.log_format)
    if chosen.secret_key is None:
        raise StartupError("DOSSIER_SECRET_KEY is not set; `dossier serve` makes one by itself in development")
    keys = open_key_ring(chosen.keys_dir, chosen.secret_key.get_secret_value())
    trusted = trusted_authorities(chosen.trusted_issuers or (), chosen.issuer, scopes)
    traces, reports = _open_traces(chosen), open_failure_reports(chosen)
    listeners = _listeners(chosen, traces)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[LifespanState]:
        with ExitStack() as open_until_end:
            for sender in (traces, reports):
                open_until_end.enter_context(nullcontext() if sender is None else closing(sender))
            readiness = open_until_end.enter_context(open_readiness())
            async with (
                open_ready_database(
                    chosen, types, OWN_CLASSES, is_prepared=is_prepared, listeners=listeners
                ) as database,
                _open_services(chosen, types, keys, trusted, readiness, database) as services,
            ):
                _settle_memory()
                yield {"services": services}

    app = FastAPI(
        title="Dossier",
        version="1",
        description="Documents on MongoDB: create, search, page, export, import.",
        lifespan=lifespan,
        openapi_url="/openapi.json" if chosen.docs else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    _add_middleware(app, chosen, traces, reports)
    install_handlers(app)
    _add_routes(app, types)
    if chosen.metrics_token is not None:
        app.include_router(metrics_router(chosen.metrics_token.get_secret_value()))
    install_openapi(
        app,
        types,
        scopes,
        has_password_grant=chosen.password_grant,
        is_rate_limited=chosen.rate_limit_per_minute is not None,
    )
    if chosen.docs:
        serve_docs(app)
    return app


def _open_traces(settings: Settings) -> "Traces | None":
    """Those that the settings ask for. Raises StartupError."""
    if not settings.traces:
        return None
    with extra("traces", "DOSSIER_TRACES"):
        from service.observability.traces import Traces  # noqa: PLC0415 - an extra, and slow to load
    return Traces()


def _listeners(settings: Settings, traces: "Traces | None") -> list[Listener]:
    """Who hears of what the driver does."""
    slow_commands = SlowCommandLog(settings.slow_command_seconds)
    listeners: list[Listener] = [CommandMetrics(), PoolMetrics(), PrimaryMetrics(), slow_commands]
    if traces is not None:
        from service.store.command_spans import CommandSpans  # noqa: PLC0415 - likewise

        listeners.append(CommandSpans(traces.tracer))
    return listeners


@asynccontextmanager
async def _open_services(  # noqa: PLR0913, PLR0917 - all parts
    settings: Settings,
    types: Sequence[DocumentType],
    keys: KeyRing,
    trusted: Sequence[Authority],
    readiness: Readiness,
    database: Database,
) -> AsyncIterator[Services]:
    """All parts, as long as the service runs."""
    assert settings.secret_key is not None
    secret_key, seconds = settings.secret_key.get_secret_value(), settings.operation_timeout_seconds
    async with (
        open_exporter(settings) as exporter,  # which end first, while there is a database to write that to
        open_importer(settings) as importer,
    ):
        limits, cursors = Limits(settings.query_time_limit_seconds, seconds), CursorSigner(secret_key)
        scopes = known_scopes(types)
        repositories = {kind.name: Repository(kind, limits, cursors) for kind in (*types, *RECORDS)}
        known_accounts = Accounts(seconds)
        sessions = Sessions(secret_key, settings.refresh_token_days, seconds)
        standing = Standing(known_accounts, sessions, scopes, seconds)
        trail = AuditTrail(settings.audit_days, seconds)
        quotas = Quotas(seconds)
        yield Services(
            settings=settings,
            database=database,
            repositories={kind.name: repositories[kind.name] for kind in types},
            records={kind.name: repositories[kind.name] for kind in RECORDS},
            accounts=known_accounts,
            administration=Administration(known_accounts, repositories[ACCOUNTS.name], trail, standing.forget_account),
            sessions=sessions,
            standing=standing,
            keys=keys,
            signer=TokenSigner(keys, settings.issuer, settings.token_lifetime_seconds),
            verifier=TokenVerifier([OwnAuthority(keys, settings.issuer), *trusted]),
            scopes=scopes,
            throttle=SignInThrottle(
                quotas,
                per_account=settings.sign_in_failures_per_account,
                per_address=settings.sign_in_failures_per_address,
                window_seconds=settings.sign_in_window_seconds,
            ),
            rate_limit=RateLimit(quotas, settings.rate_limit_per_minute) if settings.rate_limit_per_minute else None,
            audit=trail,
            exporter=exporter,
            importer=importer,
            readiness=readiness,
        )


def _add_routes(app: FastAPI, types: Sequence[DocumentType]) -> None:
    # Not included, as FastAPI matches an included router's routes twice.
    direct = [*map(document_router, types), exports.router, imports.router, audit.router]
    for router in (*direct, accounts.router, accounts.password_router):
        app.router.routes.extend(router.routes)
    for router in (health.router, authentication.router, well_known.router):
        app.include_router(router)


def _add_middleware(app: FastAPI, settings: Settings, traces: "Traces | None", reports: FailureReports | None) -> None:
    """What each request goes through, from the inside out; what is not asked for is not on the way."""
    app.add_middleware(
        BodyDeadlineMiddleware,
        stall_seconds=settings.body_stall_seconds,
        min_bytes_per_second=settings.body_min_bytes_per_second,
    )
    app.add_middleware(ConcurrencyLimitMiddleware, limit=settings.limit_concurrency)
    if settings.allowed_hosts:
        app.add_middleware(AllowedHostsMiddleware, hosts=settings.allowed_hosts)
    if reports is not None:
        app.add_middleware(FailureReportMiddleware, reports=reports)
    if traces is not None:
        app.add_middleware(traces.middleware)
    app.add_middleware(RequestContextMiddleware)
    if settings.rate_limit_per_minute:
        app.add_middleware(RateLimitHeadersMiddleware)
    if settings.cors_origins:
        app.add_middleware(CrossOriginMiddleware, origins=settings.cors_origins)
    app.add_middleware(SecurityHeadersMiddleware, is_https=settings.issuer.startswith("https://"))


def _settle_memory() -> None:
    """Keep what was built at the start out of every search for garbage: they took a third of the time of a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
