"""What is installed only by those who want it: asked for where it is missing, it stops the start in one line."""

import sys
from typing import Any

import pytest
from pydantic import SecretStr

from service.app import create_app
from service.errors import StartupError
from service.settings import Settings

SECRET = SecretStr("a made-up key of 32 bytes and up")


@pytest.mark.parametrize(
    ("asked", "module", "line"),
    [
        (
            {"traces": True},
            "opentelemetry.sdk.trace",
            "DOSSIER_TRACES needs opentelemetry.sdk.trace, which is not installed: run `scripts/install traces`",
        ),
        (
            {"sentry_dsn": SecretStr("https://key@sentry.example/1")},
            "sentry_sdk.client",
            "DOSSIER_SENTRY_DSN needs sentry_sdk.client, which is not installed: run `scripts/install sentry`",
        ),
    ],
    ids=["traces", "sentry"],
)
def test_a_missing_library_stops_the_start_in_one_line(
    monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], module: str, line: str
) -> None:
    monkeypatch.delitem(sys.modules, "service.observability.traces", raising=False)
    monkeypatch.setitem(sys.modules, module, None)

    with pytest.raises(StartupError) as raised:
        create_app(Settings(_env_file=None, secret_key=SECRET, **asked))

    assert str(raised.value) == line


@pytest.mark.parametrize("dsn", ["nonsense", "https://sentry.example/1", "https://canary@sentry.example/x"])
def test_a_dsn_that_is_none_stops_the_start_and_is_not_repeated(dsn: str) -> None:
    with pytest.raises(StartupError) as raised:
        create_app(Settings(_env_file=None, secret_key=SECRET, sentry_dsn=SecretStr(dsn)))

    assert str(raised.value).startswith("DOSSIER_SENTRY_DSN cannot be used: ")
    assert "canary" not in str(raised.value)
