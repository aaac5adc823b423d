"""Puts the service together: the only module that knows every part."""

import gc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypedDict

from fastapi import FastAPI

from service.api import accounts, audit, authentication, exports, health, imports, well_known
from service.api.dependencies import Services
from service.api.documents import document_router
from service.api.openapi import install_openapi, serve_docs
from service.api.origins import AllowedHostsMiddleware, CrossOriginMiddleware
from service.api.rate_limits import RateLimit, RateLimitHeadersMiddleware
from service.api.security_headers import SecurityHeadersMiddleware
from service.auth.accounts import ACCOUNTS, Account, Accounts
from service.auth.administration import Administration
from service.auth.issuers import trusted_authorities
from service.auth.key_ring import open_key_ring
from service.auth.scopes import known_scopes
from service.auth.sessions import Session, Sessions
from service.auth.standing import RevokedToken, Standing
from service.auth.throttle import SignInThrottle
from service.auth.tokens import OwnAuthority, TokenSigner, TokenVerifier
from service.documents.registry import DocumentType, registered_types
from service.errors import StartupError, install_handlers
from service.exports import open_exporter
from service.imports.importer import open_importer
from service.observability import RequestContextMiddleware, configure_logging
from service.settings import Settings
from service.store.audit_records import AUDIT, AuditEvent, AuditTrail
from service.store.database import open_database
from service.store.export_records import EXPORTS, Export
from service.store.import_records import IMPORTS, Import
from service.store.paging import CursorSigner
from service.store.quotas import QuotaCounter, Quotas
from service.store.repository import Limits, Repository

GARBAGE_THRESHOLDS = (10_000, 20, 20)
"""A page of documents is some thousand new objects; by default each 700 of them would be searched for cycles."""


class LifespanState(TypedDict):
    """What lifespan opens, at `request.state`."""

    services: Services


def create_app(settings: Settings | None = None, document_types: Sequence[DocumentType] | None = None) -> FastAPI:
    """The service as an ASGI app; by default with the environment's settings and every registered type.

    Raises StartupError.
    """
    chosen = settings or Settings()
    types = registered_types() if document_types is None else document_types
    scopes = known_scopes(types)
    configure_logging(chosen.log_level)
    if chosen.secret_key is None:
        raise StartupError("DOSSIER_SECRET_KEY is not set; `dossier serve` makes one by itself in development")
    secret_key = chosen.secret_key.get_secret_value()
    keys = open_key_ring(chosen.keys_dir, secret_key)
    trusted = trusted_authorities(chosen.trusted_issuers or (), chosen.issuer, scopes)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[LifespanState]:
        document_classes = [document_type.document_class for document_type in types]
        async with (
            open_database(
                chosen,
                [*document_classes, Account, Session, RevokedToken, Export, Import, AuditEvent, QuotaCounter],
            ) as database,
            open_exporter(chosen) as exporter,  # which end first, while there is a database to write that to
            open_importer(chosen) as importer,
        ):
            limits = Limits(chosen.query_time_limit_seconds, chosen.operation_timeout_seconds)
            cursors = CursorSigner(secret_key)
            records = {
                record_type.name: Repository(record_type, limits, cursors)
                for record_type in (EXPORTS, IMPORTS, AUDIT, ACCOUNTS)
            }
            known_accounts = Accounts(chosen.operation_timeout_seconds)
            sessions = Sessions(secret_key, chosen.refresh_token_days, chosen.operation_timeout_seconds)
            standing = Standing(known_accounts, sessions, scopes, chosen.operation_timeout_seconds)
            trail = AuditTrail(chosen.audit_days, chosen.operation_timeout_seconds)
            quotas = Quotas(chosen.operation_timeout_seconds)
            services = Services(
                settings=chosen,
                database=database,
                repositories={
                    document_type.name: Repository(document_type, limits, cursors) for document_type in types
                },
                accounts=known_accounts,
                administration=Administration(known_accounts, records[ACCOUNTS.name], standing, trail),
                sessions=sessions,
                standing=standing,
                signer=TokenSigner(keys, chosen.issuer, chosen.token_lifetime_seconds),
                verifier=TokenVerifier([OwnAuthority(keys, chosen.issuer), *trusted]),
                keys=keys,
                scopes=scopes,
                exporter=exporter,
                importer=importer,
                records=records,
                audit=trail,
                throttle=SignInThrottle(
                    quotas,
                    per_account=chosen.sign_in_failures_per_account,
                    per_address=chosen.sign_in_failures_per_address,
                    window_seconds=chosen.sign_in_window_seconds,
                ),
                rate_limit=RateLimit(quotas, chosen.rate_limit_per_minute) if chosen.rate_limit_per_minute else None,
            )
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
    _add_middleware(app, chosen)
    install_handlers(app)
    for document_type in types:
        # Not included, as FastAPI matches an included router's routes twice.
        app.router.routes.extend(document_router(document_type).routes)
    app.router.routes.extend([*exports.router.routes, *imports.router.routes, *audit.router.routes])
    app.router.routes.extend([*accounts.router.routes, *accounts.password_router.routes])
    app.include_router(health.router)
    app.include_router(authentication.router)
    app.include_router(well_known.router)
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


def _add_middleware(app: FastAPI, settings: Settings) -> None:
    """What each request goes through, from the inside out; what is not asked for is not on the way."""
    if settings.allowed_hosts:
        app.add_middleware(AllowedHostsMiddleware, hosts=settings.allowed_hosts)
    app.add_middleware(RequestContextMiddleware)
    if settings.rate_limit_per_minute:
        app.add_middleware(RateLimitHeadersMiddleware)
    if settings.cors_origins:
        app.add_middleware(CrossOriginMiddleware, origins=settings.cors_origins)
    app.add_middleware(SecurityHeadersMiddleware)


def _settle_memory() -> None:
    """Keep what was built at the start out of every search for garbage: they took a third of the time of a request."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*GARBAGE_THRESHOLDS)
