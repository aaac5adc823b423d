"""What can be set from outside."""

import ast
import inspect
import json
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from service.settings import Settings

SECRET = "a made-up key of 32 bytes and up"
PRODUCTION = {
    "environment": "production",
    "secret_key": SECRET,
    "mongodb_uri": "mongodb://canary:canary@db/?replicaSet=rs0",
}


def settings(**values: Any) -> Settings:
    return Settings(_env_file=None, **values)


def fault_of(**values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        settings(**values)
    (error,) = caught.value.errors()
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def test_nothing_has_to_be_set_for_a_first_try() -> None:
    chosen = settings()

    assert (chosen.environment, chosen.host, chosen.port) == ("development", "127.0.0.1", 8000)
    assert chosen.data_dir == Path(".data")
    assert chosen.mongodb_database == "dossier"
    assert chosen.mongodb_uri is chosen.secret_key is chosen.admin_password is None
    assert chosen.admin_username == "admin"


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ENVIRONMENT", "development", "development"),
        ("HOST", "0.0.0.0", "0.0.0.0"),
        ("PORT", "0", 0),
        ("DATA_DIR", "/var/lib/dossier", Path("/var/lib/dossier")),
        ("MONGODB_URI", "mongodb://db", SecretStr("mongodb://db")),
        ("MONGODB_DATABASE", "other-1", "other-1"),
        ("SECRET_KEY", SECRET, SecretStr(SECRET)),
        ("ADMIN_USERNAME", "root@example.org", "root@example.org"),
        ("ADMIN_PASSWORD", "12345678", SecretStr("12345678")),
        ("QUERY_TIME_LIMIT_SECONDS", "0.5", 0.5),
        ("MAX_BODY_BYTES", "2048", 2048),
        ("LOG_LEVEL", "debug", "debug"),
        ("LOG_FORMAT", "text", "text"),
        ("SLOW_COMMAND_SECONDS", "0", 0),
        ("METRICS_TOKEN", SECRET, SecretStr(SECRET)),
        ("METRICS_HOST", "10.0.0.1", "10.0.0.1"),
        ("METRICS_PORT", "9100", 9100),
        ("TRACES", "true", True),
        ("DOCS", "false", False),
        ("TRUSTED_PROXIES", "127.0.0.1, fd00::/8", (IPv4Network("127.0.0.1"), IPv6Network("fd00::/8"))),
        ("ALLOWED_HOSTS", "db.example.org,[::1]", ("db.example.org", "[::1]")),
        ("CORS_ORIGINS", "https://a.example,http://localhost:5173", ("https://a.example", "http://localhost:5173")),
    ],
)
def test_a_setting_comes_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: Any
) -> None:
    monkeypatch.setenv(f"DOSSIER_{name}", text)

    assert getattr(settings(), name.lower()) == value


def test_a_setting_comes_from_a_file_unless_the_environment_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text("DOSSIER_PORT=1\nDOSSIER_HOST=::1\nDOSSIER_NOTHING=1\nOTHER=1\n")
    monkeypatch.setenv("DOSSIER_PORT", "2")

    chosen = Settings(_env_file=file)

    assert (chosen.port, chosen.host) == (2, "::1")


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOSSIER_SECRET_KEY", "")
    monkeypatch.setenv("DOSSIER_PORT", "")

    assert settings().secret_key is None
    assert settings().port == 8000


