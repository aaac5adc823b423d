"""Independent clients as they stand: Authlib's on HTTPX, and oauthlib's on Requests."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from authlib.integrations.base_client import OAuthError
from authlib.integrations.httpx_client import OAuth2Client
from oauthlib.oauth2 import BackendApplicationClient, InvalidGrantError, LegacyApplicationClient
from oauthlib.oauth2.rfc6749.errors import InvalidClientError
from pymongo import MongoClient
from requests.auth import HTTPBasicAuth
from requests_oauthlib import OAuth2Session

from tests.acceptance.process import PASSWORD, TOKEN_PATH, Home, Service, until

PERSON, PROGRAM = "hedy", "reporting"
SECRET = "the-secret-of-a-program-0123456789"
ME = "/api/v1/auth/me"
Token = dict[str, Any]


@pytest.fixture(scope="module", autouse=True)
def _accounts(service: Service, shared_home: Home) -> None:
    for name, secret in ((PERSON, PASSWORD), (PROGRAM, SECRET)):
        ended = shared_home.run("accounts", "create", name, "--scope", "users:read", given=f"{secret}\n")
        assert ended.returncode == 0, ended.stderr
    with MongoClient[dict[str, Any]](shared_home.mongodb_uri) as client:
        client["dossier"]["accounts"].update_one({"username": PROGRAM}, {"$set": {"kind": "client"}})


@pytest.fixture(autouse=True)
def _plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


@pytest.fixture
def authlib_client(service: Service) -> Iterator[Callable[..., Any]]:
    """Makes clients that know where the token endpoint is; of Any, as not all of Authlib's methods have types."""
    made: list[OAuth2Client] = []

    def make(*arguments: Any, **options: Any) -> OAuth2Client:
        made.append(
            OAuth2Client(
                *arguments, token_endpoint=service.address + TOKEN_PATH, base_url=service.address, timeout=20, **options
            )
        )
        return made[-1]

    yield make
    for client in made:
        client.close()


def who(client: Any, service: Service) -> Token:
    """Who a client's requests are from."""
    response = client.get(service.address + ME)
    assert response.status_code == 200, response.text
    me: Token = response.json()
    return me


def test_authlib_signs_a_person_in_refreshes_by_itself_and_signs_out(
    service: Service, authlib_client: Callable[..., Any]
) -> None:
    given: list[Token] = []
    client = authlib_client("app", update_token=lambda token, **_: given.append(token))
    first = dict(client.fetch_token(username=PERSON, password=PASSWORD, scope="users:read"))
    assert who(client, service)["username"] == PERSON

    client.token = first | {"expires_at": 1}
    me = who(client, service)

    assert (me["username"], me["client_id"], me["scopes"]) == (PERSON, "app", ["users:read"])
    [second] = given
    assert second["refresh_token"] != first["refresh_token"]
    said = client.revoke_token(f"{service.address}/api/v1/auth/revoke", second["refresh_token"], "refresh_token")
    assert said.status_code == 200
    with pytest.raises(OAuthError, match="invalid_grant"):
        client.refresh_token(refresh_token=second["refresh_token"])


@pytest.mark.parametrize("method", [None, "client_secret_basic", "client_secret_post"])
def test_authlib_runs_a_program(service: Service, authlib_client: Callable[..., Any], method: str | None) -> None:
    options = {"revocation_endpoint_auth_method": method, "token_endpoint_auth_method": method} if method else {}
    client = authlib_client(PROGRAM, SECRET, grant_type="client_credentials", **options)
    first = dict(client.fetch_token())
    assert who(client, service)["kind"] == "client"
    client.token = first | {"expires_at": 1}
    assert who(client, service)["username"] == PROGRAM, "for which it got another token"

    def introspected() -> Token:
        response = client.introspect_token(f"{service.address}/api/v1/auth/introspect", first["access_token"])
        assert response.status_code == 200
        said: Token = response.json()
        return said

    assert (introspected()["active"], introspected()["username"]) == (True, PROGRAM)
    said = client.revoke_token(f"{service.address}/api/v1/auth/revoke", first["access_token"], "access_token")
    assert said.status_code == 200
    assert introspected() == {"active": False}
    with pytest.raises(OAuthError, match="invalid_client"):
        authlib_client(PROGRAM, "wrong", **options).fetch_token(grant_type="client_credentials")


