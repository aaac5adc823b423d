"""What routes ask for by their signature: the service's parts, and who is calling."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import OAuth2PasswordBearer, SecurityScopes
from structlog.contextvars import bind_contextvars

from service.api.exports import ExportSlots
from service.auth.accounts import Accounts
from service.auth.tokens import Caller, TokenSigner, invalid_token
from service.errors import AuthenticationError, InsufficientScopeError
from service.settings import Settings
from service.store.database import Database
from service.store.repository import Repository

TOKEN_PATH = "/api/v1/auth/token"  # noqa: S105 - an address


@dataclass(frozen=True)
class Services:
    """The parts that lifespan opens, as its state."""

    settings: Settings
    database: Database
    repositories: Mapping[str, Repository]
    accounts: Accounts
    signer: TokenSigner
    scopes: Mapping[str, str]
    export_slots: ExportSlots


async def get_services(request: Request) -> Services:
    """The parts, from lifespan's state. Asynchronous, as all dependencies: others are called in a thread each."""
    services: Services = request.state.services
    return services


ServicesDependency = Annotated[Services, Depends(get_services)]

bearer = OAuth2PasswordBearer(TOKEN_PATH, auto_error=False)


async def authenticate(services: ServicesDependency, token: Annotated[str | None, Depends(bearer)]) -> Caller:
    """Who is calling. Raises AuthenticationError."""
    if token is None:
        raise AuthenticationError(f"Get one at {TOKEN_PATH}.", headers={"WWW-Authenticate": "Bearer"})
    caller = services.signer.verify(token)
    if not await services.accounts.is_active(caller.account_id):
        raise invalid_token("The account is disabled.")
    return caller


async def authorize(security_scopes: SecurityScopes, caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
    """Who is calling, if the token holds the route's scopes. Raises InsufficientScopeError."""
    bind_contextvars(account=caller.username)
    missing = [scope for scope in security_scopes.scopes if scope not in caller.scopes]
    if missing:
        challenge = f'Bearer error="insufficient_scope", scope="{security_scopes.scope_str}"'  # RFC 6750 §3.1
        raise InsufficientScopeError(f"The token lacks {', '.join(missing)}.", headers={"WWW-Authenticate": challenge})
    return caller
