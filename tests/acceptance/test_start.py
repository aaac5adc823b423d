"""What a newcomer sees at the first start, and what an operator sees when there cannot be one."""

import json
import socket
import stat
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.acceptance.process import PASSWORD, Home, Service

SECRET = "0123456789abcdef0123456789abcdef"
PUBLIC_URL = "https://dossier.example"
SCRIPTS = {"Latin": "a", "Cyrillic": "а", "Han": "明", "Hangul": "민", "Arabic": "م", "Devanagari": "श"}
"""A letter of each script that the sample names are to show."""


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_first_start_says_where_the_docs_are(service: Service) -> None:
    url = f"{service.address}/docs"

    assert url in service.stdout
    assert httpx.get(url).status_code == 200


def test_the_first_start_makes_up_a_password_that_signs_in(service: Service) -> None:
    assert service.password is not None
    assert service.stdout.count(service.password) == 1
    assert service.sign_in("admin", service.password).status_code == 200


def test_only_the_owner_can_read_the_data(service: Service, shared_home: Home) -> None:
    assert mode(shared_home.data_dir) == 0o700
    assert mode(shared_home.data_dir / "secret_key") == 0o600


@pytest.mark.parametrize("name", ["users", "items"])
def test_samples_are_loaded(service: Service, authorization: dict[str, str], name: str) -> None:
    page = service.http.get(f"/api/v1/{name}", params={"limit": 1000}, headers=authorization).json()

    assert page["total"] == len(page["items"]) == 50


def test_sample_names_are_in_several_scripts(service: Service, authorization: dict[str, str]) -> None:
    page = service.http.get("/api/v1/users", params={"limit": 1000}, headers=authorization).json()

    names = "".join(user["name"] for user in page["items"])
    missing = [script for script, letter in SCRIPTS.items() if letter not in names]
    assert not missing


def test_sample_users_have_up_to_three_addresses(service: Service, authorization: dict[str, str]) -> None:
    page = service.http.get("/api/v1/users", params={"limit": 1000}, headers=authorization).json()

    assert {len(user["profile"]["addresses"]) for user in page["items"] if user["profile"]} == {0, 1, 2, 3}


def test_a_second_start_keeps_data_and_accounts_and_loads_no_more_samples(home: Home) -> None:
    first = home.launch("--sample", "50", public_url=PUBLIC_URL)
    first.wait_until_ready()
    assert first.password is not None
    headers = {"Authorization": f"Bearer {first.token(password=first.password)}"}
    before = [first.http.get(f"/api/v1/{name}", params={"limit": 1000}, headers=headers) for name in ("users", "items")]
    assert first.end() == 0

    second = home.launch("--sample", "50", public_url=PUBLIC_URL)
    second.wait_until_ready()

    assert second.password is None
    assert second.sign_in("admin", first.password).status_code == 200
    after = [second.http.get(f"/api/v1/{name}", params={"limit": 1000}, headers=headers) for name in ("users", "items")]
    assert [page.status_code for page in after] == [200, 200], "a token outlives a restart"
    assert [page.json() for page in after] == [page.json() for page in before]


def test_a_given_address_of_mongodb_starts_no_other(service: Service, shared_home: Home, home: Home) -> None:
    other = home.start(mongodb_uri=shared_home.mongodb_uri, mongodb_database="other", admin_username="root")

    assert other.sign_in("root", PASSWORD).status_code == 200
    assert PASSWORD not in other.stdout + other.stderr
    assert not home.mongods
    assert mode(home.data_dir / "secret_key") == 0o600


def test_a_start_that_was_cut_off_while_it_made_the_secret_key_is_no_hindrance(
    service: Service, shared_home: Home, home: Home
) -> None:
    home.data_dir.mkdir()
    (home.data_dir / "secret_key").touch(mode=0o600)

    other = home.start(mongodb_uri=shared_home.mongodb_uri, mongodb_database="cut-off")

    headers = {"Authorization": f"Bearer {other.token()}"}
    assert other.http.get("/api/v1/auth/me", headers=headers).status_code == 200
    assert len((home.data_dir / "secret_key").read_bytes()) >= 32


def assert_refused(home: Home, *arguments: str, environment: dict[str, str], naming: tuple[str, ...]) -> None:
    ended = home.run("serve", *arguments, environment=environment)

    assert ended.returncode == 1, ended.stderr
    (line,) = ended.stderr.splitlines()
    assert all(name in line for name in naming), line
    assert ended.stdout == ""


