"""Another's reading of /openapi.json: every answer to whatever it makes up is as published, and none is a failure."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from tests import everything
from tests.acceptance.process import Home, Service

SCHEMATHESIS = str(Path(sys.executable).parent / "schemathesis")
HOOKS = Path(__file__).with_name("schemathesis_hooks.py")

EVERY_CHECK = ("--checks=all", "--exclude-checks=refused_without_scope")
AS_PUBLISHED = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance"
WITHOUT_SCOPE = (f"--checks={AS_PUBLISHED},response_schema_conformance,refused_without_scope",)


class Caller:
    """Somebody who has no account here, so that nothing which is tried on accounts takes anything from them."""

    def __init__(self, directory: Path) -> None:
        self._key = Ed25519PrivateKey.generate()
        public = OKPAlgorithm.to_jwk(self._key.public_key(), as_dict=True) | {"kid": "1", "use": "sig", "alg": "EdDSA"}
        keys = directory / "issuer.json"
        keys.write_text(json.dumps({"keys": [public]}))
        self._claims = {"iss": "https://identity.example", "aud": "https://dossier.example", "sub": "schemathesis"}
        self.trusted = json.dumps(
            [
                {
                    "issuer": self._claims["iss"],
                    "audience": self._claims["aud"],
                    "jwks": str(keys),
                    "scopes": {"all": ["*"]},
                }
            ]
        )
        """What the service has to know of their issuer."""

    def token(self, scope: str) -> str:
        """Good for the whole test; `all` allows everything, another scope nothing."""
        moment = int(time.time())
        claims = self._claims | {"iat": moment, "exp": moment + 7200, "scope": scope}
        return jwt.encode(claims, self._key, "EdDSA", {"kid": "1"})


@pytest.fixture
def everything_home(tmp_path: Path) -> Iterator[Home]:
    """Where the tests' own type is served too, from a file that lies beside the others."""
    types = tmp_path / "types"
    types.mkdir()
    (types / "everything.py").write_bytes(Path(everything.__file__).read_bytes())
    home = Home(tmp_path, types)
    try:
        yield home
    finally:
        home.close()


@pytest.fixture
def caller(tmp_path: Path) -> Caller:
    """Who asks."""
    return Caller(tmp_path)


def run(home: Home, service: Service, token: str, arguments: list[str]) -> None:
    """All that schemathesis makes up, which must go well."""
    done = subprocess.run(
        [
            *(SCHEMATHESIS, "run", f"{service.address}/openapi.json", *arguments),
            *("--header", f"Authorization: Bearer {token}"),
            *("--generation-deterministic", "--continue-on-failure", "--no-color"),
        ],
        check=False,
        cwd=home.directory,  # away from anybody's schemathesis.toml
        env={"HOME": str(home.directory), "SCHEMATHESIS_HOOKS": str(HOOKS)},
        capture_output=True,
        text=True,
        timeout=900,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    generated = re.search(r"(\d+) generated", done.stdout)
    assert generated
    assert int(generated[1]) > 100
    assert [line for line in service.log if line["level"] == "error"] == []  # as of a file that broke off after its 200


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["--max-examples=10", "--exclude-tag=everythings"], id="registered types, accounts and all else"),
        # Only bodies that are valid, as nothing follows from others.
        pytest.param(
            ["--max-examples=60", "--exclude-tag=everythings", "--phases=stateful", "--mode=positive"],
            id="what follows from what",
        ),
        # The coverage phase goes through each field by itself, and this type has the most.
        pytest.param(
            ["--max-examples=10", "--include-tag=everythings", "--phases=examples,fuzzing,stateful"],
            id="everything",
        ),
        pytest.param(["--max-examples=60", "--exclude-tag=accounts"], id="all at length"),
    ],
)
def test_no_failure_and_no_answer_outside_of_the_schema(
    everything_home: Home, caller: Caller, arguments: list[str]
) -> None:
    service = everything_home.start("--sample", "20", trusted_issuers=caller.trusted)

    run(everything_home, service, caller.token("all"), [*EVERY_CHECK, *arguments])


@pytest.mark.slow
def test_without_a_scope_every_protected_route_refuses_whatever_is_sent(everything_home: Home, caller: Caller) -> None:
    service = everything_home.start("--sample", "20", trusted_issuers=caller.trusted)

    run(
        everything_home,
        service,
        caller.token("nothing"),
        [*WITHOUT_SCOPE, "--max-examples=10", "--exclude-tag=everythings"],
    )
