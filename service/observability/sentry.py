"""Failures that nobody foresaw, reported to Sentry: where in the code, for which route, under which request id.

No request, no variable and no message goes along: each may have values in it. The log has more, under the request id.
"""

from collections.abc import Mapping
from importlib.metadata import version

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.contextvars import get_contextvars

from service.errors import StartupError
from service.observability.extras import extra
from service.settings import Settings

END_SECONDS = 2
"""How long the last reports may take at the end."""


class FailureReports:
    """Sends reports, in a thread of their own. It looks at nothing by itself, as the library would by default."""

    def __init__(self, dsn: str, environment: str) -> None:
        """`dsn` is the project's address with its key. Raises StartupError."""
        with extra("sentry", "DOSSIER_SENTRY_DSN"):
            from sentry_sdk.client import Client  # noqa: PLC0415 - an extra, and slow to load
            from sentry_sdk.utils import BadDsn, event_from_exception  # noqa: PLC0415
        self._event_of = event_from_exception
        try:
            self._client = Client(
                dsn=dsn,
                environment=environment,
                release=f"dossier@{version('dossier')}",
                default_integrations=False,
                auto_enabling_integrations=False,
                auto_session_tracking=False,
                send_client_reports=False,
                include_local_variables=False,
                max_request_body_size="never",
                max_breadcrumbs=0,
            )
        except BadDsn as error:
            raise StartupError(f"DOSSIER_SENTRY_DSN cannot be used: {error}") from None

    def report(self, error: BaseException, **tags: str | None) -> None:
        """Send one soon."""
        event, hint = self._event_of(error, client_options=self._client.options)
        for link in event["exception"]["values"]:
            link["value"] = None
        known: Mapping[str, str | None] = {"request_id": get_contextvars().get("request_id"), **tags}
        event["tags"] = {name: value for name, value in known.items() if value}
        self._client.capture_event(event, hint=hint)

    def close(self) -> None:
        """Send what waits, for a moment."""
        self._client.close(timeout=END_SECONDS)


def open_failure_reports(settings: Settings) -> FailureReports | None:
    """Those that the settings ask for. Raises StartupError."""
    dsn = settings.sentry_dsn
    return None if dsn is None else FailureReports(dsn.get_secret_value(), settings.environment)


class FailureReportMiddleware:
    """Reports what a request fails by, and lets it pass."""

    def __init__(self, app: ASGIApp, reports: FailureReports) -> None:
        self._app = app
        self._reports = reports

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            raise
        except Exception as error:
            self._reports.report(error, route=getattr(scope.get("route"), "path", None), method=scope.get("method"))
            raise
