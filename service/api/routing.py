"""A short way from a request to its endpoint, for the routes that are asked all day."""

from typing import Any

from fastapi import Request, Response
from fastapi.params import Security
from fastapi.routing import APIRoute
from fastapi.security import SecurityScopes
from starlette.routing import Match, request_response
from starlette.types import Scope

from service.api.dependencies import authorize


class DirectRoute(APIRoute):
    """A route whose endpoint takes the request and the path's parameters, once its caller is authorized.

    FastAPI describes such a route in OpenAPI but does not run it: its general way, with dependencies that are solved
    and exit stacks that are kept for each request, took longer than MongoDB's driver for one document.
    """

    def __init__(self, path: str, endpoint: Any, **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        scopes = [dependency.scopes for dependency in self.dependencies if isinstance(dependency, Security)]
        assert len(scopes) == 1, f"{path} names its scopes in one Security(...)"
        required = SecurityScopes(list(scopes[0] or ()))

        async def respond(request: Request) -> Response:
            request.state.caller = await authorize(request, required)
            response: Response = await endpoint(request, **request.path_params)
            return response

        self.app = request_response(respond)
        self._stem = path.partition("{")[0]

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As any route does, but the routes of all other types are passed by without a regular expression."""
        if not scope["path"].startswith(self._stem):
            return Match.NONE, {}
        return super().matches(scope)
