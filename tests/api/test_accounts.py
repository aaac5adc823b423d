"""Accounts over HTTP: who there is, who may change whom, and what is never shown."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from itertools import product
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from structlog.testing import capture_logs

from service.api.dependencies import Services
from service.auth.accounts import ACCOUNTS, Account
from service.auth.administration import Administration
from service.auth.last_admin import ADMINS, is_admin
from service.auth.scopes import ACCOUNTS_ADMIN, ROLES, Role, allowed_scopes
from service.store.audit_records import AuditEvent, AuditTrail
from service.store.leases import LOCKS
from tests.accounts import change_account
from tests.conftest import CALLER_ID, CommandRecorder, client_of

ACCOUNTS_PATH = "/api/v1/accounts"
MY_PASSWORD = "/api/v1/auth/me/password"
PASSWORD = "correct horse battery"
OTHER_PASSWORD = "another horse battery"
UNKNOWN_ID = "0123456789abcdef01234567"
ROUNDS = 20

Become = Callable[[Account, Iterable[str]], None]
Audited = list[tuple[str, str, str | None, str | None, list[str]]]
"""Of each event: action, outcome, target, reason, changed."""


@pytest.fixture
def become(services: Services, anonymous: httpx.AsyncClient) -> Become:
    """Says whose token, with which scopes, the next requests have."""

    def change(account: Account, scopes: Iterable[str]) -> None:
        token = services.signer.issue(str(account.id), account.username, "tests", list(scopes), epoch=account.epoch)
        anonymous.headers["Authorization"] = f"Bearer {token}"

    return change


async def create(client: httpx.AsyncClient, **body: Any) -> dict[str, Any]:
    response = await client.post(ACCOUNTS_PATH, json={"username": "ada", "password": PASSWORD} | body)
    assert response.status_code == 201, response.text
    account: dict[str, Any] = response.json()
    return account


def address(account: Any) -> str:
    return f"{ACCOUNTS_PATH}/{account['id'] if isinstance(account, dict) else account}"


async def audited() -> Audited:
    events = await AuditEvent.find({}).sort("_id").to_list()
    return [(event.action, event.outcome, event.target, event.reason, event.changed) for event in events]


async def stored_hash(username: str) -> str:
    account = await Account.find_one({"username": username})
    assert account is not None
    return account.password_hash


async def test_a_new_account_is_as_it_was_asked_for_and_signs_in(client: httpx.AsyncClient, services: Services) -> None:
    body = {"username": "ada", "password": PASSWORD, "roles": ["viewer"], "scopes": ["items:*"]}

    response = await client.post(ACCOUNTS_PATH, json=body | {"id": UNKNOWN_ID, "revision": 9, "created_at": "never"})

    assert response.status_code == 201
    account = response.json()
    assert response.headers["location"] == address(account)
    assert response.headers["etag"] == '"1"'
    assert response.headers["cache-control"] == "no-store"
    assert list(account) == list(ACCOUNTS.fields)
    assert account["id"] != UNKNOWN_ID
    expected = {"username": "ada", "kind": "person", "roles": ["viewer"], "scopes": ["items:*"], "is_active": True}
    assert {name: account[name] for name in expected} == expected
    read = await client.get(address(account))
    assert (read.json(), read.headers["etag"]) == (account, '"1"')
    assert (await client.get(address(account), headers={"If-None-Match": '"1"'})).status_code == 304
    signed_in = await services.accounts.authenticate("ada", PASSWORD)
    assert signed_in is not None
    assert signed_in.patterns == ["*:read", "items:*"]


async def test_a_client_gets_a_secret_that_is_shown_once(client: httpx.AsyncClient, services: Services) -> None:
    response = await client.post(ACCOUNTS_PATH, json={"username": "robot", "kind": "client", "roles": ["analyst"]})

    account = response.json()
    secret = account.pop("client_secret")
    assert response.status_code == 201
    assert response.headers["cache-control"] == "no-store"
    assert len(secret) == 43  # 32 bytes
    assert (await client.get(address(account))).json() == account
    assert await services.accounts.authenticate("robot", secret, "client")

    renewed = await client.post(f"{address(account)}/secret")
    assert renewed.status_code == 200
    assert renewed.headers["cache-control"] == "no-store"
    assert renewed.headers["etag"] == '"2"'
    new_secret = renewed.json()["client_secret"]
    assert new_secret != secret
    assert await services.accounts.authenticate("robot", new_secret, "client")
    assert await services.accounts.authenticate("robot", secret, "client") is None
    given = await create(client, username="other-robot", kind="client")
    assert "client_secret" not in given
    assert await services.accounts.authenticate("other-robot", PASSWORD, "client")
    of_a_person = await client.post(f"{address(await create(client))}/secret")
    assert of_a_person.status_code == 422
    assert of_a_person.json()["errors"][0]["code"] == "client_expected"
    assert (await client.post(f"{address(UNKNOWN_ID)}/secret")).status_code == 404


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        ({}, {"/username": "missing", "/password": "missing"}),
        ({"username": "ada"}, {"/password": "missing"}),
        ({"username": "ada", "password": "1234567"}, {"/password": "weak_password"}),
        ({"username": "ada", "password": "Password1"}, {"/password": "weak_password"}),
        ({"username": "adalovelace", "password": "AdaLovelace7"}, {"/password": "weak_password"}),
        ({"username": "ada", "password": None}, {"/password": "string_type"}),
        ({"username": "ada", "password": ["x" * 9]}, {"/password": "string_type"}),
        ({"username": "robot", "kind": "client", "password": "password"}, {"/password": "weak_password"}),
        (
            {
                "username": "a b",
                "kind": "dog",
                "roles": ["king"],
                "scopes": ["users"],
                "password": "x",
                "pass": PASSWORD,
            },
            {
                "/username": "invalid_username",
                "/kind": "literal_error",
                "/roles/0": "literal_error",
                "/scopes/0": "invalid_scope",
                "/password": "weak_password",
                "/pass": "unknown_field",
            },
        ),
        (
            {"username": "dossier", "kind": "client", "password": PASSWORD, "roles": ["king"]},
            {"/username": "reserved_username", "/roles/0": "literal_error"},
        ),
        ({"username": "ada\n", "password": PASSWORD}, {"/username": "invalid_username"}),
        (
            {"username": {"$ne": None}, "password": PASSWORD},
            {"/username": "string_type", "/username/$ne": "invalid_key"},
        ),
        ({"username": "ada", "password": PASSWORD, "scopes": "users:read"}, {"/scopes": "list_type"}),
        ({"username": "ada", "password": PASSWORD, "scopes": ["*:*:*"]}, {"/scopes/0": "invalid_scope"}),
        ({"username": "ada", "password": PASSWORD, "password_hash": "x"}, {"/password_hash": "unknown_field"}),
        ([], {"": "object_expected"}),
    ],
)
async def test_all_faults_are_told_and_no_password(
    client: httpx.AsyncClient, body: Any, faults: dict[str, str]
) -> None:
    response = await client.post(ACCOUNTS_PATH, json=body)

    assert response.status_code == 422
    assert {fault["pointer"]: fault["code"] for fault in response.json()["errors"]} == faults
    for secret in (PASSWORD, "Password1", "AdaLovelace7"):
        assert secret not in response.text
    assert await audited() == []


async def test_a_password_that_is_no_text_is_a_fault(client: httpx.AsyncClient) -> None:
    headers = {"Content-Type": "application/json"}
    for password in (rb'"\ud800\ud800\ud800\ud800\ud800\ud800\ud800\ud800"', b"1.00000000000000000001"):
        body = b'{"username": "ada", "password": ' + password + b"}"
        response = await client.post(ACCOUNTS_PATH, content=body, headers=headers)
        assert response.status_code == 422
        assert [fault["pointer"] for fault in response.json()["errors"]] == ["/password"]


async def test_a_name_is_there_once(client: httpx.AsyncClient) -> None:
    await create(client)

    response = await client.post(ACCOUNTS_PATH, json={"username": "ada", "password": PASSWORD})

    assert response.status_code == 409
    assert response.json()["code"] == "duplicate_value"
    assert response.json()["errors"][0]["pointer"] == "/username"


async def test_a_patch_changes_what_it_names(client: httpx.AsyncClient, services: Services) -> None:
    account = await create(client, roles=["viewer"], scopes=["items:*"])

    response = await client.patch(address(account), json={"roles": ["editor"], "scopes": None, "revision": 7})

    assert response.status_code == 200
    changed = response.json()
    assert response.headers["etag"] == '"2"'
    assert changed == account | {
        "roles": ["editor"],
        "scopes": [],
        "revision": 2,
        "updated_at": changed["updated_at"],
    }
    assert (await client.get(address(account))).json() == changed
    same = await client.patch(address(account), json=changed, headers={"If-Match": '"2"'})
    assert (same.status_code, same.json()) == (200, changed)  # nothing was changed, so nothing is written
    new_password = await client.patch(
        address(account),
        json={"password": OTHER_PASSWORD},
        headers={"Content-Type": "application/merge-patch+json", "If-Match": '"2"'},
    )
    assert new_password.json()["revision"] == 3
    assert await services.accounts.authenticate("ada", PASSWORD) is None
    assert await services.accounts.authenticate("ada", OTHER_PASSWORD)
    assert await audited() == [
        ("account_created", "done", "ada", None, []),
        ("account_changed", "done", "ada", None, ["roles", "scopes"]),
        ("password_changed", "done", "ada", None, ["password"]),
    ]


@pytest.mark.parametrize(
    ("patch", "faults"),
    [
        ({"username": "bob"}, {"/username": "fixed_field"}),
        ({"kind": "client", "username": "bob"}, {"/kind": "fixed_field", "/username": "fixed_field"}),
        ({"password": None}, {"/password": "string_type"}),
        ({"password": "ada", "roles": ["king"]}, {"/password": "weak_password", "/roles/0": "literal_error"}),
        ({"is_active": "no", "x": 1}, {"/is_active": "bool_type", "/x": "unknown_field"}),
        ({"password_hash": None}, {"/password_hash": "unknown_field"}),
        ([1], {"": "object_expected"}),
    ],
)
async def test_what_a_patch_may_not_make_of_it(client: httpx.AsyncClient, patch: Any, faults: dict[str, str]) -> None:
    account = await create(client)

    response = await client.patch(address(account), json=patch)

    assert response.status_code == 422, response.text
    assert {fault["pointer"]: fault["code"] for fault in response.json()["errors"]} == faults
    assert (await client.get(address(account))).json() == account


async def test_an_account_that_had_the_name_of_nameless_clients_before_can_be_changed(
    client: httpx.AsyncClient,
) -> None:
    account = await create(client)
    await Account.get_pymongo_collection().update_one({"username": "ada"}, {"$set": {"username": "dossier"}})

    assert (await client.patch(address(account), json={"is_active": False})).status_code == 200


async def test_a_stale_tag_and_a_strange_one(client: httpx.AsyncClient) -> None:
    account = await create(client)
    stored = await stored_hash("ada")
    for stale in (
        await client.patch(address(account), json={"is_active": False}, headers={"If-Match": '"7"'}),
        await client.delete(address(account), headers={"If-Match": '"7"'}),
    ):
        assert stale.status_code == 412
        assert stale.headers["etag"] == '"1"'
        assert stale.json()["current"] == account
        assert stored not in stale.text
    assert (await client.delete(address(account), headers={"If-Match": "7"})).status_code == 400
    assert (await client.delete(address(account), headers={"If-Match": '"1"'})).status_code == 204
    assert (await client.get(address(account))).status_code == 404
    assert (await audited())[-1] == ("account_deleted", "done", "ada", None, [])


@pytest.mark.parametrize("account_id", [UNKNOWN_ID, "no-id", "ada", "schema", "export", "$ne"])
async def test_what_is_no_account_is_not_found(client: httpx.AsyncClient, account_id: str) -> None:
    path = address(account_id)
    answers = [
        await client.get(path),
        await client.patch(path, json={"is_active": False}),
        await client.delete(path),
        await client.post(f"{path}/secret"),
    ]
    assert [answer.json()["code"] for answer in answers] == ["not_found"] * 4


async def test_a_body_is_json_of_its_size(client: httpx.AsyncClient, services: Services) -> None:
    account = await create(client)
    patch = await client.patch(address(account), content=b"[]", headers={"Content-Type": "application/json-patch+json"})
    assert patch.status_code == 415
    assert patch.headers["accept-patch"] == "application/json, application/merge-patch+json"
    large = b" " * (services.settings.max_body_bytes + 1)
    headers = {"Content-Type": "application/json"}
    for answer in (
        await client.post(ACCOUNTS_PATH, content=large, headers=headers),
        await client.put(MY_PASSWORD, content=large, headers=headers),
    ):
        assert answer.status_code == 413


async def test_the_list_has_the_query_language_of_all_lists(client: httpx.AsyncClient) -> None:
    for number in range(5):
        await create(client, username=f"user-{number}", roles=["viewer"] if number % 2 else [])
    await create(client, username="robot", kind="client", scopes=["users:read"])

    async def names(**parameters: Any) -> list[str]:
        response = await client.get(ACCOUNTS_PATH, params={"sort": "-username"} | parameters)
        assert response.status_code == 200, response.text
        return [account["username"] for account in response.json()["items"]]

    assert await names(kind="client") == ["robot"]
    assert await names(roles="viewer") == ["user-3", "user-1"]
    assert await names(scopes="users:read") == ["robot"]
    assert await names(q="USER", limit=2, skip=1) == ["user-3", "user-2"]
    assert await names(username__startswith="user-", is_active="true", username__ne="user-4", limit=1) == ["user-3"]
    first = (await client.get(ACCOUNTS_PATH, params={"limit": 4, "fields": "username,kind"})).json()
    assert (first["total"], first["total_relation"]) == (7, "eq")
    assert set(first["items"][0]) == {"id", "username", "kind"}
    second = (await client.get(ACCOUNTS_PATH, params={"limit": 4, "cursor": first["next_cursor"]})).json()
    assert len(second["items"]) == 3
    assert second["next_cursor"] is None


async def test_no_path_leads_to_the_password_hash(client: httpx.AsyncClient) -> None:
    await create(client)
    stored = await stored_hash("ada")

    for name in ("password_hash", "password", "client_secret"):
        for parameters in (
            {name: stored},
            {f"{name}__startswith": "$argon2id"},
            {f"{name}__regex": "a"},
            {f"{name}__exists": "true"},
            {"sort": name},
            {"fields": name},
            {"fields": f"username,{name}"},
        ):
            hidden = await client.get(ACCOUNTS_PATH, params=parameters)
            unknown = await client.get(
                ACCOUNTS_PATH,
                params={
                    key.replace(name, "nothing"): value.replace(name, "nothing") for key, value in parameters.items()
                },
            )
            assert hidden.status_code == unknown.status_code == 400
            codes = [[fault["code"] for fault in answer.json()["errors"]] for answer in (hidden, unknown)]
            assert codes[0] == codes[1]
    listed = await client.get(ACCOUNTS_PATH, params={"q": "argon"})
    assert listed.json()["items"] == []
    everything = await client.get(ACCOUNTS_PATH)
    assert "hash" not in everything.text
    assert "argon" not in everything.text
    assert "password_hash" not in (await client.get("/openapi.json")).text
    assert "password_hash" not in ACCOUNTS.fields


@pytest.mark.caller(scopes={"users:read", "users:write"})
async def test_without_the_scope_there_is_nothing_to_manage(client: httpx.AsyncClient) -> None:
    for answer in (
        await client.get(ACCOUNTS_PATH),
        await client.post(ACCOUNTS_PATH, json={}),
        await client.get(address(CALLER_ID)),
        await client.patch(address(CALLER_ID), json={}),
        await client.delete(address(CALLER_ID)),
        await client.post(f"{address(CALLER_ID)}/secret"),
    ):
        assert answer.status_code == 403
        assert answer.json()["code"] == "insufficient_scope"
        assert 'scope="accounts:admin"' in answer.headers["www-authenticate"]


GRANTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "nothing": ({}, []),
    "what they have": ({"scopes": ["users:read", "accounts:admin"]}, []),
    "a role that is less": ({"roles": ["viewer"]}, []),
    "everything": ({"scopes": ["users:read", "*"]}, ["/scopes/1"]),
    "everything by a role": ({"roles": ["admin"]}, ["/roles/0"]),
    "everything in two parts": ({"scopes": ["*:*"]}, ["/scopes/0"]),
    "another action": ({"scopes": ["users:delete"]}, ["/scopes/0"]),
    "an action of all types": ({"roles": ["editor"], "scopes": ["*:private"]}, ["/roles/0", "/scopes/0"]),
    "all of a type": ({"scopes": ["users:*"]}, ["/scopes/0"]),
}


@pytest.mark.parametrize(("grant", "refused"), GRANTS.values(), ids=list(GRANTS))
async def test_nobody_hands_out_more_than_they_have(
    anonymous: httpx.AsyncClient, services: Services, become: Become, grant: dict[str, Any], refused: list[str]
) -> None:
    clerk = await services.accounts.create("clerk", PASSWORD, ["*:read", "accounts:admin"])
    target = await services.accounts.create("target", PASSWORD)
    become(clerk, [*(scope for scope in services.scopes if scope.endswith(":read")), "accounts:admin"])

    answers = [
        await anonymous.post(ACCOUNTS_PATH, json={"username": "new", "password": PASSWORD, **grant}),
        await anonymous.patch(address(target.id), json=grant),
        await anonymous.patch(address(clerk.id), json={"roles": [], "scopes": ["accounts:admin"]} | grant),
    ]

    if not refused:
        assert [answer.status_code for answer in answers[:2]] == [201, 200]
        return
    for answer in answers:
        assert answer.status_code == 403, answer.text
        assert answer.json()["code"] == "exceeds_authority"
        assert [fault["pointer"] for fault in answer.json()["errors"]] == refused
    assert await Account.find_one({"username": "new"}) is None
    assert (await services.accounts.get("target")).patterns == []
    assert (await services.accounts.get("clerk")).patterns == ["*:read", "accounts:admin"]
    assert [event[:4] for event in await audited()] == [
        ("account_created", "refused", "new", "exceeds_authority"),
        ("account_changed", "refused", "target", "exceeds_authority"),
        ("account_changed", "refused", "clerk", "exceeds_authority"),
    ]


async def test_who_has_every_scope_of_today_has_not_those_of_tomorrow(
    anonymous: httpx.AsyncClient, services: Services, become: Become
) -> None:
    clerk = await services.accounts.create("clerk", PASSWORD, list(services.scopes))
    become(clerk, services.scopes)

    response = await anonymous.post(ACCOUNTS_PATH, json={"username": "new", "password": PASSWORD, "roles": ["viewer"]})

    assert response.status_code == 403


async def test_a_token_for_less_hands_out_less(
    anonymous: httpx.AsyncClient, services: Services, become: Become
) -> None:
    root = await services.accounts.create("root", PASSWORD, roles=["admin"])
    target = await services.accounts.create("target", PASSWORD)
    become(root, ["accounts:admin", "users:read"])

    def grant(*scopes: str) -> Any:
        return anonymous.patch(address(target.id), json={"scopes": list(scopes)})

    assert (await grant("users:write")).status_code == 403
    assert (await grant("*")).status_code == 403
    assert (await grant("users:read")).status_code == 200
    assert (await anonymous.patch(address(root.id), json={"password": OTHER_PASSWORD})).status_code == 403


async def test_who_was_disabled_elsewhere_hands_out_nothing_more(
    anonymous: httpx.AsyncClient, services: Services, become: Become
) -> None:
    clerk = await services.accounts.create("clerk", PASSWORD, ["*:read", "accounts:admin"])
    target = await services.accounts.create("target", PASSWORD)
    become(clerk, services.scopes)
    grant = {"roles": ["viewer"]}
    assert (await anonymous.patch(address(target.id), json=grant)).status_code == 200
    await Account.get_pymongo_collection().update_one({"_id": clerk.id}, {"$set": {"is_active": False}})

    refused = await anonymous.patch(address(target.id), json={"scopes": ["users:read"]})

    assert (refused.status_code, refused.json()["code"]) == (403, "exceeds_authority"), "though it is remembered"


async def test_a_deletion_that_cannot_be_written_down_is_logged_whole(
    client: httpx.AsyncClient, app: FastAPI, services: Services
) -> None:
    account = await create(client)
    headers = {"Authorization": client.headers["Authorization"]}
    hasty = AuditTrail(services.settings.audit_days, 0.000_001)
    repository = services.records[ACCOUNTS.name]
    administration = Administration(services.accounts, repository, hasty, services.standing.forget_account)
    async with client_of(app, replace(services, administration=administration)) as other:
        with capture_logs() as lines:
            response = await other.delete(address(account), headers=headers)

    assert response.status_code == 204
    [whole] = [line["audit"] for line in lines if "audit" in line]
    assert (whole["action"], whole["target"], whole["account"]) == ("account_deleted", "ada", "tester")


async def test_the_mightier_are_left_alone(anonymous: httpx.AsyncClient, services: Services, become: Become) -> None:
    clerk = await services.accounts.create("clerk", PASSWORD, ["users:read", "accounts:admin"])
    root = await services.accounts.create("root", PASSWORD, roles=["admin"])
    robot = await services.accounts.create("robot", PASSWORD, ["users:write"], kind="client")
    retired = await services.accounts.create("retired", PASSWORD, ["items:*"])
    await change_account(services, "retired", is_active=False)
    become(clerk, ["users:read", "accounts:admin"])
    before = [account.model_dump() for account in await services.accounts.list()]

    answers = [
        await anonymous.patch(address(root.id), json={"is_active": False}),
        await anonymous.patch(address(root.id), json={"password": OTHER_PASSWORD}),
        await anonymous.patch(address(root.id), json={"roles": []}),
        await anonymous.patch(address(root.id), json={}),
        await anonymous.delete(address(root.id)),
        await anonymous.post(f"{address(robot.id)}/secret"),
        await anonymous.patch(address(robot.id), json={"scopes": []}),
        await anonymous.patch(address(retired.id), json={"is_active": True}),
        await anonymous.delete(address(retired.id)),
    ]

    assert [answer.json()["code"] for answer in answers] == ["exceeds_authority"] * len(answers)
    assert [account.model_dump() for account in await services.accounts.list()] == before
    assert (await anonymous.get(address(root.id))).status_code == 200


LOSSES: dict[str, Callable[[httpx.AsyncClient, str], Any]] = {
    "disabled": lambda client, path: client.patch(path, json={"is_active": False}),
    "demoted": lambda client, path: client.patch(path, json={"roles": ["viewer"], "scopes": ["users:*"]}),
    "deleted": lambda client, path: client.delete(path),
}


@pytest.mark.parametrize("lose", LOSSES.values(), ids=list(LOSSES))
async def test_the_last_admin_stays(
    client: httpx.AsyncClient, services: Services, lose: Callable[[httpx.AsyncClient, str], Any]
) -> None:
    path = address(CALLER_ID)
    await services.accounts.create("disabled-admin", PASSWORD, roles=["admin"])
    await change_account(services, "disabled-admin", is_active=False)
    await services.accounts.create("editor", PASSWORD, ["accounts:read"], roles=["editor"])

    refused = await lose(client, path)

    assert refused.status_code == 409
    assert refused.json()["code"] == "last_admin"
    assert (await audited())[-1][1:4] == ("refused", "tester", "last_admin")
    assert (
        await client.patch(path, json={"scopes": ["accounts:admin", "*"]})
    ).status_code == 200  # which loses nothing
    await change_account(services, "disabled-admin", is_active=True)
    assert (await lose(client, path)).status_code in {200, 204}


async def test_the_last_admin_is_the_same_to_mongodb_and_to_python(
    services: Services, anonymous: httpx.AsyncClient
) -> None:
    scopes = ["*", "*:*", "accounts:*", "*:admin", "accounts:admin", "accounts:read", "*:read", "users:admin"]
    accounts: list[tuple[list[Role], list[str], bool]] = [
        *(([role], [], is_active) for role in ROLES for is_active in (True, False)),
        *(([], [pattern], True) for pattern in scopes),
        ([], ["*"], False),
    ]
    for number, (roles, patterns, is_active) in enumerate(accounts):
        await Account(
            username=f"user-{number}", password_hash="!", roles=roles, scopes=patterns, is_active=is_active
        ).insert()
    everybody = await Account.get_pymongo_collection().find({}).to_list()

    found = await Account.get_pymongo_collection().find(ADMINS).to_list()

    assert found == [account for account in everybody if is_admin(account)]
    by_patterns = [
        account.username
        for account in await Account.find({}).to_list()
        if account.is_active and allowed_scopes(account.patterns, [ACCOUNTS_ADMIN])
    ]
    assert by_patterns == [account["username"] for account in found]
    assert len(found) == 6


async def test_two_admins_who_end_each_other_at_once_leave_one(
    anonymous: httpx.AsyncClient, services: Services, become: Become
) -> None:
    await services.database.handle[LOCKS].drop()  # so that two make it at the same time as well
    ways = list(product(LOSSES.values(), LOSSES.values()))
    for number in range(ROUNDS):
        await Account.get_pymongo_collection().delete_many({})
        left = await Account(username="left", password_hash="!", roles=["admin"]).insert()
        right = await Account(username="right", password_hash="!", scopes=["accounts:*", "*"]).insert()
        become(left, services.scopes)
        first, second = ways[number % len(ways)]

        answers = await asyncio.gather(first(anonymous, address(right.id)), second(anonymous, address(left.id)))

        codes = sorted(answer.status_code for answer in answers)
        assert codes[0] in {200, 204}
        # Where the first was done before the second was let in, its caller is gone.
        assert codes[1] in {401, 403, 409}, [answer.text for answer in answers]
        assert await Account.get_pymongo_collection().count_documents(ADMINS) == 1


async def test_a_person_changes_their_own_password(
    anonymous: httpx.AsyncClient, services: Services, become: Become
) -> None:
    ada = await services.accounts.create("ada", PASSWORD)
    become(ada, [])

    response = await anonymous.put(MY_PASSWORD, json={"current_password": PASSWORD, "new_password": OTHER_PASSWORD})

    assert response.status_code == 204
    assert await services.accounts.authenticate("ada", OTHER_PASSWORD)
    assert await services.accounts.authenticate("ada", PASSWORD) is None
    assert await audited() == [("password_changed", "done", "ada", None, ["password"])]


@pytest.mark.parametrize(
    ("body", "faults"),
    [
        (
            {"current_password": "wrong horse", "new_password": OTHER_PASSWORD},
            {"/current_password": "wrong_password"},
        ),
        (
            {"current_password": "wrong horse", "new_password": "sunshine"},
            {"/current_password": "wrong_password", "/new_password": "weak_password"},
        ),
        ({"current_password": PASSWORD, "new_password": "ada"}, {"/new_password": "weak_password"}),
        ({"current_password": PASSWORD}, {"/new_password": "missing"}),
        ({"new_password": OTHER_PASSWORD}, {"/current_password": "missing"}),
        (
            {"current_password": 1, "new_password": 2, "username": "root"},
            {"/current_password": "string_type", "/new_password": "string_type", "/username": "unknown_field"},
        ),
        ([], {"": "object_expected"}),
    ],
)
async def test_a_password_is_changed_by_whoever_knows_it_and_for_a_good_one(
    anonymous: httpx.AsyncClient, services: Services, become: Become, body: Any, faults: dict[str, str]
) -> None:
    become(await services.accounts.create("ada", PASSWORD), services.scopes)

    response = await anonymous.put(MY_PASSWORD, json=body)

    assert response.status_code == 422
    assert {fault["pointer"]: fault["code"] for fault in response.json()["errors"]} == faults
    assert "horse" not in response.text
    assert await services.accounts.authenticate("ada", PASSWORD)
    wrong: Audited = [("password_changed", "refused", "ada", "wrong_password", [])]
    assert await audited() == (wrong if "wrong_password" in faults.values() else [])


async def test_a_client_has_no_password_of_its_own_to_change(
    anonymous: httpx.AsyncClient, services: Services, become: Become
) -> None:
    become(await services.accounts.create("robot", PASSWORD, kind="client"), services.scopes)

    response = await anonymous.put(MY_PASSWORD, json={"current_password": PASSWORD, "new_password": OTHER_PASSWORD})

    assert response.status_code == 404


async def test_a_disabled_account_is_served_no_longer(
    client: httpx.AsyncClient, services: Services, become: Become
) -> None:
    administrator = client.headers["Authorization"]
    for number, end in enumerate(LOSSES.values()):
        account = await services.accounts.create(f"user-{number}", PASSWORD, ["users:read"])
        become(account, ["users:read"])
        assert (await client.get("/api/v1/users")).status_code == 200  # from here on it is remembered
        theirs, client.headers["Authorization"] = client.headers["Authorization"], administrator
        await end(client, address(account.id))
        client.headers["Authorization"] = theirs
        assert (await client.get("/api/v1/users")).status_code == (200 if end is LOSSES["demoted"] else 401)
        client.headers["Authorization"] = administrator


async def test_a_role_that_this_release_does_not_know_says_nothing_and_is_in_nobodys_way(
    client: httpx.AsyncClient, services: Services
) -> None:
    account, roles = await create(client), ["viewer", "owner"]
    await Account.get_pymongo_collection().update_one({"username": "ada"}, {"$set": {"roles": roles}})

    form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
    signed_in = await client.post("/api/v1/auth/token", data=form)
    headers = {"Authorization": f"Bearer {signed_in.json()['access_token']}"}
    me = (await client.get("/api/v1/auth/me", headers=headers)).json()
    assert me["roles"] == roles
    assert set(me["scopes"]) == {scope for scope in services.scopes if scope.endswith(":read")}
    assert [one.roles for one in await services.accounts.list() if one.username == "ada"] == [roles]
    assert (await client.get(ACCOUNTS_PATH, params={"roles": "owner"})).json()["items"][0]["username"] == "ada"

    changed = await client.patch(address(account), json={"scopes": ["items:write"]})
    assert (changed.status_code, changed.json()["roles"]) == (200, roles)
    assert (await client.patch(address(account), json=changed.json())).status_code == 200
    for named in (["owner"], ["viewer", "editor", "owner"]):
        refused = await client.patch(address(account), json={"roles": named})
        assert refused.status_code == 422
        assert [fault["pointer"] for fault in refused.json()["errors"]] == [f"/roles/{len(named) - 1}"]
    assert (await client.patch(address(account), json={"is_active": False})).json()["roles"] == roles
    assert (await client.post("/api/v1/auth/token", data=form)).status_code == 400
    assert (await client.patch(address(account), json={"roles": ["viewer"]})).json()["roles"] == ["viewer"]
    assert (await client.delete(address(account))).status_code == 204


async def test_no_password_and_no_secret_is_told_or_kept(
    client: httpx.AsyncClient, services: Services, become: Become
) -> None:
    canaries = [f"canary-{number}-{'x' * 8}" for number in range(6)]
    with capture_logs() as logged:
        answers = [
            await client.post(ACCOUNTS_PATH, json={"username": "ada", "password": canaries[0]}),
            await client.post(ACCOUNTS_PATH, json={"username": "ada", "password": canaries[1]}),
            await client.post(ACCOUNTS_PATH, json={"username": "a b", "password": canaries[2], "passwrd": canaries[2]}),
            await client.post(
                ACCOUNTS_PATH, content=f'{{"password": "{canaries[4]}"', headers={"Content-Type": "application/json"}
            ),
        ]
        robot = await client.post(ACCOUNTS_PATH, json={"username": "robot", "kind": "client"})
        secret = robot.json()["client_secret"]
        answers.append(await client.patch(address(CALLER_ID), json={"password": canaries[3]}))
        for current, new in ((canaries[5], canaries[4]), (canaries[0], canaries[1]), (canaries[1], "dossier7")):
            become(await services.accounts.get("ada"), [])
            answers.append(await client.put(MY_PASSWORD, json={"current_password": current, "new_password": new}))

    assert [answer.status_code for answer in answers] == [201, 409, 422, 422, 200, 422, 204, 422]
    stored = str(await Account.get_pymongo_collection().find({}).to_list())
    stored += str(await AuditEvent.get_pymongo_collection().find({}).to_list())
    for text in (*(answer.text for answer in answers), str(logged), stored):
        assert "canary" not in text
        assert secret not in text


async def test_a_change_and_its_audit_are_one_write_each(
    client: httpx.AsyncClient, recorder: CommandRecorder, services: Services
) -> None:
    account = await create(client)
    await services.accounts.create("second-admin", PASSWORD, roles=["admin"])
    writes = {"insert", "update", "findAndModify", "delete"}
    steps: list[tuple[Callable[[], Awaitable[httpx.Response]], list[str]]] = [
        (lambda: client.patch(address(account), json={"roles": ["viewer"]}), ["findAndModify", "insert"]),
        (lambda: client.patch(address(account), json={"roles": ["viewer"]}), []),
        (lambda: client.get(address(account)), []),
        (lambda: client.delete(address(account)), ["delete", "insert"]),
    ]
    for send, expected in steps:
        recorder.commands.clear()
        await send()
        assert [name for name in recorder.names if name in writes] == expected
