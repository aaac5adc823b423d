"""Whether the service lives, and whether it can work."""

import orjson
from fastapi import APIRouter, Response

from service.api.bodies import JSON
from service.api.dependencies import ServicesDependency
from service.errors import DatabaseUnavailableError, ShuttingDownError, problems

READY_SECONDS = 1.5
"""Shorter than the 2 s that a load balancer waits."""

router = APIRouter(tags=["health"], default_response_class=Response)

STATUS = {"content": {JSON: {"schema": {"$ref": "#/components/schemas/Health"}}}}


@router.get("/health", operation_id="get_health", summary="It lives", responses={200: {"description": "Yes"} | STATUS})
async def get_health() -> Response:
    """Live: this process answers."""
    return Response(orjson.dumps({"status": "ok"}), media_type=JSON)


@router.get(
    "/health/ready",
    operation_id="get_readiness",
    summary="It can work",
    responses={200: {"description": "Yes"} | STATUS, **problems(DatabaseUnavailableError, ShuttingDownError)},
)
async def get_readiness(services: ServicesDependency) -> Response:
    """Ready: a primary answers, and nobody has told this process to end.

    Raises DatabaseUnavailableError and ShuttingDownError.
    """
    if not await services.database.has_primary(READY_SECONDS):
        raise DatabaseUnavailableError("No primary answers.")
    if services.readiness.is_closing:  # which may have come while MongoDB was asked
        raise ShuttingDownError
    return Response(orjson.dumps({"status": "ready"}), media_type=JSON)