def test_a_setting_comes_from_a_folder_of_files_unless_it_is_set_otherwise(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in {"secret_key": f"{SECRET}\n", "mongodb_uri": "mongodb://db", "port": "1", "host": "::1"}.items():
        (tmp_path / f"dossier_{name}").write_text(text)
    (tmp_path / "another_secret").write_bytes(b"\xff")
    monkeypatch.setenv("DOSSIER_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("DOSSIER_PORT", "2")
    (tmp_path / ".env").write_text("DOSSIER_HOST=::2\n")

    chosen = Settings(_env_file=tmp_path / ".env")

    assert chosen.secret_key == SecretStr(SECRET)
    assert chosen.mongodb_uri == SecretStr("mongodb://db")
    assert (chosen.port, chosen.host) == (2, "::2")


def test_a_file_of_settings_may_say_where_the_folder_is(tmp_path: Path) -> None:
    (tmp_path / "dossier_secret_key").write_text(SECRET)
    file = tmp_path / ".env"
    file.write_text(f"DOSSIER_SECRETS_DIR={tmp_path}\n")

    assert Settings(_env_file=file).secret_key == SecretStr(SECRET)


def test_a_bad_setting_in_a_folder_of_files_is_told_as_any(tmp_path: Path) -> None:
    (tmp_path / "dossier_port").write_text("canary")
    (tmp_path / "dossier_log_level").write_text("canary")

    with pytest.raises(ValidationError) as caught:
        settings(secrets_dir=tmp_path)

    assert [error["loc"] for error in caught.value.errors()] == [("port",), ("log_level",)]
    assert "canary" not in str(caught.value)


def test_a_folder_of_settings_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    for place in ("nothing", "file"):
        assert "secrets_dir: Path does not point to a directory" in fault_of(secrets_dir=tmp_path / place)


def test_all_files_of_settings_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "dossier_secret_key").mkdir()  # which is what a container has where its file is missing
    (folder / "dossier_admin_password").write_bytes(b"\xff")
    (tmp_path / "outside").write_text(SECRET)
    (folder / "dossier_mongodb_uri").symlink_to(tmp_path / "outside")
    (folder / "dossier_host").symlink_to(folder / "dossier_host")

    fault = fault_of(secrets_dir=folder)

    assert "dossier_secret_key cannot be read: Is a directory" in fault
    assert "dossier_admin_password is no text in UTF-8" in fault
    assert "dossier_mongodb_uri leads out of it" in fault
    assert "dossier_host cannot be read: Too many levels of symbolic links" in fault


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("environment", "staging"),
        ("port", -1),
        ("port", 65536),
        ("port", "http"),
        ("mongodb_database", "a.b"),
        ("mongodb_database", "a$b"),
        ("mongodb_database", "a b"),
        ("mongodb_database", "x" * 39),
        ("mongodb_database", "a\n"),
        ("admin_username", "-admin"),
        ("admin_username", "a b"),
        ("admin_username", "dossier"),
        ("admin_username", "x" * 65),
        ("token_lifetime_seconds", 59),
        ("token_lifetime_seconds", 86_401),
        ("query_time_limit_seconds", 0),
        ("query_time_limit_seconds", "nan"),
        ("operation_timeout_seconds", 121),
        ("max_body_bytes", 1023),
        ("max_body_bytes", 16_777_217),
        ("shutdown_grace_seconds", -1),
        ("log_level", "loud"),
        ("sign_in_failures_per_account", 0),
        ("rate_limit_per_minute", 0),
        ("trusted_proxies.0", "*"),
        ("trusted_proxies.0", "10.0.0.1/8"),
        ("allowed_hosts.0", "*"),
        ("allowed_hosts.0", "db.example.org:443"),
        ("cors_origins.0", "*"),
        ("cors_origins.0", "null"),
        ("cors_origins.0", "https://*.example"),
        ("cors_origins.0", "https://a.example/"),
        ("cors_origins.0", "https://A.example"),
    ],
)
def test_a_setting_out_of_its_bounds_stops_the_start(name: str, value: Any) -> None:
    assert fault_of(**{name.partition(".")[0]: value}).startswith(f"{name}: ")


@pytest.mark.parametrize("name", ["secret_key", "metrics_token"])
@pytest.mark.parametrize("secret", ["x", "x" * 31, "ж" * 15])
def test_a_short_secret_stops_the_start(name: str, secret: str) -> None:
    assert f"DOSSIER_{name.upper()} has" in fault_of(**{name: secret})


@pytest.mark.parametrize("secret", ["x" * 32, "0" * 64, "ab" * 16, "changeme" * 4, "secret" * 6, "password" * 4])
@pytest.mark.parametrize("name", ["secret_key", "metrics_token"])
def test_a_secret_that_can_be_guessed_stops_the_start(name: str, secret: str) -> None:
    fault = fault_of(**{name: secret})

    assert f"DOSSIER_{name.upper()} can be guessed" in fault
    assert secret not in fault


@pytest.mark.parametrize(
    "secret", ["correct horse battery staple and", "абвгдежзийклмноп", "5f0c2f9f6e8f4c1d9b7a3e2d1c0b9a88"]
)
def test_a_secret_is_measured_in_bytes(secret: str) -> None:
    assert settings(secret_key=secret).secret_key == SecretStr(secret)


@pytest.mark.parametrize("password", ["x" * 7, "x" * 129, "e\u0301" * 7, "é" * 10_000], ids=len)
def test_an_admin_password_out_of_bounds_stops_the_start(password: str) -> None:
    assert "8 to 128 are needed" in fault_of(admin_password=password)


@pytest.mark.parametrize("password", ["x" * 8, "x" * 128, "ж" * 128, "e\u0301" * 128])
def test_an_admin_password_is_measured_in_characters(password: str) -> None:
    assert settings(admin_password=password).admin_password == SecretStr(password)


@pytest.mark.parametrize(
    ("given", "issuer"),
    [
        ({}, "http://127.0.0.1:8000"),
        ({"host": "::1", "port": 1}, "http://[::1]:1"),
        ({"public_url": "https://dossier.example/"}, "https://dossier.example"),
        ({"public_url": "http://dossier.example:81/base//", "port": 1}, "http://dossier.example:81/base"),
    ],
    ids=str,
)
def test_the_issuer_is_the_address_that_clients_use(given: dict[str, Any], issuer: str) -> None:
    assert settings(**given).issuer == issuer