def test_authlib_signs_a_person_in_at_a_program(service: Service, authlib_client: Callable[..., Any]) -> None:
    client = authlib_client(PROGRAM, SECRET)
    first = dict(client.fetch_token(username=PERSON, password=PASSWORD))
    second = dict(client.refresh_token(refresh_token=first["refresh_token"]))

    assert second["refresh_token"] != first["refresh_token"]
    assert (who(client, service)["username"], who(client, service)["client_id"]) == (PERSON, PROGRAM)
    with pytest.raises(OAuthError, match="invalid_grant"):
        authlib_client("app").refresh_token(refresh_token=second["refresh_token"])


def test_oauthlib_signs_a_person_in_refreshes_by_itself_and_signs_out(service: Service) -> None:
    given: list[Token] = []
    client = LegacyApplicationClient(client_id="app")
    with OAuth2Session(
        client=client,
        auto_refresh_url=service.address + TOKEN_PATH,
        auto_refresh_kwargs={"client_id": "app"},
        token_updater=given.append,
    ) as session:
        first = dict(session.fetch_token(service.address + TOKEN_PATH, username=PERSON, password=PASSWORD))
        assert who(session, service)["client_id"] == "app"
        session.token = first | {"expires_in": -1, "expires_at": 1}
        assert who(session, service)["username"] == PERSON

        [second] = given
        assert second["refresh_token"] != first["refresh_token"]
        url, headers, body = client.prepare_token_revocation_request(
            f"{service.address}/api/v1/auth/revoke", second["refresh_token"], "refresh_token"
        )
        assert requests.post(url, data=body, headers=headers, timeout=20).status_code == 200
        with pytest.raises(InvalidGrantError):
            session.refresh_token(service.address + TOKEN_PATH)


@pytest.mark.parametrize(
    "proof",
    [{"auth": HTTPBasicAuth(PROGRAM, SECRET)}, {"include_client_id": True, "client_secret": SECRET}],
    ids=["basic", "form"],
)
def test_oauthlib_runs_a_program(service: Service, proof: dict[str, Any]) -> None:
    with OAuth2Session(client=BackendApplicationClient(client_id=PROGRAM)) as session:
        token = session.fetch_token(service.address + TOKEN_PATH, **proof)

        assert "refresh_token" not in token
        assert who(session, service)["username"] == PROGRAM
        with pytest.raises(InvalidClientError):
            session.fetch_token(service.address + TOKEN_PATH, client_secret="wrong")


def test_no_token_and_no_secret_is_written_anywhere(service: Service, shared_home: Home) -> None:
    http = service.http
    first = service.sign_in(PERSON).json()
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = http.post(TOKEN_PATH, data=form).json()
    wrong, forged = "a wrong secret, canary", second["refresh_token"][:-4] + "AAAA"
    answers = [
        http.post(TOKEN_PATH, data=form | {"refresh_token": forged}),
        http.post(TOKEN_PATH, params=form, data={"grant_type": "refresh_token"}),
        http.post(TOKEN_PATH, data={"grant_type": wrong, "client_secret": wrong}),
        http.post(TOKEN_PATH, data={"grant_type": "client_credentials"}, auth=(PROGRAM, wrong)),
        http.post(TOKEN_PATH, data={"grant_type": "client_credentials", "client_id": PROGRAM, "client_secret": wrong}),
        http.post("/api/v1/auth/introspect", data={"token": second["refresh_token"]}, auth=(PROGRAM, SECRET)),
        http.post("/api/v1/auth/introspect", data={"token": wrong}, headers={"Authorization": f"Bearer {wrong}"}),
        http.post("/api/v1/auth/revoke", data={"token": second["access_token"], "client_id": wrong}),
        http.post("/api/v1/auth/revoke", data={"token": second["access_token"]}),
        http.post(TOKEN_PATH, data=form),
    ]
    assert [answer.status_code for answer in answers] == [400, 400, 400, 401, 401, 200, 401, 400, 200, 400]
    with MongoClient[dict[str, Any]](shared_home.mongodb_uri) as client:
        database = client["dossier"]
        kept = "".join(str(document) for name in database.list_collection_names() for document in database[name].find())
    last = answers[-1].headers["x-request-id"]
    until(lambda: last in service.stderr, "the last request is logged")

    secrets = {
        "an access token": first["access_token"],
        "its signature": second["access_token"].rpartition(".")[2],
        "a refresh token": first["refresh_token"],
        "the one after it": second["refresh_token"],
        "a forged one": forged,
        "a client's secret": SECRET,
        "a wrong secret": wrong,
    }
    written = service.stdout + service.stderr + "".join(answer.text for answer in answers) + kept
    assert [name for name, secret in secrets.items() if secret in written] == []
    assert "sign_out" in kept