def test_a_taken_port_is_named(home: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert_refused(home, "--port", str(port), environment=home.environment(), naming=(f"127.0.0.1:{port}",))

    assert not home.data_dir.exists()


def test_an_unknown_host_is_named(home: Home) -> None:
    assert_refused(home, "--host", "no.such.invalid", environment=home.environment(), naming=("no.such.invalid",))


def test_a_port_that_there_cannot_be_is_refused_without_a_traceback(home: Home) -> None:
    ended = home.run("serve", "--port", "65536")

    assert ended.returncode in {1, 2}
    assert "port" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("settings", "naming"),
    [
        ({"mongodb_uri": "mongodb://127.0.0.1:9"}, ("DOSSIER_SECRET_KEY",)),
        ({"mongodb_uri": "mongodb://127.0.0.1:9", "secret_key": "short"}, ("DOSSIER_SECRET_KEY", "32")),
        ({"secret_key": SECRET}, ("DOSSIER_MONGODB_URI",)),
    ],
    ids=["no secret", "a short secret", "no address of MongoDB"],
)
def test_production_makes_nothing_up(home: Home, settings: dict[str, str], naming: tuple[str, ...]) -> None:
    environment = home.environment(environment="production", **settings)

    assert_refused(home, "--port", "0", environment=environment, naming=naming)

    assert not home.data_dir.exists()


def test_a_refused_secret_is_not_shown(home: Home) -> None:
    ended = home.run("serve", "--port", "0", environment=home.environment(secret_key="hunter2"))

    assert ended.returncode == 1
    assert "DOSSIER_SECRET_KEY" in ended.stderr
    assert "hunter2" not in ended.stdout + ended.stderr


def test_a_setting_of_the_wrong_kind_is_named(home: Home) -> None:
    environment = home.environment(port="many", token_lifetime_seconds="1")

    assert_refused(home, environment=environment, naming=("DOSSIER_PORT", "DOSSIER_TOKEN_LIFETIME_SECONDS"))


def test_keys_and_issuers_that_cannot_be_used_are_named_all_at_once(home: Home) -> None:
    keys = home.directory / "keys"
    keys.mkdir()
    base = {"mongodb_uri": "mongodb://127.0.0.1:9", "secret_key": SECRET}
    issuers = [
        {"issuer": "a", "audience": "x", "jwks": "http://elsewhere.example/", "scopes": {"x": ["users:read"]}},
        {"issuer": "b", "jwks": "keys.json", "scopes": {"x": ["everything"]}, "algorithms": ["none"]},
    ]
    cases: list[tuple[dict[str, str], tuple[str, ...]]] = [
        ({"keys_dir": str(keys)}, ("DOSSIER_KEYS_DIR", "dossier keys create")),
        (
            {"trusted_issuers": json.dumps(issuers), "public_url": "dossier.example"},
            ("PUBLIC_URL", *(f"ISSUERS.{place}: " for place in ("0.jwks", "1.audience", "1.scopes.x.0"))),
        ),
        (
            {"trusted_issuers": json.dumps([issuers[0] | {"jwks": "keys.json", "scopes": {"x": ["users:reed"]}}])},
            ("DOSSIER_TRUSTED_ISSUERS", "there is no scope users:reed", "there is no file keys.json"),
        ),
    ]

    for settings, naming in cases:
        environment = home.environment(**base, **settings)
        assert_refused(home, "--port", "0", environment=environment, naming=naming)


def test_where_no_mongod_can_be_had_one_line_names_three_ways_to_get_one(home: Home) -> None:
    (home.directory / "sitecustomize.py").write_text("import sys\n\nsys.modules['fiftyone'] = None\n")
    environment = home.environment() | {"PYTHONPATH": str(home.directory), "PATH": ""}

    assert_refused(
        home,
        "--port",
        "0",
        environment=environment,
        naming=("pip install", "PATH", "DOSSIER_MONGODB_URI"),
    )


@pytest.mark.slow  # two starts, and three that are refused
def test_a_start_waits_for_the_migrations_of_its_release(tmp_path: Path) -> None:
    folder = tmp_path / "migrations"
    folder.mkdir()
    (folder / "1.py").write_text('"""Nothing to do."""\n')
    home = Home(tmp_path, startup=f"import service.migrations; service.migrations.__path__.insert(0, {str(folder)!r})")
    try:
        first = home.launch()
        first.wait_until_ready()
        (folder / "2.py").write_text('"""Nothing to do."""\n')
        listed = home.run("database", "migrate", "--dry-run").stdout
        assert "1.py      │ has run " in listed
        assert "2.py      │ has not run " in listed

        environment = home.environment(mongodb_uri=home.mongodb_uri, secret_key=SECRET)
        for workers in ("1", "2"):
            options = ("--port", "0", "--workers", workers)
            assert_refused(home, *options, environment=environment, naming=(" 2.py: ", "dossier database migrate"))
        by_uvicorn = subprocess.run(
            [sys.executable, "-m", "uvicorn", "--port", "0", "--factory", "service.app:create_app"],
            check=False,
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert by_uvicorn.returncode == 3
        assert "the database has not had 2.py: " in by_uvicorn.stderr

        assert home.run("database", "migrate").returncode == 0
        second = home.launch(mongodb_uri=home.mongodb_uri, secret_key=SECRET)
        second.wait_until_ready()
    finally:
        home.close()
