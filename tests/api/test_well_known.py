"""What other programs find out by themselves: the metadata and the public keys."""

import warnings
from dataclasses import replace
from pathlib import Path

import httpx
import jsonschema
import pytest
from fastapi import FastAPI
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import KeySet

from service.api.dependencies import Services
from service.auth.key_ring import KeyFolder
from service.auth.keys import generate_key, public_pem
from service.auth.tokens import OwnAuthority, TokenSigner, TokenVerifier
from service.settings import KeyAlgorithm
from tests.conftest import CALLER_ID, ISSUER, client_of
from tests.key_files import write_key

METADATA = "/.well-known/oauth-authorization-server"
JWKS = "/.well-known/jwks.json"


async def test_the_metadata_is_that_of_rfc_8414(app: FastAPI, anonymous: httpx.AsyncClient, services: Services) -> None:
    response = await anonymous.get(METADATA)

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "public, max-age=300"
    metadata = response.json()
    assert metadata["issuer"] == ISSUER
    assert metadata["token_endpoint"] == f"{ISSUER}/api/v1/auth/token"
    assert metadata["revocation_endpoint"] == f"{ISSUER}/api/v1/auth/revoke"
    assert metadata["introspection_endpoint"] == f"{ISSUER}/api/v1/auth/introspect"
    assert metadata["grant_types_supported"] == ["password", "client_credentials", "refresh_token"]
    assert metadata["response_types_supported"] == []
    assert metadata["scopes_supported"] == list(services.scopes)
    jsonschema.validate(metadata, app.openapi()["components"]["schemas"]["ServerMetadata"])
    assert (await anonymous.get(metadata["jwks_uri"])).json() == {"keys": []}, "a secret key is nobody else's"
    assert (await anonymous.get(metadata["service_documentation"])).status_code == 200


async def test_the_metadata_does_not_promise_a_grant_that_is_switched_off(app: FastAPI, services: Services) -> None:
    settings = services.settings.model_copy(update={"password_grant": False})
    async with client_of(app, replace(services, settings=settings)) as client:
        metadata = (await client.get(METADATA, headers={"Host": "evil.example"})).json()

    assert "password" not in metadata["grant_types_supported"]
    assert "evil" not in str(metadata), "nothing is made of what a request says"


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256", "RS256"])
async def test_others_verify_our_tokens_with_what_is_published(
    app: FastAPI, services: Services, client: httpx.AsyncClient, tmp_path: Path, algorithm: KeyAlgorithm
) -> None:
    key = generate_key(algorithm)
    write_key(tmp_path / "2.pem", key)
    (tmp_path / "1.pem").write_bytes(public_pem(generate_key("EdDSA").public_key()))
    keys = KeyFolder(tmp_path)
    signer = TokenSigner(keys, ISSUER, 600)
    verifier = TokenVerifier([OwnAuthority(keys, ISSUER)])
    async with client_of(app, replace(services, keys=keys, signer=signer, verifier=verifier)) as other:
        response = await other.get(JWKS)
        token = signer.issue(CALLER_ID, "tester", "tests", ["users:read"])
        mine = await other.get("/api/v1/users", headers={"Authorization": f"Bearer {token}"})
        of_the_secret_key = await other.get("/api/v1/users", headers=client.headers)

    assert of_the_secret_key.status_code == 401, "which signs nothing where there are key pairs"
    assert mine.status_code == 200
    assert response.headers["content-type"] == "application/jwk-set+json"
    assert response.headers["cache-control"] == "public, max-age=15"
    assert [jwk["kid"] for jwk in response.json()["keys"]] == ["1", "2"]
    jsonschema.validate(response.json(), app.openapi()["components"]["schemas"]["JwkSet"])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "EdDSA is deprecated")  # by RFC 9864, whose name for it few know yet
        read = joserfc_jwt.decode(token, KeySet.import_key_set(response.json()), algorithms=[algorithm])
    assert read.header == {"typ": "at+jwt", "alg": algorithm, "kid": "2"}
    assert (read.claims["iss"], read.claims["aud"], read.claims["sub"]) == (ISSUER, "dossier", CALLER_ID)
