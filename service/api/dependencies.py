"""What routes ask for by their signature: the service's parts, and who is calling."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.openapi.models import OAuthFlowClientCredentials, OAuthFlowPassword, OAuthFlows
from fastapi.security import OAuth2, SecurityScopes
from structlog.contextvars import bind_contextvars, get_contextvars

from service.api.rate_limits import RateLimit
from service.auth.accounts import Accounts
from service.auth.administration import Administration
from service.auth.key_ring import KeyRing
from service.auth.sessions import Sessions
from service.auth.standing import Standing
from service.auth.throttle import SignInThrottle
from service.auth.tokens import Caller, TokenSigner, TokenVerifier
from service.errors import AuthenticationError, InsufficientScopeError
from service.exports import Exporter
from service.imports.importer import Importer
from service.observability.readiness import Readiness
from service.settings import Settings
from service.store.audit_records import Actor, AuditTrail
from service.store.database import Database
from service.store.repository import Repository

TOKEN_PATH = "/api/v1/auth/token"  # noqa: S105 - an address
REVOCATION_PATH = "/api/v1/auth/revoke"
INTROSPECTION_PATH = "/api/v1/auth/introspect"
CHALLENGE = 'Bearer realm="dossier"'
"""To whoever comes without a token (RFC 6750 §3)."""


@dataclass(frozen=True)
class Services:
    """The parts that lifespan opens, as its state."""

    settings: Settings
    database: Database
    repositories: Mapping[str, Repository]
    accounts: Accounts
    administration: Administration
    sessions: Sessions
    standing: Standing
    signer: TokenSigner
    verifier: TokenVerifier
    keys: KeyRing
    scopes: Mapping[str, str]
    exporter: Exporter
    importer: Importer
    records: Mapping[str, Repository]
    """Those of exports and of imports, the audit trail, and accounts."""
    audit: AuditTrail
    throttle: SignInThrottle
    rate_limit: RateLimit | None
    readiness: Readiness


def services_of(request: Request) -> Services:
    """The parts, from lifespan's state."""
    services: Services = request.state.services
    return services


def caller_of(request: Request) -> Caller:
    """Who is calling a route that is authorized directly."""
    caller: Caller = request.state.caller
    return caller


def address_of(request: Request) -> str | None:
    """The client's IP address, as far as a proxy that is trusted has not said another one."""
    return request.client.host if request.client else None


def actor_of(
    request: Request, account: str | None = None, client_id: str | None = None, account_id: str | None = None
) -> Actor:
    """Who does something, for the audit trail: the caller, or whoever says or has proved to be this account."""
    address = address_of(request)
    request_id = get_contextvars().get("request_id")
    if account is not None:
        return Actor(account, account_id, client_id, address, request_id)
    caller = caller_of(request)
    return Actor(caller.username, caller.account_id, caller.client_id, address, request_id)


async def get_services(request: Request) -> Services:
    """The same, as a dependency. Asynchronous, as all of them: others are called in a thread each."""
    return services_of(request)


ServicesDependency = Annotated[Services, Depends(get_services)]


class Authorize(OAuth2):
    """Lets a caller through whose access token holds the scopes that the route names in `Security(...)`.

    One dependency and not a chain of them: FastAPI's way through each costs as much as the checks themselves.
    """

    def __init__(self) -> None:
        flows = OAuthFlows(
            password=OAuthFlowPassword(tokenUrl=TOKEN_PATH, refreshUrl=TOKEN_PATH),
            clientCredentials=OAuthFlowClientCredentials(tokenUrl=TOKEN_PATH),
        )
        super().__init__(flows=flows, scheme_name="OAuth2")

    async def __call__(self, request: Request, security_scopes: SecurityScopes) -> Caller:  # type: ignore[override]
        """Who is calling.

        Raises AuthenticationError, IssuerUnavailableError, InsufficientScopeError and TooManyRequestsError.
        """
        services = services_of(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise AuthenticationError(f"Get one at {TOKEN_PATH}.", headers={"WWW-Authenticate": CHALLENGE})
        caller = await services.standing.check(await services.verifier.verify(token.strip(" ")))
        bind_contextvars(account=caller.username, client=caller.client_id, session=caller.session_id)
        if services.rate_limit is not None:
            await services.rate_limit.take(request, caller.account_id)
        missing = [scope for scope in security_scopes.scopes if scope not in caller.scopes]
        if missing:
            challenge = f'Bearer error="insufficient_scope", scope="{security_scopes.scope_str}"'  # RFC 6750 §3.1
            raise InsufficientScopeError(
                f"The token lacks {', '.join(missing)}.", headers={"WWW-Authenticate": challenge}
            )
        return caller


authorize = Authorize()
