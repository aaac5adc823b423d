"""A service whose user may read and write, but not change validators."""

from pathlib import Path

import pytest
from pymongo import MongoClient

from tests.acceptance.process import PASSWORD, Home, Service, until
from tests.acceptance.replica_set import NAME, Mongod

pytestmark = pytest.mark.slow


@pytest.fixture
def guarded(tmp_path: Path) -> Mongod:
    """A mongod that asks who is there, with a user `service` who has `readWrite` and nothing else."""
    key_file = tmp_path / "key"
    key_file.touch(mode=0o600)
    key_file.write_text("a key for the members of the set")
    return Mongod(tmp_path / "guarded", "--replSet", NAME, "--keyFile", str(key_file))


def test_a_start_says_in_one_line_what_its_user_may_not(guarded: Mongod, home: Home) -> None:
    with guarded, MongoClient[dict[str, object]](guarded.uri) as client:
        client.admin.command("replSetInitiate", {"_id": NAME, "members": [{"_id": 0, "host": guarded.address}]})
        until(lambda: guarded.hello().get("isWritablePrimary"), "it is primary")
        client.admin.command("createUser", "root", pwd=PASSWORD, roles=["root"])
        with MongoClient[dict[str, object]](guarded.uri, username="root", password=PASSWORD) as root:
            role = {"role": "readWrite", "db": "dossier"}
            root.admin.command("createUser", "service", pwd="secret", roles=[role])
            settings = {
                "mongodb_uri": f"mongodb://service:secret@{guarded.address}/?replicaSet={NAME}",
                "secret_key": "a secret key of 32 bytes and more",
                "admin_password": PASSWORD,
            }

            refused = home.run("serve", "--port", "0", environment=home.environment(**settings))

            change = {"resource": {"db": "dossier", "collection": ""}, "actions": ["collMod"]}
            root["dossier"].command("createRole", "validating", privileges=[change], roles=[])
            root.admin.command("grantRolesToUser", "service", roles=[{"role": "validating", "db": "dossier"}])
            service: Service = home.start(**settings)
            assert service.sign_in().status_code == 200

    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "collMod" in refused.stderr
    assert "users" in refused.stderr or "items" in refused.stderr