@pytest.mark.parametrize(
    "url",
    [
        *("dossier.example", "ftp://a", "javascript:x", "https://", "https:///a", "https://[a", "https://a b"),
        *("https://a?b", "https://a?", "https://a#b", "https://a#", "https://canary@a"),
        *("https://a:99999", "https://a:b", "https://a:0"),
    ],
)
def test_a_public_url_that_clients_cannot_add_to_stops_the_start(url: str) -> None:
    fault = fault_of(public_url=url)

    assert fault.startswith("public_url: ")
    assert "canary" not in fault


TRUSTED = {"issuer": "urn:a", "audience": "b", "jwks": "https://a.example/jwks", "scopes": {"read": ["*:read"]}}


def trusting(*issuers: Any) -> dict[str, str]:
    return {"trusted_issuers": json.dumps(issuers)}


def test_trusted_issuers_are_a_list_in_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOSSIER_TRUSTED_ISSUERS", json.dumps([TRUSTED, TRUSTED | {"issuer": "c", "jwks": "a.json"}]))

    first, second = settings().trusted_issuers or ()

    assert (first.issuer, first.scope_claim, first.username_claim) == ("urn:a", "scope", "preferred_username")
    assert first.algorithms == {"EdDSA", "ES256", "RS256"}
    assert first.jwks_path is None
    assert second.jwks_path == Path("a.json")


@pytest.mark.parametrize("jwks", ["http://127.0.0.1:1/a", "http://localhost/a", "http://[::1]/a", "https://a.example"])
def test_keys_come_by_https_or_from_this_machine(jwks: str) -> None:
    assert settings(**trusting(TRUSTED | {"jwks": jwks})).trusted_issuers


NONSENSE: dict[str, list[Any]] = {
    "issuer": ["", "a|b", "a b", "a\n", 1, None],
    "audience": ["", None],
    "jwks": [
        *("", "://", "file:///a", "ftp://a.example/", "http://a.example/", "https://u:p@a.example"),
        *("http://127.0.0.1.evil.example/", "http://localhost.evil.example/"),
    ],
    "scopes": [{}, [], {"a b": ["*"]}, {"": ["*"]}, {"a": []}, {"a": "*"}, {"a": ["x"]}],
    "algorithms": [[], ["HS256"], ["none"], ["EdDSA", "HS512"], "EdDSA"],
    "scope_claim": [""],
    "scope": ["read"],
}


@pytest.mark.parametrize("changes", [{name: value} for name, values in NONSENSE.items() for value in values], ids=str)
def test_a_trusted_issuer_that_makes_no_sense_stops_the_start(changes: dict[str, Any]) -> None:
    assert fault_of(**trusting(TRUSTED | changes)).startswith("trusted_issuers.0.")


@pytest.mark.parametrize(
    "text", ["{", "{}", "1", "[1]", json.dumps([TRUSTED, TRUSTED])], ids=["{", "{}", "1", "[1]", "2"]
)
def test_what_is_no_list_of_issuers_stops_the_start(text: str) -> None:
    assert fault_of(trusted_issuers=text).startswith("trusted_issuers")


def test_all_faults_of_all_issuers_are_told() -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**trusting({"issuer": "a|b"}, TRUSTED | {"algorithms": ["none"]}))

    places = [error["loc"][1:3] for error in caught.value.errors()]
    assert places == [(0, "issuer"), (0, "audience"), (0, "jwks"), (0, "scopes"), (1, "algorithms")]


def test_production_starts_with_a_secret_and_a_database() -> None:
    assert settings(**PRODUCTION).environment == "production"


@pytest.mark.parametrize("missing", ["secret_key", "mongodb_uri"])
def test_nothing_is_made_up_in_production(missing: str) -> None:
    values = {name: value for name, value in PRODUCTION.items() if name != missing}

    assert f"DOSSIER_{missing.upper()} is needed in production" in fault_of(**values)


def test_nothing_changes_a_setting_afterwards() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        settings().port = 1  # type: ignore[misc]


def test_no_secret_is_shown() -> None:
    chosen = settings(**PRODUCTION, admin_password="canary-password")

    assert "canary" not in f"{chosen!r} {chosen} {chosen.model_dump_json()}"


@pytest.mark.parametrize(
    "values",
    [
        {"secret_key": "canary"},
        {"secret_key": SECRET, "admin_password": "canary"},
        {"environment": "production", "mongodb_uri": "mongodb://canary@db"},
        {"secret_key": SECRET, "admin_password": "canary-password", "environment": "production"},
    ],
    ids=str,
)
def test_no_secret_is_shown_when_the_start_is_stopped(values: dict[str, str]) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**values)

    assert "canary" not in str(caught.value)


def test_each_setting_has_a_comment_of_its_own() -> None:
    (cls,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(cls, ast.ClassDef)
    commented = {
        before.target.id
        for before, after in zip(cls.body, cls.body[1:], strict=False)
        if isinstance(before, ast.AnnAssign)
        and isinstance(before.target, ast.Name)
        and isinstance(after, ast.Expr)
        and isinstance(after.value, ast.Constant)
    }

    assert commented == set(Settings.model_fields)
