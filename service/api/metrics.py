"""Metrics over HTTP, for a Prometheus that has their token."""

from secrets import compare_digest

from anyio import to_thread
from fastapi import APIRouter, Request, Response

from service.errors import AuthenticationError
from service.observability.metrics import exposition

CHALLENGE = 'Bearer realm="dossier metrics"'


def metrics_router(token: str) -> APIRouter:
    """The route, for those who show this token. It is no part of the API, and not described there."""
    router = APIRouter()
    expected = token.encode()

    @router.get("/metrics", include_in_schema=False)
    async def get_metrics(request: Request) -> Response:
        """All there is. Raises AuthenticationError."""
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not compare_digest(given.strip(" ").encode(), expected):
            raise AuthenticationError("See DOSSIER_METRICS_TOKEN.", headers={"WWW-Authenticate": CHALLENGE})
        # In a thread: to read the files of several processes takes a while.
        content, media_type = await to_thread.run_sync(exposition, request.headers.get("Accept", ""))
        return Response(content, media_type=media_type)

    return router
